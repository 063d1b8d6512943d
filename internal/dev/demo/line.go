package demo

import (
	"context"
	"fmt"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// The line as a terminal drives it. Each step reads the results of the steps
// before it; the first step that does not pass ends the run.

// lineOf is the whole line for a batch.
func (d *demo) lineOf(batch string) []step {
	from := d.fromResults(batch, 1)
	return append([]step{
		{"penstock", "dataset", []string{"dataset", "--batch", batch}},
		{"penstock", "train", append([]string{"train"}, from("dataset")...)},
		{"penstock-serve", "predict", append([]string{"predict", "--split", "test"}, from("dataset", "train")...)},
		{"penstock", "evaluate", append([]string{"evaluate"}, from("dataset", "train", "predict")...)},
	}, d.release(batch)...)
}

// lineOfBundle enters at predict with a bundle that no trainer made here. It
// skips no stage after that.
func (d *demo) lineOfBundle(runKey, model string, champion subject) []step {
	from := d.fromResults(runKey, 1)
	pair := []string{"--champion", champion.model, "--champion-dataset", champion.dataset}
	return append([]step{
		{"penstock-serve", "predict", []string{"predict", "--split", "test", "--model", model, "--model", champion.model, "--dataset", champion.dataset}},
		{"penstock", "evaluate", append(append([]string{"evaluate", "--model", model, "--dataset", champion.dataset}, pair...), from("predict")...)},
	}, d.release(runKey)...)
}

// release is the second half of the line, from the gate to production.
func (d *demo) release(runKey string) []step {
	from := d.fromResults(runKey, 1)
	return []step{
		{"penstock", "gate-offline", append([]string{"gate", "--stage", "offline"}, from("evaluate")...)},
		{"penstock", "register", append([]string{"register"}, from("gate-offline")...)},
		{"penstock", "deploy", append([]string{"deploy", "--environment", "staging"}, from("register")...)},
		{"penstock", "loadtest", append([]string{"loadtest", "--environment", "staging"}, from("register")...)},
		{"penstock", "gate-release", append([]string{"gate", "--stage", "release"}, from("gate-offline", "loadtest")...)},
		{"penstock", "rollout", append([]string{"rollout"}, from("gate-release")...)},
	}
}

func (d *demo) fromResults(runKey string, attempt int) func(...string) []string {
	return func(names ...string) []string {
		var args []string
		for _, name := range names {
			args = append(args, "--from", d.programs.result(runKey, attempt, name))
		}
		return args
	}
}

// outcome is how a run ended: the last step and its result, and what the
// steps said on the way.
type outcome struct {
	runKey   string
	step     string
	result   verdict.Result
	results  map[string]verdict.Result
	commands []Command
}

func (o outcome) passed() bool { return o.result.Verdict == verdict.Pass }

// drive runs steps in order until one does not pass.
func (d *demo) drive(ctx context.Context, runKey string, attempt int, steps []step) (outcome, error) {
	o := outcome{runKey: runKey, results: map[string]verdict.Result{}}
	for _, s := range steps {
		started := d.now()
		r, err := d.programs.run(ctx, runKey, attempt, s)
		if err != nil {
			return o, err
		}
		o.step, o.result, o.results[s.name] = s.name, r, r
		seconds := d.now().Sub(started).Seconds()
		o.commands = append(o.commands, commandOf(s.name, r, seconds))
		d.say("    %-13s %-12s %5.1f s  %s", s.name, r.Verdict, seconds, r.Reason.Text)
		if r.Verdict == verdict.Error {
			return o, fmt.Errorf("%s broke: %s (log: %s)", s.name, r.Reason.Text, d.programs.result(runKey, attempt, s.name))
		}
		if r.Verdict != verdict.Pass {
			break
		}
	}
	return o, nil
}
