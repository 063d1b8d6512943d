package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Programs that are compared with, by the folder below tests/bench/peers.
var programs = []string{"node", "fastapi"}

// setting is a way to run a peer. Processes x threads stay within the CPUs, as
// this server's do.
type setting struct {
	program string
	flags   []string
}

var settings = settingsFor(runtime.NumCPU())

// settingsFor sweeps what matters on so many CPUs.
func settingsFor(cpus int) []setting {
	n, one := strconv.Itoa(cpus), "1"
	return []setting{
		{"node", []string{"--workers", n, "--threads", one}},
		{"node", []string{"--workers", one, "--threads", n}},
		{"fastapi", []string{"--workers", n, "--threads", one, "--inline", "1"}},
		{"fastapi", []string{"--workers", n, "--threads", one, "--inline", "0"}},
		{"fastapi", []string{"--workers", one, "--threads", one, "--inline", "0"}},
		{"fastapi", []string{"--workers", one, "--threads", n, "--inline", "0"}},
	}
}

func (s setting) text() string { return s.program + " " + strings.Join(s.flags, " ") }

// peer is one that runs.
type peer struct {
	setting setting
	name    string // in the results
	url     string
	cmd     *exec.Cmd
	exited  chan struct{}
	log     string
}

// start installs and starts a peer for a bundle, and waits until it answers.
func (b *serveBench) start(ctx context.Context, s setting, dir string) (*peer, error) {
	spec, err := b.peerSpec(dir)
	if err != nil {
		return nil, err
	}
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	flags := append([]string{"--model", spec, "--port", strconv.Itoa(port)}, s.flags...)
	var cmd *exec.Cmd
	switch s.program {
	case "node":
		home, err := b.installNode(ctx)
		if err != nil {
			return nil, err
		}
		cmd = exec.Command("node", append([]string{filepath.Join(home, "server.js")}, flags...)...)
	case "fastapi":
		python, err := process.Cached("mlflow/bin/python")
		if err != nil {
			return nil, err
		}
		cmd = exec.Command(python, append([]string{"tests/bench/peers/fastapi/server.py"}, flags...)...)
	default:
		return nil, fmt.Errorf("no peer is called %s", s.program)
	}
	cmd.Env = append(os.Environ(), "NODE_ENV=production", "OMP_NUM_THREADS=1", "UV_THREADPOOL_SIZE=4", "PYTHONDONTWRITEBYTECODE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ended with all its workers
	p := &peer{
		setting: s, name: s.program + strconv.Itoa(port), url: "http://127.0.0.1:" + strconv.Itoa(port), cmd: cmd,
		exited: make(chan struct{}), log: filepath.Join(b.work, fmt.Sprint("peer-", port, ".log")),
	}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait(); close(p.exited) }() // how it ended is in its log
	if err := p.await(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// await asks until the peer answers.
func (p *peer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/ready", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended at its start:\n%s", p.setting.text(), process.Tail(p.log, 20))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n%s", p.setting.text(), err, process.Tail(p.log, 20))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the peer and its workers, by their process group. It may be called
// again.
func (p *peer) stop() error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-p.cmd.Process.Pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end %s: %w", p.setting.text(), err)
		}
		select {
		case <-p.exited:
			return nil
		case <-time.After(5 * time.Second):
		}
	}
	return fmt.Errorf("%s does not end", p.setting.text())
}

// peerSpec writes what a peer has to know of the bundle.
func (b *serveBench) peerSpec(dir string) (string, error) {
	model, err := bundle.Read(dir)
	if err != nil {
		return "", err
	}
	m := model.Manifest
	data, err := json.Marshal(map[string]any{
		"name": m.Name, "model": model.Path(bundle.ModelFile), "input": m.Input.Name, "scores": m.Outputs.Scores,
		"width": m.Input.Width, "height": m.Input.Height, "channels": m.Input.Channels,
		"scale": m.Input.Scale, "mean": m.Input.Mean, "std": m.Input.Std, "labels": m.Labels,
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.work, "peer-"+model.Digest+".json")
	return path, os.WriteFile(path, data, 0o600)
}

// installNode puts the Node peer and its packages into the cache, once for
// each package-lock.json.
func (b *serveBench) installNode(ctx context.Context) (string, error) {
	const source = "tests/bench/peers/node"
	home, err := b.cached("node", source+"/package-lock.json", source+"/package.json")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"package.json", "package-lock.json", "server.js"} {
		if err := copyFile(filepath.Join(source, name), filepath.Join(home, name)); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(home, "complete")); err == nil {
		return home, nil
	}
	// Without scripts: onnxruntime-node's own would fetch libraries for CUDA.
	if err := command(ctx, home, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
		return "", err
	}
	return home, os.WriteFile(filepath.Join(home, "complete"), nil, 0o600)
}

// best is the setting of each program with the greatest throughput.
func (b *serveBench) best(model string, peers []*peer, found []verdict.Check) map[string]*peer {
	rates := map[string]float64{}
	for _, c := range found {
		if name, ok := strings.CutSuffix(c.Name, "-jpeg/8/throughput"); ok {
			rates[name] = *c.Observed
		}
	}
	best := map[string]*peer{}
	for _, p := range peers {
		if other := best[p.setting.program]; other == nil || rates[p.name] > rates[other.name] {
			best[p.setting.program] = p
		}
	}
	for _, p := range peers {
		chosen := ""
		if best[p.setting.program] == p {
			chosen = ", the one compared with"
		}
		b.notes = append(b.notes, fmt.Sprintf("%s: `%s` answers %.0f JPEGs a second at 8 callers%s", model, p.setting.text(), rates[p.name], chosen))
	}
	return best
}
