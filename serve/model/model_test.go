package model_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

func read(t *testing.T, dir string) *bundle.Bundle {
	t.Helper()
	b, err := bundle.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(t *testing.T, graph string) *model.Model {
	t.Helper()
	m, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, bundletest.New(t, graph)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil && !errors.Is(err, model.ErrClosed) {
			t.Error(err)
		}
	})
	return m
}

func TestPredictGivesTheScoresOfTheClosedForm(t *testing.T) {
	m := load(t, bundletest.Mean)
	for _, level := range []uint8{0, 60, 130, 244} {
		picture := bundletest.Picture(t, 100, 80, level)
		got, err := m.Predict(t.Context(), picture)
		if err != nil {
			t.Fatal(err)
		}
		pixels, err := imaging.Preprocess(picture, m.Spec(), imaging.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range bundletest.Scores(pixels) {
			if math.Abs(float64(got.Values[i]-want)) > 1e-6 {
				t.Errorf("level %d, label %d: got %v, want %v", level, i, got.Values[i], want)
			}
		}
	}
}

func TestScoreOfABatchEqualsTheScoresOneByOne(t *testing.T) {
	m := load(t, bundletest.Mean)
	var pictures []imaging.Pixels
	for _, level := range []uint8{3, 90, 180} {
		p, err := imaging.Preprocess(bundletest.Picture(t, 20, 20, level), m.Spec(), imaging.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		pictures = append(pictures, p)
	}
	together, _, err := m.ScoreBatch(t.Context(), pictures)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pictures {
		alone, _, err := m.ScoreBatch(t.Context(), []imaging.Pixels{p})
		if err != nil {
			t.Fatal(err)
		}
		for j := range alone[0] {
			if alone[0][j] != together[i][j] {
				t.Errorf("picture %d, label %d: %v alone, %v in a batch", i, j, alone[0][j], together[i][j])
			}
		}
	}
}

func TestSigmoidIsAppliedWhereTheManifestAsksForIt(t *testing.T) {
	dir := bundletest.New(t, bundletest.Mean, func(m *bundle.Manifest) { m.Outputs.Activation = "sigmoid" })
	m, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	plain := load(t, bundletest.Mean)
	picture := bundletest.Picture(t, 20, 20, 100)
	got, err := m.Predict(t.Context(), picture)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := plain.Predict(t.Context(), picture)
	if err != nil {
		t.Fatal(err)
	}
	if want := float32(1 / (1 + math.Exp(-float64(raw.Values[0])))); got.Values[0] != want {
		t.Errorf("got %v, want %v", got.Values[0], want)
	}
}

func TestOpenRefusesWhatDoesNotFitTheBundle(t *testing.T) {
	cases := []struct {
		name  string
		graph string
		spoil func(t *testing.T, dir string)
		text  string
	}{
		{"scores beyond the tolerance", bundletest.Mean, func(t *testing.T, dir string) {
			write(t, dir, "golden/1.output.npy", 0.5, 0.5)
		}, "the bundle is refused"},
		{"other pixels", bundletest.Mean, func(t *testing.T, dir string) {
			if err := bundle.WriteUint8(filepath.Join(dir, "golden/0.input.npy"), []int{8, 8, 1}, make([]uint8, 64)); err != nil {
				t.Fatal(err)
			}
		}, "decoded or resized in another way"},
		{"truncated golden picture", bundletest.Mean, func(t *testing.T, dir string) {
			name := filepath.Join(dir, "golden/0.png")
			if err := os.Truncate(name, 60); err != nil {
				t.Fatal(err)
			}
		}, "truncated"},
		{"output of another name", bundletest.Renamed, nil, `the manifest names "scores"`},
		{"input of another size", bundletest.Wide, nil, "want [?, 1, 8, 8]"},
		{"input of another name", bundletest.Mean, rewrite(func(m *bundle.Manifest) { m.Input.Name = "image" }), `the manifest names "image"`},
		{"heat map that is none", bundletest.Mean, rewrite(func(m *bundle.Manifest) { m.Outputs.Heatmap = "features" }), `output "features" has the shape`},
		{"filter that is unknown", bundletest.Mean, rewrite(func(m *bundle.Manifest) { m.Input.Filter = "mitchell" }), "mitchell"},
		{"scores of another rank", bundletest.Flat, nil, `output "scores" has the shape [2], want [?, 2]`},
		{"operator that nobody has", bundletest.Unknown, nil, "ONNX alone"},
		{"graph that is none", bundletest.Mean, func(t *testing.T, dir string) {
			// an IR version, an operator set, an empty graph
			if err := os.WriteFile(filepath.Join(dir, "model.onnx"), []byte{8, 8, 0x42, 2, 16, 13, 0x3a, 0}, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "model.onnx"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := bundletest.New(t, c.graph)
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			_, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, dir))
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

func rewrite(change func(*bundle.Manifest)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		m := bundletest.Manifest()
		change(&m)
		if err := bundle.WriteManifest(dir, m); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, dir, name string, scores ...float32) {
	t.Helper()
	if err := bundle.WriteFloat32(filepath.Join(dir, name), []int{len(scores)}, scores); err != nil {
		t.Fatal(err)
	}
}

func TestAFaultOfTheGraphIsARunErrorAndHurtsNobodyElse(t *testing.T) {
	m := load(t, bundletest.Failing)
	_, err := m.Predict(t.Context(), bundletest.Picture(t, 30, 30, bundletest.FailsAbove))
	var fault *model.RunError
	if !errors.As(err, &fault) {
		t.Fatalf("got %v, want a RunError", err)
	}
	if _, err := m.Predict(t.Context(), bundletest.Picture(t, 30, 30, 100)); err != nil {
		t.Errorf("the next picture: %v", err)
	}
}

func TestABadPictureIsTheSendersFault(t *testing.T) {
	m := load(t, bundletest.Mean)
	picture := bundletest.Picture(t, 30, 30, 100)
	_, err := m.Predict(t.Context(), picture[:len(picture)/2])
	var refused *imaging.Error
	if !errors.As(err, &refused) || refused.Code != imaging.Truncated {
		t.Errorf("got %v", err)
	}
}

func TestInferGivesAllOutputsOfTheManifest(t *testing.T) {
	m := load(t, bundletest.Mean)
	data := make([]float32, 2*64)
	for i := range 64 {
		data[64+i] = 1
	}
	result, err := m.Infer(t.Context(), []oip.Tensor{{Name: "input", Datatype: oip.FP32, Shape: []int64{2, 1, 8, 8}, Data: oip.Bytes(data)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer result.Release()
	got := result.Outputs
	if len(got) != 3 || got[0].Name != "scores" || got[1].Name != "heatmap" || got[2].Name != "features" {
		t.Fatalf("got %v", got)
	}
	if features := oip.Float32s(got[2].Data); features[0] != 0 || features[1] != 1 {
		t.Errorf("features %v, want [0 1]", features)
	}
}

func TestCloseWaitsForUsers(t *testing.T) {
	m, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, bundletest.New(t, bundletest.Mean)))
	if err != nil {
		t.Fatal(err)
	}
	release, err := m.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	deadline := time.Now().Add(10 * time.Second)
	for { // until Close has begun
		again, err := m.Acquire()
		if errors.Is(err, model.ErrClosed) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("Acquire: %v", err)
		}
		again()
	}
	select {
	case <-closed:
		t.Fatal("closed under a user")
	default:
	}
	if _, err := m.Predict(t.Context(), bundletest.Picture(t, 20, 20, 50)); err != nil {
		t.Errorf("the user's run: %v", err)
	}
	release()
	release() // a second call does nothing
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestACancelledCallerGetsItsOwnError(t *testing.T) {
	m := load(t, bundletest.Mean)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Predict(ctx, bundletest.Picture(t, 20, 20, 50)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestACallerThatGivesUpFreesTheCPU(t *testing.T) {
	m := load(t, bundletest.Endless)
	bright := bundletest.Picture(t, 30, 30, bundletest.FailsAbove)
	// More of them than there are CPUs: the later ones wait for a slot.
	var wg sync.WaitGroup
	for range 2 * modeltest.Runtime(t).Callers() {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := m.Predict(ctx, bright); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := m.Predict(t.Context(), bundletest.Picture(t, 30, 30, 100)); err != nil {
		t.Errorf("the next caller: %v", err)
	}
}

func TestManyCallersGetTheirOwnScores(t *testing.T) {
	m := load(t, bundletest.Mean)
	var wg sync.WaitGroup
	for level := range 16 {
		wg.Go(func() {
			picture := bundletest.Picture(t, 20, 20, uint8(level*14))
			pixels, err := imaging.Preprocess(picture, m.Spec(), imaging.DefaultLimits)
			if err != nil {
				t.Error(err)
				return
			}
			want := bundletest.Scores(pixels)
			for range 20 {
				got, err := m.Predict(t.Context(), picture)
				if err != nil || math.Abs(float64(got.Values[0]-want[0])) > 1e-6 {
					t.Errorf("got %v (%v), want %v", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestNoTelemetryIsLeft(t *testing.T) {
	load(t, bundletest.Mean)
	if os.Getenv("ORT_DISABLE_TELEMETRY") != "1" {
		t.Error("ORT_DISABLE_TELEMETRY is not set")
	}
}

func TestFindLibraryNeverReplacesAGivenPath(t *testing.T) {
	env := func(values map[string]string) func(string) string {
		return func(name string) string { return values[name] }
	}
	got, err := model.FindLibrary("/flag.so", env(map[string]string{"PENSTOCK_ONNXRUNTIME": "/env.so"}))
	if err != nil || got != "/flag.so" {
		t.Errorf("got %q, %v", got, err)
	}
	got, err = model.FindLibrary("", env(map[string]string{"PENSTOCK_ONNXRUNTIME": "/env.so"}))
	if err != nil || got != "/env.so" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := model.FindLibrary("", env(map[string]string{"PENSTOCK_CACHE": t.TempDir()})); err == nil || !strings.Contains(err.Error(), "--onnxruntime") {
		t.Errorf("got %v", err)
	}
	if _, err := model.Start(model.Options{Library: "/nowhere.so", Threads: 1}); err == nil || !strings.Contains(err.Error(), "/nowhere.so") {
		t.Errorf("got %v", err)
	}
}
