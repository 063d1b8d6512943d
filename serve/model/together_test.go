package model_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// sizes counts how many requests shared the runs.
type sizes struct {
	mu  sync.Mutex
	all []int
}

func (s *sizes) see(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, n)
}

func (s *sizes) take() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all
	s.all = nil
	return all
}

func rowsGolden() bundletest.Golden {
	return bundletest.Golden{
		Inputs:  []bundletest.Array{bundletest.Floats([]float32{1, 2, 3, 4, 5, 6, 7, 8}, 2, 4)},
		Outputs: []bundletest.Array{bundletest.Floats([]float32{2, 4, 6, 8, 10, 12, 14, 16}, 2, 4)},
	}
}

func rowOf(values ...float32) []oip.Tensor {
	return []oip.Tensor{{Name: "x", Datatype: oip.FP32, Shape: []int64{1, int64(len(values))}, Data: oip.Bytes(values)}}
}

func TestRequestsShareARunAndABadOneFailsAlone(t *testing.T) {
	var seen sizes
	r := modeltest.Batching(t, model.BatchOptions{Max: 4, Delay: time.Second, Observe: seen.see})
	m, err := tensors(t, r, "rows.onnx", rowsGolden())
	if err != nil {
		t.Fatal(err)
	}
	if !m.Batches() {
		t.Fatal("rows.onnx does not share runs")
	}
	seen.take()
	lent := r.Buffers().Lent()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			v := float32(i + 1)
			if i == 2 {
				v = 1000 // its run fails, and the batch's with it
			}
			result, err := m.Infer(t.Context(), rowOf(v, 0, 0, v), nil)
			if i == 2 {
				var fault *model.RunError
				if !errors.As(err, &fault) {
					t.Errorf("the bad request: %v", err)
				}
				return
			}
			if err != nil {
				t.Errorf("request %d: %v", i, err)
				return
			}
			defer result.Release()
			if result.Phases.Batch != 1 { // each by itself after the batch failed
				t.Errorf("request %d shared its run with %d", i, result.Phases.Batch)
			}
			if out := result.Outputs[0]; !slices.Equal(oip.Float32s(out.Data), []float32{2 * v, 0, 0, 2 * v}) || !slices.Equal(out.Shape, []int64{1, 4}) {
				t.Errorf("request %d: got %v", i, out)
			}
		})
	}
	wg.Wait()
	if got := fmt.Sprint(seen.take()); got != "[4 1 1 1 1]" {
		t.Errorf("runs of %s requests", got)
	}
	if got := r.Buffers().Lent(); got != lent {
		t.Errorf("%d buffers are out, %d were before", got, lent)
	}
}

func TestScoresOfABatchAreBitByBitThoseAlone(t *testing.T) {
	levels := make([]uint8, 24)
	for i := range levels {
		levels[i] = uint8(10 * i)
	}
	alone := modeltest.Open(t, modeltest.Runtime(t), bundletest.New(t, bundletest.Mean))
	want := make([]*model.Scores, len(levels))
	for i, level := range levels {
		var err error
		if want[i], err = alone.Predict(t.Context(), bundletest.Picture(t, 20, 20, level)); err != nil {
			t.Fatal(err)
		}
	}
	must(t, alone.Close())
	var seen sizes
	m := modeltest.Open(t, modeltest.Batching(t, model.BatchOptions{Max: 8, Delay: 100 * time.Millisecond, Observe: seen.see}), bundletest.New(t, bundletest.Mean))
	seen.take()
	var wg sync.WaitGroup
	for i, level := range levels {
		wg.Go(func() {
			got, err := m.Predict(t.Context(), bundletest.Picture(t, 20, 20, level))
			if err == nil && got.Phases.Batch > 8 {
				t.Errorf("a run of %d requests", got.Phases.Batch)
			}
			if err != nil || !slices.Equal(got.Values, want[i].Values) || !slices.Equal(got.Heatmap, want[i].Heatmap) || !slices.Equal(got.HeatmapShape, want[i].HeatmapShape) {
				t.Errorf("level %d: got %v (%v), want %v", level, got, err, want[i])
			}
		})
	}
	wg.Wait()
	if got := seen.take(); slices.Max(got) < 2 {
		t.Errorf("runs of %v requests: none was shared", got)
	}
}

func TestAGraphThatMixesItsRowsKeepsToOneRequestARun(t *testing.T) {
	r := modeltest.Batching(t, model.BatchOptions{Max: 4, Delay: time.Second})
	m, err := tensors(t, r, "mixing.onnx", bundletest.Golden{
		Inputs:  []bundletest.Array{bundletest.Floats([]float32{1, 3}, 1, 2)},
		Outputs: []bundletest.Array{bundletest.Floats([]float32{0, 0}, 1, 2)},
	}, bundletest.Golden{
		Inputs:  []bundletest.Array{bundletest.Floats([]float32{5, 7}, 1, 2)},
		Outputs: []bundletest.Array{bundletest.Floats([]float32{0, 0}, 1, 2)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.Batches() {
		t.Error("rows share a run that changes them")
	}
}

func TestACallerThatLeavesABatchLeavesTheOthersAlone(t *testing.T) {
	r := modeltest.Batching(t, model.BatchOptions{Max: 2, Delay: time.Second})
	m, err := tensors(t, r, "rows.onnx", rowsGolden())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := m.Infer(ctx, rowOf(1, 2, 3, 4), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			result, err := m.Infer(t.Context(), rowOf(float32(i), 2, 3, 4), nil)
			if err != nil {
				t.Error(err)
				return
			}
			result.Release()
		})
	}
	wg.Wait()
}

// TestABatchUnderWaySurvivesTheModelsClose unloads a model between a request's
// coming and its run.
func TestABatchUnderWaySurvivesTheModelsClose(t *testing.T) {
	r := modeltest.Batching(t, model.BatchOptions{Max: 2, Delay: 300 * time.Millisecond})
	b := read(t, bundletest.Tensor(t, graphFile(t, "rows.onnx"), []bundletest.Golden{rowsGolden()}))
	m, err := model.Open(t.Context(), r, b)
	must(t, err)
	release, err := m.Acquire()
	must(t, err)
	answered := make(chan error, 1)
	go func() {
		result, err := m.Infer(t.Context(), rowOf(1, 2, 3, 4), nil)
		if err == nil {
			result.Release()
		}
		release()
		answered <- err
	}()
	must(t, m.Close())
	must(t, <-answered)
	// one whose caller leaves long before the run
	m, err = model.Open(t.Context(), r, b)
	must(t, err)
	if release, err = m.Acquire(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := m.Infer(ctx, rowOf(1, 2, 3, 4), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	release()
	must(t, m.Close())
	if lent := r.Buffers().Lent(); lent != 0 {
		t.Errorf("%d buffers are out", lent)
	}
}
