// Package loop plays the line once, on real servers, with the real programs:
// a batch lands in MinIO, becomes the first model in production, and a second
// batch replaces it under live traffic through a judged canary.
package loop

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/demo"
)

func TestBatchesBecomeModelsInProduction(t *testing.T) {
	dir := t.TempDir()
	build(t, filepath.Join(dir, "bin"))
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	var said strings.Builder
	err := demo.Run(ctx, demo.Options{
		Root: "../..", Dir: filepath.Join(dir, "demo"), Bin: filepath.Join(dir, "bin"),
		Until: "second batch", Out: &said,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	r := report(t, filepath.Join(dir, "demo.json"))
	if !r.Passed || len(r.Steps) != 3 {
		t.Fatalf("the report says passed=%v after %d steps\n%s", r.Passed, len(r.Steps), &said)
	}
	first, second := r.Steps[1], r.Steps[2]
	if first.Production.After == "" || second.Production.Before != first.Production.After || second.Production.After == first.Production.After {
		t.Errorf("production went %v, then %v", first.Production, second.Production)
	}
	if first.RunKey == second.RunKey {
		t.Errorf("two batches have one run key %s", first.RunKey)
	}
	if r.Requests.Failed != 0 || second.Requests == nil || second.Requests.ByDigest[second.Production.After] < 1000 {
		t.Errorf("live requests: %+v", r.Requests)
	}
}

func build(t *testing.T, bin string) {
	t.Helper()
	out, err := exec.Command("go", "build", "-o", bin+"/", "../../cmd/penstock", "../../cmd/penstock-serve").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}

func report(t *testing.T, path string) demo.Report {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r demo.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
