package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// resolveEnv is a project in a fresh bucket of a real MinIO, with a real MLflow.
func resolveEnv(t *testing.T) *action.Env {
	s3 := servertest.MinIO(t)
	dir := t.TempDir()
	environment := map[string]string{
		"AWS_ENDPOINT_URL_S3": s3.Endpoint, "AWS_ACCESS_KEY_ID": s3.AccessKey, "AWS_SECRET_ACCESS_KEY": s3.SecretKey,
		"MLFLOW_TRACKING_URI": servertest.MLflow(t, s3), "PENSTOCK_CACHE": dir,
	}
	config := filepath.Join(dir, "penstock.yaml")
	if err := os.WriteFile(config, []byte(strings.Replace(judgeProject, "BUCKET", servertest.Bucket(t, s3), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return &action.Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Now: time.Now,
		Getenv: func(name string) string { return environment[name] },
		Common: action.Common{Config: config, Attempt: 1},
	}
}

func TestResolveFindsDigestAndRunOfAVersion(t *testing.T) {
	env := resolveEnv(t)
	w, err := workspace.Open(env)
	if err != nil {
		t.Fatal(err)
	}
	models, err := openRegistry(env, w)
	if err != nil {
		t.Fatal(err)
	}
	for digest, run := range map[string]string{oldModel: "run-old", newModel: ""} {
		b := &bundle.Bundle{Digest: digest, Manifest: bundle.Manifest{Provenance: bundle.Provenance{Dataset: "d-" + digest}}}
		if _, err := models.Register(t.Context(), b, "s3://"+w.Bucket.Name()+"/models/"+digest, run); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"1/gate-offline", "2/deploy", "10/deploy", "10/x.error", "note/readme"} {
		if err := w.Bucket.UploadBytes(t.Context(), "runs/run-old/"+key+".json", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	old, err := models.Of(t.Context(), oldModel)
	if err != nil {
		t.Fatal(err)
	}
	check := func(o resolveOptions, serving, run, attempt string) {
		t.Helper()
		r, err := runResolve(t.Context(), env, o)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{r.Subjects["model"], r.Subjects["dataset"], r.Outputs["serving"], r.Outputs["run_key"], r.Outputs["attempt"]}
		if diff := cmp.Diff([]string{oldModel, "d-" + oldModel, serving, run, attempt}, got); diff != "" || r.Verdict != verdict.Pass {
			t.Errorf("%+v: %s\n%s", o, r.Verdict, diff)
		}
	}
	check(resolveOptions{version: old.Number}, "false", "run-old", "11")
	if _, err := models.Promote(t.Context(), oldModel); err != nil {
		t.Fatal(err)
	}
	check(resolveOptions{model: oldModel}, "true", "run-old", "11")
	env.Common.RunKey, env.Common.Attempt = "mine", 3
	check(resolveOptions{model: oldModel}, "true", "mine", "3")
	env.Common.RunKey = ""
	for _, c := range []struct {
		o    resolveOptions
		code string
	}{
		{resolveOptions{version: 99}, "unknown-version"},
		{resolveOptions{tag: "deploy/judged/v99"}, "unknown-version"},
		{resolveOptions{model: strings.Repeat("c", 64)}, "unknown-version"},
		{resolveOptions{model: newModel}, "no-run"}, // registered by hand
	} {
		_, err := runResolve(t.Context(), env, c.o)
		if r := verdict.FromError(err); err == nil || r.Reason.Code != c.code {
			t.Errorf("%+v: %v, want the code %s", c.o, err, c.code)
		}
	}
}
