#!/usr/bin/env python3
"""Make a smaller or faster variant of a model for penstock-serve optimize.

    quantize.py --kind int8|fp16 --bundle DIR --calibration FILE.npy --out FILE.onnx

int8: static quantisation in QDQ form by onnxruntime.quantization, weights by
channel, activations calibrated on the given pictures. Dynamic quantisation is
no choice for convolutional networks: it converts at every run what it cannot
multiply faster.
fp16: weights and arithmetic in half precision by onnxruntime.transformers, inputs
and outputs stay float32. It is meant for GPUs; CPUs mostly convert back.

--calibration holds uint8 pixels [n, height, width, channels] of training
pictures, preprocessed by Penstock; what is left to do is bundle.yaml's x * scale,
minus mean, over std. Whether the variant is any good is not judged here.

Needs: onnxruntime, onnx, NumPy, PyYAML.
"""
import argparse
import os
import sys
import tempfile

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is loaded

import numpy as np
import onnx
import yaml
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

# What convolutional networks spend their time on, and what stands between, so
# that it need not be converted back and forth. Scores are left in float32.
QUANTISED = ["Conv", "Add", "Relu", "MaxPool"]
BATCH = 8


class Pictures(CalibrationDataReader):
    """Normalised batches of the calibration pictures."""

    def __init__(self, manifest, pixels):
        self.name, want = manifest["input"]["name"], manifest["input"]
        shape = (1, want["channels"], 1, 1)
        mean, std = (np.array(want[key], np.float32).reshape(shape) for key in ("mean", "std"))
        planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
        self.data = (planes * np.float32(want["scale"]) - mean) / std
        self.rewind()

    def rewind(self):
        self.at = 0

    def get_next(self):
        if self.at >= len(self.data):
            return None
        batch = self.data[self.at:self.at + BATCH]
        self.at += BATCH
        return {self.name: batch}


def int8(model, manifest, pixels, out):
    with tempfile.TemporaryDirectory() as folder:
        prepared = os.path.join(folder, "prepared.onnx")
        quant_pre_process(model, prepared, skip_symbolic_shape=True)  # folds batch normalisation into convolutions
        quantize_static(
            prepared, out, Pictures(manifest, pixels), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=QUANTISED,
            calibrate_method=CalibrationMethod.MinMax)


def fp16(model, manifest, pixels, out):
    onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kind", required=True, choices=["int8", "fp16"])
    p.add_argument("--bundle", required=True)
    p.add_argument("--calibration", required=True)
    p.add_argument("--out", required=True)
    args = p.parse_args()
    with open(os.path.join(args.bundle, "bundle.yaml")) as f:
        manifest = yaml.safe_load(f)
    pixels = np.load(args.calibration, allow_pickle=False)
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or not len(pixels):
        sys.exit(f"quantize.py: {args.calibration} holds {pixels.dtype} {pixels.shape}, want uint8 [n, height, width, channels]")
    {"int8": int8, "fp16": fp16}[args.kind](os.path.join(args.bundle, "model.onnx"), manifest, pixels, args.out)


if __name__ == "__main__":
    main()
