package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// drawn is a PNG that no other n gives.
func drawn(t *testing.T, n int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * (n + 1) >> (i % 8))
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	return append(buf.Bytes(), fmt.Sprint(n)...)
}

// images uploads a complete batch of two images for each of the patients first
// to last, watches once and answers its key.
func (l *landing) images(name string, first, last int) string {
	l.t.Helper()
	table := "file,patient_id,labels,sex,view,age\n"
	for p := first; p <= last; p++ {
		for i := range 2 {
			n := 2*p + i
			finding := []string{"No Finding", "Effusion", "Mass|Nodule", "No Finding", "Edema"}[n%5]
			table += fmt.Sprintf("%d.png,p%d,%s,F,PA,%d\n", n, p, finding, 30+p)
			l.upload(fmt.Sprintf("raw/%s/%d.png", name, n), drawn(l.t, n))
		}
	}
	l.upload("raw/"+name+"/labels.csv", []byte(table))
	l.upload("raw/"+name+"/_SUCCESS", nil)
	return l.watchOnce(name)
}

func (l *landing) watchOnce(name string) string {
	l.t.Helper()
	h := newHook(l.t)
	out := l.run(0, "watch", "--once", "--webhook", h.URL)
	if keys := h.keys(); len(keys) == 1 {
		return keys[0]
	}
	l.t.Fatalf("batch %s was not handed on:\n%s", name, out)
	return ""
}

// dataset runs the command with a champion that the test names.
func (l *landing) dataset(o datasetOptions, champion ...string) (verdict.Result, error) {
	l.t.Helper()
	env := &action.Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Now: time.Now,
		Getenv: envOf(l),
		Common: action.Common{Config: l.config, RunKey: "run", Attempt: 1},
	}
	return runDataset(l.t.Context(), env, o, func(context.Context, *action.Env, *workspace.Workspace) (string, string, error) {
		if len(champion) < 2 {
			return "", "", nil
		}
		return champion[0], champion[1], nil
	})
}

func (l *landing) mustDataset(o datasetOptions, champion ...string) verdict.Result {
	l.t.Helper()
	r, err := l.dataset(o, champion...)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func TestDatasetOnMinIO(t *testing.T) {
	s3 := servertest.MinIO(t)
	for name, test := range map[string]func(*testing.T, *landing){
		"batch after batch, the data set grows from the accepted one": datasetGrows,
		"a refused batch is rejected until it is readmitted":          datasetRefused,
		"a batch that cannot be used is an error with its remedy":     datasetUnusable,
		"a killed run is finished by the next":                        datasetKilled,
		"bad usage is told apart from breakage":                       datasetUsage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newLanding(t, s3))
		})
	}
}

func datasetGrows(t *testing.T, l *landing) {
	one := l.images("one", 1, 30)
	first := l.mustDataset(datasetOptions{batch: one})
	if first.Verdict != verdict.Pass || first.Outputs["changed"] != "true" || first.Outputs["rows"] != "60" || first.Outputs["added"] != "60" ||
		first.Subjects["batch"] != one || first.Subjects["parent"] != "" || first.Subjects["champion"] != "" {
		t.Errorf("%+v", first)
	}
	if err := dataset.Accept(t.Context(), l.bucket, first.Subjects["dataset"], "run"); err != nil {
		t.Fatal(err)
	}
	two := l.images("two", 25, 40) // six patients are contained
	second := l.mustDataset(datasetOptions{batch: two}, "model", "data")
	if second.Outputs["added"] != "20" || second.Outputs["rows"] != "80" || second.Subjects["parent"] != first.Subjects["dataset"] ||
		second.Subjects["champion"] != "model" || second.Subjects["champion_dataset"] != "data" {
		t.Errorf("%+v", second)
	}
	copied := l.mustDataset(datasetOptions{batch: l.images("copy", 3, 9)})
	if copied.Outputs["changed"] != "false" || copied.Subjects["dataset"] != first.Subjects["dataset"] || copied.Verdict != verdict.Pass {
		t.Errorf("%+v", copied)
	}
}

func datasetRefused(t *testing.T, l *landing) {
	key := l.images("one", 1, 30)
	if _, err := l.dataset(datasetOptions{readmit: key}); err == nil || !strings.Contains(err.Error(), "never refused") {
		t.Errorf("error %v", err)
	}
	if err := dataset.Refuse(t.Context(), l.bucket, key, "d", "run", "macro AUROC fell"); err != nil {
		t.Fatal(err)
	}
	r := l.mustDataset(datasetOptions{batch: key})
	if r.ExitCode() != verdict.ExitReject || !strings.Contains(r.Reason.Text, "macro AUROC fell") || !strings.Contains(r.Reason.Text, "--readmit "+key) {
		t.Errorf("%+v", r)
	}
	if r = l.mustDataset(datasetOptions{readmit: key}); r.Verdict != verdict.Pass {
		t.Errorf("%+v", r)
	}
	if r = l.mustDataset(datasetOptions{batch: key}); r.Verdict != verdict.Pass {
		t.Errorf("readmitted once, refused again: %+v", r)
	}
}

func datasetUnusable(t *testing.T, l *landing) {
	l.batch("bare")
	_, err := l.dataset(datasetOptions{batch: l.watchOnce("bare")})
	if r := verdict.FromError(err); r.Reason.Code != dataset.NoTable || !strings.Contains(r.Reason.Text, "raw/bare/labels.csv") {
		t.Errorf("%+v", r)
	}
	if _, err := l.dataset(datasetOptions{batch: strings.Repeat("0", 64)}); err == nil || !strings.Contains(err.Error(), "penstock watch") {
		t.Errorf("error %v", err)
	}
	key := l.images("one", 1, 30)
	broken := func(context.Context, *action.Env, *workspace.Workspace) (string, string, error) {
		return "", "", errors.New("no MLflow")
	}
	env := &action.Env{Getenv: envOf(l), Stderr: io.Discard, Now: time.Now, Common: action.Common{Config: l.config}}
	if _, err := runDataset(t.Context(), env, datasetOptions{batch: key}, broken); err == nil || !strings.Contains(err.Error(), "look up the champion") {
		t.Errorf("error %v", err)
	}
}

func envOf(l *landing) func(string) string {
	return func(name string) string {
		for _, kv := range append(l.s3.Env(), "PENSTOCK_CACHE="+l.dir) {
			if n, value, _ := strings.Cut(kv, "="); n == name {
				return value
			}
		}
		return ""
	}
}

func datasetUsage(t *testing.T, l *landing) {
	if _, err := l.dataset(datasetOptions{batch: "a", readmit: "b"}); verdict.FromError(err).ExitCode() != verdict.ExitUsage {
		t.Errorf("two batches: %v", err)
	}
	if r, err := l.dataset(datasetOptions{}); err != nil || r.Verdict != verdict.Pass || r.Reason.Code != "no-dataset" || r.Subjects["dataset"] != "" {
		t.Errorf("no batch, and no data set yet: %+v, %v", r, err)
	}
	key := l.images("one", 1, 30)
	if out := l.run(1, "dataset", "--batch", key); !strings.Contains(out, "MLFLOW_TRACKING_URI") {
		t.Errorf("without MLflow: %s", out)
	}
}

func datasetKilled(t *testing.T, l *landing) {
	key := l.images("one", 1, 120)
	uri := servertest.MLflow(t, l.s3)
	cmd, out := l.program("dataset", "--batch", key)
	cmd.Env = append(cmd.Env, "MLFLOW_TRACKING_URI="+uri)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	processed := func() int {
		objects, err := l.bucket.List(t.Context(), "processed/")
		if err != nil {
			t.Fatal(err)
		}
		return len(objects)
	}
	eventually(t, "a processed image", out, func() bool { return processed() > 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatalf("it ended before it was killed:\n%s", out)
	}
	left, err := l.bucket.List(t.Context(), "datasets/")
	if err != nil || len(left) != 0 {
		t.Fatalf("a killed run left %v, %v", left, err)
	}
	again, out := l.program("dataset", "--batch", key)
	again.Env = append(again.Env, "MLFLOW_TRACKING_URI="+uri)
	if err := again.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := out.String(); !strings.Contains(text, "rows: 240") || !strings.Contains(text, "240 images") {
		t.Errorf("%s", text)
	}
}
