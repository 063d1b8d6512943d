package training

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Job is one training.
type Job struct {
	Config  Config
	Task    Task
	Project string   // folder that the trainer is started in
	Data    string   // local copy of the splits train and val
	Root    string   // folder of this training alone; the same one goes on from its checkpoints
	Goldens []Golden // as many as the bundle will carry
	Environ []string // the caller's environment; the trainer sees what Environment lets through

	// Manifest is bundle.yaml as far as it is known before the training.
	Manifest bundle.Manifest
}

// Console is where a training tells people how far it is.
type Console struct {
	Output   io.Writer   // the trainer's own lines
	Actions  bool        // Output is read by GitHub Actions
	Progress func(Event) // told each event; may be nil
	Warn     func(string)
	Now      func() time.Time
}

// Outcome is what a training left.
type Outcome struct {
	Bundle   string // folder of the verified bundle; empty where there is none
	Digest   string
	Log      string // file with all that the trainer said
	Steps    int64  // last step that the trainer reported
	Last     map[string]float64
	Warnings []string
}

// eventsEvery is how often the events file is looked at.
const eventsEvery = 200 * time.Millisecond

// lastFlush bounds the last hand-over of metrics after a cancel.
const lastFlush = 5 * time.Second

// Run starts the trainer, relays its events, metrics, output and signals, and
// makes a bundle of what it leaves. The outcome is usable also with an error:
// then it has the log.
func Run(ctx context.Context, j Job, tracker Tracker, c Console) (Outcome, error) {
	j.Config = j.Config.WithDefaults()
	at := folders{j.Root}
	if err := os.MkdirAll(j.Root, 0o755); err != nil {
		return Outcome{}, fmt.Errorf("training folder: %w", err)
	}
	unlock, err := lock(filepath.Join(j.Root, "lock"))
	if err != nil {
		return Outcome{}, err
	}
	defer unlock()
	if err := at.prepare(j); err != nil {
		return Outcome{}, err
	}
	out := Outcome{Log: at.log()}
	if err := supervise(ctx, j, at, tracker, c, &out); err != nil {
		return out, err
	}
	b, err := assemble(j, at)
	if err != nil {
		return out, verdict.Coded("trainer-output", fmt.Errorf("the trainer ended well, but what it left is no model: %w", err))
	}
	out.Bundle, out.Digest = b.Dir, b.Digest
	return out, nil
}

// supervise runs the trainer to its end, with everything around it.
func supervise(ctx context.Context, j Job, at folders, tracker Tracker, c Console, out *Outcome) (err error) {
	log, err := os.Create(at.log())
	if err != nil {
		return fmt.Errorf("the trainer's log: %w", err)
	}
	defer log.Close()
	if c.Actions {
		begin, end := muteCommands()
		fmt.Fprint(c.Output, begin)
		defer fmt.Fprint(c.Output, end)
	}
	lines := &relay{people: c.Output, log: log}
	limited, cancel := context.WithTimeoutCause(ctx, j.Config.Timeout, errTimeout)
	defer cancel()
	running, stop := context.WithCancelCause(limited)
	defer stop(nil)
	p, err := start(trainer(j, at, lines))
	if err != nil {
		return verdict.Coded("trainer-start", err)
	}
	metrics := &logger{tracker: tracker}
	ended := alongside(running, stop, j, at, metrics, c, out)
	exit := p.wait(running)
	readErr := ended()
	logErr := lines.Close()
	final, done := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer done()
	if err := metrics.flush(final); err != nil {
		out.Warnings = append(out.Warnings, fmt.Sprintf("the last metrics were not logged: %v", err))
	}
	if metrics.dropped > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%d metrics were not logged: the tracking server did not answer for too long", metrics.dropped))
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the training was cancelled after step %d; the trainer %s, its checkpoints stay in %s: %w",
			out.Steps, ending(exit), at.checkpoints(), context.Canceled)
	case errors.Is(context.Cause(running), errTimeout):
		return verdict.Coded("timeout", fmt.Errorf("%w of %s; the trainer %s after step %d", errTimeout, j.Config.Timeout, ending(exit), out.Steps))
	case readErr != nil:
		return verdict.Coded("trainer-events", readErr)
	case exit != nil:
		return verdict.Coded("trainer-failed", fmt.Errorf("the trainer %s; its last lines:\n%s", ending(exit), lines.tail()))
	}
	return logErr
}

func ending(exit error) string {
	if exit == nil {
		return "ended"
	}
	return exitText(exit)
}

// trainer is the command as the contract wants it.
func trainer(j Job, at folders, output io.Writer) *exec.Cmd {
	cmd := exec.Command(j.Config.Command[0], j.Config.Command[1:]...)
	cmd.Dir = j.Project
	cmd.Stdout, cmd.Stderr = output, output
	// A grandchild that keeps the pipe open must not keep penstock waiting.
	cmd.WaitDelay = terminateGrace
	cmd.Env = Environment(j.Environ, j.Config.Env, map[string]string{
		EnvDataset: at.dataset(), EnvOutput: at.output(), EnvCheckpoints: at.checkpoints(),
		EnvParams: at.params(), EnvEvents: at.events(), EnvSeed: strconv.FormatInt(j.Config.Seed, 10),
	})
	return cmd
}

// alongside starts what runs beside the trainer: events, metrics in batches,
// the machine's own metrics. The returned function ends it all, after the last
// event was read. An event that cannot be accepted stops the trainer.
func alongside(running context.Context, stop context.CancelCauseFunc, j Job, at folders, metrics *logger, c Console, out *Outcome) (end func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(running))
	var all sync.WaitGroup
	var readErr error
	all.Go(func() {
		readErr = tail(ctx, at.events(), eventsEvery, func(e Event) error {
			now := c.Now()
			for _, name := range e.Names() {
				metrics.add(Metric{name, e.Metrics[name], e.Step, now})
			}
			out.Steps, out.Last = e.Step, e.Metrics
			if c.Progress != nil {
				c.Progress(e)
			}
			return nil
		})
		if readErr != nil {
			stop(readErr)
		}
	})
	all.Go(func() {
		metrics.run(ctx, func(err error) { c.Warn(fmt.Sprintf("metrics wait for the tracking server: %v", err)) })
	})
	all.Go(func() { observe(ctx, metrics, c.Now) })
	return func() error {
		cancel()
		all.Wait()
		return readErr
	}
}

// Discard removes a job's folder, checkpoints included: its model is published
// and nothing goes on from it.
func Discard(j Job) error {
	if err := os.RemoveAll(j.Root); err != nil {
		return fmt.Errorf("remove the training folder: %w", err)
	}
	return nil
}
