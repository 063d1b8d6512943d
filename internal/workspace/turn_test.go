package workspace_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// runner is one run's command in a project on a real store.
func runner(t *testing.T, s3 *servertest.S3, config, key string, ahead time.Duration) *action.Env {
	t.Helper()
	vars := map[string]string{"PENSTOCK_CACHE": t.TempDir()}
	for _, pair := range s3.Env() {
		name, value, _ := strings.Cut(pair, "=")
		vars[name] = value
	}
	return &action.Env{
		Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{},
		Getenv: func(name string) string { return vars[name] },
		Now:    func() time.Time { return time.Now().Add(ahead) },
		Common: action.Common{Config: config, RunKey: key, Attempt: 1},
	}
}

func take(t *testing.T, env *action.Env, limit time.Duration) (func(bool) error, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	_, done, err := workspace.Ledger{}.Take(ctx, env)
	return done, err
}

func TestRunsOfAProjectGoOneAfterTheOther(t *testing.T) {
	s3 := servertest.MinIO(t)
	text, err := os.ReadFile("../../examples/xray/penstock.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "penstock.yaml")
	if err := os.WriteFile(config, bytes.Replace(text, []byte("bucket: xray"), []byte("bucket: "+servertest.Bucket(t, s3)), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := runner(t, s3, config, "a", 0), runner(t, s3, config, "b", 0)
	done, err := take(t, a, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take(t, b, 500*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("b while a works: %v", err)
	}
	if err := done(true); err != nil {
		t.Fatal(err)
	}
	if _, err := take(t, b, 500*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("b between two steps of a: %v", err)
	}
	scoped := runner(t, s3, config, "c", 0)
	scoped.Common.Scope = "pr/12/"
	if _, err := take(t, scoped, 5*time.Second); err != nil {
		t.Fatalf("a scope waits for nobody: %v", err)
	}
	if done, err = take(t, a, time.Minute); err != nil {
		t.Fatalf("a's next step: %v", err)
	}
	if err := done(false); err != nil {
		t.Fatal(err)
	}
	if _, err = take(t, b, time.Minute); err != nil {
		t.Fatalf("b after a's end: %v", err)
	}
	// b dies here: it neither renews nor leaves. Its term ends.
	if _, err := take(t, runner(t, s3, config, "d", time.Minute), 500*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("d within the dead run's term: %v", err)
	}
	late, err := take(t, runner(t, s3, config, "d", 10*time.Minute), time.Minute)
	if err != nil {
		t.Fatalf("d after the dead run's term: %v", err)
	}
	if err := late(false); err != nil {
		t.Fatal(err)
	}
}
