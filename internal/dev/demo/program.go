package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// stopTerm is how long a program may take to end after SIGINT.
const stopTerm = 15 * time.Second

// programs starts the project's own programs as a user's terminal or a
// runner would: in the project's folder, with credentials in the environment.
type programs struct {
	bin string   // folder of penstock and penstock-serve
	dir string   // the project's folder
	env []string // whole environment
	log string   // folder of the commands' logs and results
}

// step is one command of a run.
type step struct {
	program string // penstock or penstock-serve
	name    string // of the step; the result is <name>.json
	args    []string
}

// run runs a step to its end and reads its result file. Only a result says
// what happened; a step that left none is broken, whatever its exit code.
func (p programs) run(ctx context.Context, runKey string, attempt int, s step) (verdict.Result, error) {
	result := p.result(runKey, attempt, s.name)
	if err := os.MkdirAll(filepath.Dir(result), 0o755); err != nil {
		return verdict.Result{}, err
	}
	args := append(append([]string{}, s.args...), "--result", result, "--run-key", runKey, "--attempt", fmt.Sprint(attempt), "--step", s.name)
	log, err := os.Create(filepath.Join(filepath.Dir(result), s.name+".log"))
	if err != nil {
		return verdict.Result{}, err
	}
	defer log.Close()
	var tail bytes.Buffer
	cmd := p.command(ctx, s.program, args, io.MultiWriter(log, &tail))
	runErr := cmd.Run()
	if ctx.Err() != nil {
		return verdict.Result{}, ctx.Err()
	}
	r, err := verdict.Load(result)
	if err != nil {
		return verdict.Result{}, fmt.Errorf("%s %s left no result (%v); its last words:\n%s", s.program, s.name, runErr, last(tail.String(), 15))
	}
	var exit *exec.ExitError
	if runErr != nil && !errors.As(runErr, &exit) {
		return r, runErr
	}
	if got := cmd.ProcessState.ExitCode(); got != r.ExitCode() {
		return r, fmt.Errorf("%s %s: exit code %d, but its result says %s", s.program, s.name, got, r.Verdict)
	}
	return r, nil
}

// result is where a step of a run leaves its result.
func (p programs) result(runKey string, attempt int, name string) string {
	return filepath.Join(p.log, fmt.Sprintf("%.12s-%d", runKey, attempt), name+".json")
}

func (p programs) command(ctx context.Context, program string, args []string, out io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, program), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTerm
	return cmd
}

// resident is a program that runs until it is told to stop.
type resident struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

// start starts a resident program. It dies with the demo, however the demo
// ends.
func (p programs) start(program, name string, args ...string) (*resident, error) {
	if err := os.MkdirAll(p.log, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(p.log, name+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	r := &resident{cmd: cmd, log: log, done: make(chan error, 1)}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the starting thread ends, so
		// that thread has to live as long as the program.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			r.done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return r, nil
}

// stop interrupts the program and waits for its end; a program that does not
// end in time is killed, and that is an error.
func (r *resident) stop() error {
	defer r.log.Close()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-r.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGINT {
				return nil // it was told to stop before it had begun to listen
			}
			return fmt.Errorf("%s: %w", r.log.Name(), err)
		}
		return err
	case <-time.After(stopTerm):
		return errors.Join(fmt.Errorf("%s did not end within %s of SIGINT", r.log.Name(), stopTerm), r.cmd.Process.Kill())
	}
}

// last gives the last n lines of text.
func last(text string, n int) string {
	lines := bytes.Split(bytes.TrimRight([]byte(text), "\n"), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
