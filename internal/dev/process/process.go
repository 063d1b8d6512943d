// Package process starts other people's programs on this machine, waits until
// they are healthy and ends them again. It owns what is easily got wrong: a
// process group of its own for each program, a log file whose last lines stand
// in the error, an environment that leaks nothing, and an identity that tells a
// process of ours from a stranger who was given the same pid later.
//
// Linux only: identity comes from /proc.
package process

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Spec describes one program to start.
type Spec struct {
	Name string   // as people call it, for errors: "MinIO"
	Path string   // the program's file
	Args []string // without the program's name
	Env  []string // "KEY=value", added to the few names that pass through
	Dir  string   // working folder; "" is this process's
	Log  string   // file that takes stdout and stderr, appended to

	// DieWithParent asks the kernel to end the program (SIGTERM) when the
	// starting process is gone, however it went. For tests; a stack outlives
	// the command that started it.
	DieWithParent bool
}

// Process is a running program and its process group.
type Process struct {
	Name string
	ID   Identity
	Log  string

	done chan struct{} // closed when the program has ended and was reaped
	err  error         // how it ended; read after done
}

// passed names the variables that programs inherit. Credentials and proxies of
// the person at the keyboard are not among them.
var passed = []string{"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER"}

// Start starts the program in a process group of its own.
func Start(s Spec) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(s.Log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: folder of the log: %w", s.Name, err)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.Env = append(inherited(), s.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.DieWithParent {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		id = Identity{PID: cmd.Process.Pid} // it ended at once; who waits for it learns how
	}
	p := &Process{Name: s.Name, ID: id, Log: s.Log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func inherited() []string {
	var env []string
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// WaitHealthy returns nil as soon as a GET of url is answered with a 2xx. It
// fails when the program ends or ctx does, with the last lines of the log.
func (p *Process) WaitHealthy(ctx context.Context, url string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error // what the server itself said, not that time was up
	for {
		err := Healthy(ctx, url)
		if err != nil && (last == nil || ctx.Err() == nil) {
			last = err
		}
		select {
		case <-p.done: // asked first: another server may answer on its port
			return p.death()
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.death()
		case <-ctx.Done():
			return fmt.Errorf("%s is not healthy at %s: %w (%w)%s", p.Name, url, last, ctx.Err(), quote(p.Log))
		case <-tick.C:
		}
	}
}

func (p *Process) death() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended by itself (%s)%s", p.Name, how, quote(p.Log))
}

// Stop ends the process group: SIGTERM, and SIGKILL for what is left after
// grace. It returns when the program is gone.
func (p *Process) Stop(grace time.Duration) {
	_ = syscall.Kill(-p.ID.PID, syscall.SIGTERM) // ESRCH: gone already
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	_ = syscall.Kill(-p.ID.PID, syscall.SIGKILL)
	<-p.done
}

// probe never follows a proxy of the environment: all servers are on loopback.
var probe = &http.Client{
	Timeout:   2 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true},
}

// Healthy asks url once: nil on a 2xx.
func Healthy(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := probe.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // only decorates the error
		return fmt.Errorf("GET %s: %s %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
