package actrun

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// watch ends what has to be ended while act runs: a job whose time is up, or
// the whole run.
type watch struct {
	run     *run
	act     process.Identity
	family  family
	started chan *open
	ended   chan struct{} // a step has ended; one note is enough
	ran     chan struct{} // closed when act's log has ended
	left    chan struct{} // closed when nobody listens any more
}

func newWatch(r *run, pid int) *watch {
	id, err := process.Identify(pid)
	if err != nil {
		id = process.Identity{PID: pid} // it has ended already
	}
	w := &watch{
		run: r, act: id, family: family{mark: markName + "=" + r.mark, dir: r.dir, act: pid, shells: r.shells},
		started: make(chan *open, 1), ended: make(chan struct{}, 1), ran: make(chan struct{}),
		left: make(chan struct{}),
	}
	r.book.other = func(string) {}
	r.book.started = func(j *open) {
		select {
		case w.started <- j:
		case <-w.left:
		}
	}
	r.book.ended = func() {
		select {
		case w.ended <- struct{}{}:
		default:
		}
	}
	return w
}

// defaultTimeout is GitHub's for a job that states none.
const defaultTimeout = 360 * time.Minute

func timeout(p JobPlan) time.Duration {
	if p.TimeoutMinutes > 0 {
		return time.Duration(p.TimeoutMinutes * float64(time.Minute))
	}
	return defaultTimeout
}

// watch watches until the function that it returns is called, after act has
// ended. That one tells whether the run was cancelled.
func (w *watch) watch(ctx context.Context) func() (bool, error) {
	var cancelled bool
	var err error
	var wait sync.WaitGroup
	wait.Go(func() { cancelled, err = w.loop(ctx) })
	return func() (bool, error) {
		close(w.ran)
		wait.Wait()
		return cancelled, err
	}
}

// afterTimeout is how long steps under always() have after a job's time is up.
const afterTimeout = 5 * time.Minute

func (w *watch) loop(ctx context.Context) (bool, error) {
	defer close(w.left)
	var all error
	var job *open // the one that runs: act runs one after another
	alarm := time.NewTimer(defaultTimeout)
	defer alarm.Stop()
	for {
		select {
		case <-w.ran:
			return false, all
		case job = <-w.started:
			alarm.Reset(timeout(job.node.plan))
		case <-alarm.C:
			if job == nil || len(w.started) > 0 {
				continue // the next job has begun meanwhile
			}
			job.expired.Store(true)
			all = errors.Join(all, w.family.end())
			alarm.Reset(afterTimeout)
		case <-ctx.Done():
			w.run.book.cancelling.Store(true)
			return true, errors.Join(all, w.cancel())
		}
	}
}

// cancel ends the run: the step's entry process as GitHub does, then act
// before it starts the next step, then what is left.
func (w *watch) cancel() error {
	select {
	case <-w.ended: // an old note
	default:
	}
	entries, err := w.family.entries()
	if err == nil && len(entries) > 0 {
		err = w.family.end()
		patience := time.NewTimer(afterTerminate)
		defer patience.Stop()
		select {
		case <-w.ended: // its last lines were read
		case <-w.ran:
		case <-patience.C:
		}
	}
	return errors.Join(err, w.act.Signal(syscall.SIGKILL), w.family.kill())
}
