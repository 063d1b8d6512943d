package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/outside/mlflow"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// makeProject lays out the project as its users have it: a repository of its
// own with penstock.yaml, whose environments are this stack's, and the trainer.
func (d *demo) makeProject(ctx context.Context) error {
	dir := filepath.Join(d.Dir, "project")
	d.programs = programs{
		bin: d.Bin, dir: dir, log: filepath.Join(d.Dir, "runs"),
		env: append(append(os.Environ(), d.stack.Env()...), "PENSTOCK_CACHE="+filepath.Join(d.Dir, "cache"), "PENSTOCK_ONNXRUNTIME="+d.onnxruntime),
	}
	if err := d.layFiles(ctx, dir); err != nil {
		return err
	}
	source := filepath.Join(d.example(), "penstock.yaml")
	if d.Data != "" {
		source = filepath.Join(d.example(), "nih64.yaml")
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if data, err = withEnvironments(data, d.stackEnvironments()); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	config := filepath.Join(dir, "penstock.yaml")
	if err := verdict.WriteFile(config, data); err != nil {
		return err
	}
	if d.project, err = project.Read(config); err != nil {
		return err
	}
	for _, args := range [][]string{{"add", "--all"}, commit("project: the X-ray example")} {
		if _, err := d.git(ctx, args...); err != nil {
			return err
		}
	}
	d.report.Repository = dir
	d.report.Endpoints = d.endpoints()
	return d.open()
}

// layFiles makes the project's files: the example's, or what penstock init lays
// into an empty repository.
func (d *demo) layFiles(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// First of all: it may lie inside of another repository, this one.
	if _, err := d.git(ctx, "init", "--quiet", "--initial-branch", branch); err != nil {
		return err
	}
	if d.Way != Workflows {
		return os.CopyFS(dir, os.DirFS(d.example()))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var said bytes.Buffer
	cmd := d.programs.command(ctx, "penstock", []string{"init", "--name", repository, "--branch", branch, "--ref", "main", "--labels", "Mass:urgent,Nodule"}, &said)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("penstock init: %w:\n%s", err, last(said.String(), 15))
	}
	return nil
}

func (d *demo) example() string { return filepath.Join(d.Root, "examples", "xray") }

// open opens bucket and registry, with which the demo looks at what the
// commands did.
func (d *demo) open() (err error) {
	credentials := d.stack.Credentials
	d.bucket, err = objectstore.Open(objectstore.Credentials{
		Endpoint: d.stack.Endpoints.S3, Region: "us-east-1",
		AccessKey: credentials.AccessKey, SecretKey: credentials.SecretKey,
	}, d.project.Data.Bucket)
	if err != nil {
		return err
	}
	tracking, err := mlflow.Open(mlflow.Credentials{URI: d.stack.Endpoints.MLflow})
	if err != nil {
		return err
	}
	models := tracking.Registry()
	d.registry = &registry.Registry{Model: d.project.Name, Versions: models, Aliases: models, Store: d.bucket, Now: d.now}
	return nil
}

// commit is git's command line for a commit of all that is tracked.
func commit(message string) []string {
	return []string{"-c", "user.name=Penstock demo", "-c", "user.email=demo@penstock.invalid", "commit", "--quiet", "--all", "--message", message}
}

// git runs git in the project's repository and gives what it printed.
func (d *demo) git(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", filepath.Join(d.Dir, "project")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(bytes.TrimSpace(out)), nil
}

// endpoints are the addresses where people look, for the summary.
func (d *demo) endpoints() map[string]string {
	e := d.stack.Endpoints
	all := map[string]string{
		"s3": e.S3, "s3-console": e.S3Console, "mlflow": e.MLflow, "prometheus": e.Prometheus,
		"production": e.Production, "haproxy": e.ProxyMetrics, "router": e.Router,
	}
	for slot, server := range e.Servers {
		all[slot] = server.URL
	}
	return all
}

// stackEnvironments is the section `environments` for this stack.
func (d *demo) stackEnvironments() map[string]any {
	e := d.stack.Endpoints
	server := func(slot string) map[string]string {
		return map[string]string{"slot": slot, "url": e.Servers[slot].URL, "admin": e.Servers[slot].Admin}
	}
	return map[string]any{
		"staging": map[string]any{"servers": []any{server("staging")}},
		"production": map[string]any{
			"url":     e.Production,
			"servers": []any{server("stable"), server("canary")},
			"routers": []any{map[string]string{"url": e.Router}},
		},
	}
}

// withEnvironments replaces the section `environments` of a penstock.yaml and
// leaves every other line, comments included, as it is.
func withEnvironments(data []byte, environments map[string]any) ([]byte, error) {
	section, err := yaml.Marshal(map[string]any{"environments": environments})
	if err != nil {
		return nil, err
	}
	var kept []byte
	inside := false
	for line := range bytes.Lines(data) {
		if line[0] != ' ' && line[0] != '\n' && line[0] != '#' {
			inside = bytes.HasPrefix(line, []byte("environments:"))
		}
		if !inside {
			kept = append(kept, line...)
		}
	}
	return append(append(kept, '\n'), section...), nil
}
