// Package training runs a trainer, any program in any framework, under the
// contract between it and Penstock, and makes a model bundle of what it leaves.
//
// The trainer is started in the project's folder, in a process group of its
// own, with an environment that is a list of what may pass. It reads
//
//	$PENSTOCK_DATASET/task.json          task, labels in order, input, names of the goldens (Task)
//	$PENSTOCK_DATASET/manifest.jsonl     the rows of the splits train and val
//	$PENSTOCK_DATASET/images/<sha256>.png  preprocessed; only normalisation is left to do
//	$PENSTOCK_DATASET/golden/N.input.npy uint8 [height, width, channels]
//	$PENSTOCK_PARAMS                     train.params of penstock.yaml, as JSON
//	$PENSTOCK_SEED                       an integer
//
// and writes
//
//	$PENSTOCK_EVENTS                     JSON lines (Event), for progress and metrics
//	$PENSTOCK_CHECKPOINTS/               whatever it needs to go on after a kill
//	$PENSTOCK_OUTPUT/model.onnx          with model.onnx.* beside it for large tensors
//	$PENSTOCK_OUTPUT/golden/N.output.npy float32 [labels], its own scores, before export
//	$PENSTOCK_OUTPUT/thresholds.json     {label: number}
//	$PENSTOCK_OUTPUT/frameworks.json     {framework: version}, optional
//
// On SIGINT it saves a checkpoint and leaves within 7 seconds.
//
// Refused: a trainer that reports a number that is not finite, that leaves no
// model behind, or that is a zero exit without its files; credentials in a
// trainer's environment; a trainer that outlives its penstock.
package training
