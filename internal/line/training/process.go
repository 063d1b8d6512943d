package training

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// The ladder of signals to the trainer's process group. A runner that cancels
// a job sends SIGINT, SIGTERM after 7.5 s and SIGKILL after 2.5 s more: the
// trainer gets the same steps a little earlier, so that there is time left to
// say what happened.
const (
	interruptGrace = 7 * time.Second
	terminateGrace = 2500 * time.Millisecond
)

// errTimeout is the cause where a trainer is stopped for its time.
var errTimeout = errors.New("the trainer ran into train.timeout")

// process is a started trainer.
type process struct {
	pid  int
	done chan struct{} // closed when it ended
	err  error         // how; read after done
}

// start starts a command in a process group of its own. The goroutine that
// starts it stays on its thread until it ended: the kernel ends the trainer
// when that thread dies, and with it penstock, whatever killed it.
func start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = ownGroup()
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		if errors.Is(p.err, exec.ErrWaitDelay) {
			p.err = nil // it ended well; something it left behind held its output open
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the trainer: %w (train.command in penstock.yaml)", err)
	}
	return p, nil
}

// wait waits for the end. When ctx ends before, it walks down the ladder.
// Nothing of the group is left when it returns.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.stop()
	}
	// Whatever the trainer started and left behind ends with it.
	if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the trainer's process group %d: %w", p.pid, err)
	}
	return p.err
}

func (p *process) stop() {
	for _, step := range []struct {
		signal syscall.Signal
		grace  time.Duration
	}{{syscall.SIGINT, interruptGrace}, {syscall.SIGTERM, terminateGrace}} {
		if p.signal(step.signal) != nil {
			break // it is gone
		}
		t := time.NewTimer(step.grace)
		select {
		case <-p.done:
			t.Stop()
			return
		case <-t.C:
		}
	}
	_ = p.signal(syscall.SIGKILL) // gone, or dead now
	<-p.done
}

// signal reaches every process of the group.
func (p *process) signal(s syscall.Signal) error { return syscall.Kill(-p.pid, s) }

// exitText says how a trainer ended.
func exitText(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err.Error()
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		text := fmt.Sprintf("was killed by %s", status.Signal())
		if status.Signal() == syscall.SIGKILL {
			text += " (out of memory?)"
		}
		return text
	}
	return fmt.Sprintf("ended with exit code %d", exit.ExitCode())
}

// lock takes a folder for this process alone; it ends with the process.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another penstock train works in %s: wait for it, or end it", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f.Close, nil
}
