package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// serveOptions are the flags of `bench serve`, which compares the inference
// server with bare runs and with its peers:
//
//	go run ./tests/bench serve --out .penstock/bench/serve.json --docs docs/serving.md
type serveOptions struct {
	out, docs string
	duration  time.Duration
	sweep     time.Duration
	price     float64
	models    string
	swaps     int
}

// serveBench is one run of it.
type serveBench struct {
	serveOptions
	cache  string // PENSTOCK_CACHE
	work   string // temporary
	server string // penstock-serve, with libjpeg-turbo
	rows   []Row
	notes  []string // settings that were chosen, for the documentation
}

func serve(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench serve", flag.ContinueOnError)
	b := &serveBench{}
	flags.StringVar(&b.out, "out", "", "JSON file to write")
	flags.StringVar(&b.docs, "docs", "", "Markdown file whose table between the markers is renewed; none: it is left alone")
	flags.DurationVar(&b.duration, "duration", 6*time.Second, "that each way to ask is driven at each number of callers")
	flags.DurationVar(&b.sweep, "sweep", 4*time.Second, "that each setting of a peer is driven to find its best one")
	flags.Float64Var(&b.price, "hourly-price", 0.50, "of this machine")
	flags.StringVar(&b.models, "models", "xray,xray-1024,resnet18", "which of them")
	flags.IntVar(&b.swaps, "swaps", 200, "model swaps under load; 0 leaves them out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.out == "" {
		return errors.New("wanted: --out FILE")
	}
	if b.cache, err = process.Cache(); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp("", "penstock-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	b.server = filepath.Join(b.work, "penstock-serve")
	if err := command(ctx, "", "go", "build", "-tags", "turbojpeg", "-o", b.server, "./cmd/penstock-serve"); err != nil {
		return fmt.Errorf("build penstock-serve with libjpeg-turbo (run make setup): %w", err)
	}
	for model := range strings.SplitSeq(b.models, ",") {
		if err := b.model(ctx, model); err != nil {
			return fmt.Errorf("%s: %w", model, err)
		}
	}
	if b.swaps > 0 {
		if err := b.swap(ctx); err != nil {
			return fmt.Errorf("swaps: %w", err)
		}
	}
	return b.leave(out)
}

// leave prints and writes what was found. A bound that does not hold is an
// error, in the end.
func (b *serveBench) leave(out io.Writer) error {
	report := Report{Stage: "serve", Machine: thisMachine(), When: time.Now().UTC(), Rows: b.rows}
	if err := table(out, report); err != nil {
		return err
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := verdict.WriteFile(b.out, append(data, '\n')); err != nil {
		return err
	}
	if b.docs != "" {
		if err := document(b.docs, report, b.notes); err != nil {
			return err
		}
	}
	return broken(b.rows)
}

// model measures one model with everything beside it.
func (b *serveBench) model(ctx context.Context, name string) (err error) {
	work, known := workloads[name]
	if !known {
		return fmt.Errorf("no model is called %s", name)
	}
	dir, err := b.bundle(ctx, work.bundle)
	if err != nil {
		return err
	}
	var peers []*peer
	defer func() {
		for _, p := range peers {
			err = errors.Join(err, p.stop())
		}
	}()
	// All settings of all peers answer in one run, and the best of each goes on.
	for _, s := range settings {
		p, err := b.start(ctx, s, dir)
		if err != nil {
			return err
		}
		peers = append(peers, p)
	}
	found, err := b.bench(ctx, dir, b.sweep, peers, append(slices.Clone(work.flags), "--route", "jpeg", "--callers", "8", "--goodput", "0")...)
	if err != nil {
		return err
	}
	best := b.best(name, peers, found)
	for _, p := range peers {
		if best[p.setting.program] != p {
			if err := p.stop(); err != nil {
				return err
			}
		}
	}
	chosen := make([]*peer, 0, len(best))
	for _, program := range programs {
		best[program].name = program
		chosen = append(chosen, best[program])
	}
	found, err = b.bench(ctx, dir, b.duration, chosen, append(slices.Clone(work.flags), "--also", "turbo=--decoder=turbo")...)
	if err != nil {
		return err
	}
	return b.keep(name, found)
}

// bench runs penstock-serve bench and gives its figures.
func (b *serveBench) bench(ctx context.Context, dir string, duration time.Duration, peers []*peer, more ...string) ([]verdict.Check, error) {
	file := filepath.Join(b.work, "result.json")
	args := []string{"bench", "--bundle", dir, "--duration", duration.String(), "--hourly-price", fmt.Sprint(b.price), "--result", file}
	for _, p := range peers {
		args = append(args, "--peer", p.name+"="+p.url)
	}
	if err := command(ctx, "", b.server, append(args, more...)...); err != nil {
		return nil, err
	}
	r, err := verdict.Load(file)
	if err != nil {
		return nil, err
	}
	return r.Checks, nil
}

// swap runs the test that swaps models under load.
func (b *serveBench) swap(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout", "20m", "-run", "^"+swapTest+"$", "-v", swapPackage, "-args", "-swaps", strconv.Itoa(b.swaps))
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	rows, err := swapRows(string(text))
	b.rows = append(b.rows, rows...)
	return err
}

// command runs a program with its output on stderr.
func command(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(program), strings.Join(args, " "), err)
	}
	return nil
}
