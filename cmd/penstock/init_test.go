package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// initOn runs init on a terminal whose user types answers.
func initOn(t *testing.T, dir, answers string, args ...string) (said string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = program().Main(context.Background(), append([]string{"init", "--dir", dir, "--ref", "v1"}, args...), &action.Env{
		Stdin: strings.NewReader(answers), Stdout: &stdout, Stderr: &stderr, Terminal: true,
		Getenv: func(string) string { return "" }, Now: time.Now,
	})
	return stdout.String() + stderr.String(), code
}

func TestInitAsksOnATerminalForWhatNoFlagSays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Lung Scans")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The proposal for the name, one for the task, a bucket, labels.
	said, code := initOn(t, dir, "\n\nscans\nMass:urgent, Nodule\n")
	if code != verdict.ExitPass {
		t.Fatalf("exit %d: %s", code, said)
	}
	p, err := project.Read(filepath.Join(dir, "penstock.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "lung-scans" || p.Task != project.Multilabel || p.Data.Bucket != "scans" || strings.Join(p.LabelNames(), "|") != "Mass|Nodule" {
		t.Errorf("the project is %s, %s, %s, %q", p.Name, p.Task, p.Data.Bucket, p.LabelNames())
	}
	if !strings.Contains(said, "name of the project [lung-scans]: ") {
		t.Errorf("no question with a proposal in: %s", said)
	}
}

func TestInitWithoutAnAnswerNamesTheFlag(t *testing.T) {
	dir := t.TempDir()
	said, code := initOn(t, dir, "lungs\n\n\n")
	if code != verdict.ExitUsage || !strings.Contains(said, "no answer: give --labels") {
		t.Errorf("exit %d: %s", code, said)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
