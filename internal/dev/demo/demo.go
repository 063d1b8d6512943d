// Package demo drives the whole loop on one machine, with real servers, the
// way a user's terminal would: a batch lands, becomes a model in production,
// and sabotage of data and of models is stopped where it should be.
//
// Every expectation is checked against the servers themselves; one that is not
// met fails the demo. Nothing here is a fault switch: bad data is uploaded, bad
// models are ordinary ONNX graphs, and both go the way of everything else.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/dev/stack"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Options say what to play and where.
type Options struct {
	Root  string // the checkout
	Dir   string // everything the demo writes, .penstock/demo
	Bin   string // folder of the programs
	Data  string // folder of the real X-ray images; empty: synthetic ones
	Way   string // Terminal or Workflows: who drives the line; empty: Terminal
	Until string // name of the last step to play; empty: all
	Keep  bool   // leave the stack up
	Out   io.Writer
}

// demo is one showing.
type demo struct {
	Options
	now      func() time.Time
	began    time.Time
	stack    *stack.Stack
	project  project.Project
	bucket   *objectstore.Bucket
	programs programs
	driver   driver
	live     *traffic
	registry *registry.Registry
	champion subject // after the step before
	second   outcome // of the second batch
	report   Report

	onnxruntime string // the runtime's library
}

// Run plays the demo. It answers an error naming the first expectation that
// was not met; what happened until then stands in demo.json all the same.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, now: time.Now, began: time.Now()}
	if d.onnxruntime, err = process.Cached("lib/libonnxruntime.so"); err != nil {
		return err
	}
	if err := d.clean(); err != nil {
		return err
	}
	if d.driver, err = d.choose(); err != nil {
		return err
	}
	steps, err := d.steps()
	if err != nil {
		return err
	}
	err = errors.New("the demo did not come to its end")
	defer func() { err = errors.Join(err, d.end(err)) }()
	for i, s := range steps {
		d.say("[%s] step %d of %d: %s", d.clock(), i+1, len(steps), s.name)
		if err := s.play(ctx); err != nil {
			return fmt.Errorf("demo: step %q: %w", s.name, err)
		}
	}
	return nil
}

// scene is a step of the demo.
type scene struct {
	name string
	play func(context.Context) error
}

// steps are what is played: all, those for real images, or until a name.
func (d *demo) steps() ([]scene, error) {
	all := []scene{
		{"up", d.up},
		{"first batch", d.firstBatch},
		{"second batch", d.secondBatch},
		{"rollback and forward", d.backAndForward},
		{"shuffled labels", d.shuffledLabels},
		{"slow model", d.slowModel},
		{"failing model", d.failingModel},
	}
	if d.Data != "" {
		all = all[:5]
	}
	if d.Way == Workflows {
		all = slices.Insert(all, 3, scene{"pull request", d.pullRequest})
	}
	if d.Until == "" {
		return all, nil
	}
	for i, s := range all {
		if s.name == d.Until {
			return all[:i+1], nil
		}
	}
	return nil, fmt.Errorf("no step %q to play until", d.Until)
}

// clean ends what an earlier showing left up and empties its folder.
func (d *demo) clean() error {
	for _, dir := range []*string{&d.Root, &d.Dir, &d.Bin, &d.Data} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	if err := d.down(); err != nil {
		return err
	}
	if err := os.RemoveAll(d.Dir); err != nil {
		return err
	}
	return os.MkdirAll(d.Dir, 0o755)
}

// up starts the stack, the project and the watcher.
func (d *demo) up(ctx context.Context) error {
	started := d.now()
	s, err := stack.Up(ctx, stack.Options{
		Dir: filepath.Join(d.Dir, "stack"), Programs: d.Bin, Bucket: "xray", Model: "xray",
		SLO: 500 * time.Millisecond, OnnxRuntime: d.onnxruntime, Logf: d.logf,
	})
	if err != nil {
		return err
	}
	d.stack = s
	if err := d.makeProject(ctx); err != nil {
		return err
	}
	if err := d.driver.begin(ctx); err != nil {
		return err
	}
	r, err := d.programs.run(ctx, "doctor", 1, step{"penstock", "doctor", []string{"doctor"}})
	if err != nil {
		return err
	}
	if err := expect(r.Verdict == verdict.Pass, "penstock doctor to find nothing missing, it says %s", r.Reason.Text); err != nil {
		return err
	}
	d.note(Step{Name: "up", Verdict: "pass", Reason: "all servers answer", Seconds: d.now().Sub(started).Seconds()})
	return nil
}

// end stops the watcher and the stack and leaves the summary, also after a
// failure.
func (d *demo) end(failure error) error {
	var errs []error
	errs = append(errs, d.driver.end(), d.stopTraffic())
	errs = append(errs, d.summarise(errors.Join(append(errs, failure)...)))
	if d.Keep && d.stack != nil {
		d.say("The stack is up (%s). End it with: bin/penstock-dev down --dir %s", d.stack.Endpoints.Production, filepath.Join(d.Dir, "stack"))
		if d.Way == Workflows {
			d.say("Its runs, comments and logs: bin/penstock-dev hub --dir %s", filepath.Join(d.Dir, "hub"))
		}
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, d.down())...)
}

// down ends the stack, of this showing or of an earlier one.
func (d *demo) down() error {
	// Also after an interrupt: what was started is ended.
	_, err := stack.Down(context.Background(), filepath.Join(d.Dir, "stack"), d.logf)
	return err
}

func (d *demo) logf(format string, args ...any) { d.say("    "+format, args...) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

// clock is the time since the demo began, as mm:ss.
func (d *demo) clock() string {
	s := int(d.now().Sub(d.began).Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

// python is the trainer's interpreter; the one with the ONNX tools lies in the
// cache.
const python = "/usr/bin/python3"

func oracle() (string, error) { return process.Cached("mlflow/bin/python") }
