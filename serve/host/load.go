package host

import (
	"context"
	"fmt"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/replay"
)

// progressKey is the key of a context's progress function.
type progressKey struct{}

func withProgress(ctx context.Context, tell func(string)) context.Context {
	return context.WithValue(ctx, progressKey{}, tell)
}

// Progress says in the status of the host whose load this context belongs to
// what the load is at. Without such a host it does nothing.
func Progress(ctx context.Context, text string) {
	if tell, ok := ctx.Value(progressKey{}).(func(string)); ok {
		tell(text)
	}
}

// FromBucket loads bundles from a bucket by way of a cache that several
// servers may share. Models are opened one at a time over all names, so that
// two loads do not take the CPUs of those that answer twice; fetching goes on
// beside.
func FromBucket(bucket bundle.Source, cacheDir string, runtime *model.Runtime) Load {
	opening := make(chan struct{}, 1)
	return func(ctx context.Context, digest string) (*model.Model, error) {
		b, err := bundle.FetchTold(ctx, bucket, digest, cacheDir, func(step string, done, total int64) {
			Progress(ctx, progressText(step, done, total))
		})
		if err != nil {
			return nil, err
		}
		m, err := openAlone(ctx, opening, runtime, b)
		if err != nil {
			b.Release()
		}
		return m, err
	}
}

// openAlone waits for the turn to open a model.
func openAlone(ctx context.Context, opening chan struct{}, runtime *model.Runtime, b *bundle.Bundle) (*model.Model, error) {
	Progress(ctx, "waiting for another model to open")
	select {
	case opening <- struct{}{}:
		defer func() { <-opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for another model to open: %w", context.Cause(ctx))
	}
	Progress(ctx, "opening, goldens and warm-up")
	m, err := model.Open(ctx, runtime, b)
	if err != nil {
		err = b.Blame(err)
	}
	return m, err
}

func progressText(step string, done, total int64) string {
	if total == 0 {
		return step
	}
	return fmt.Sprintf("%s: %d of %d MB", step, done>>20, (total+1<<20-1)>>20)
}

// runner replays on a model.
type runner struct {
	m       *model.Model
	enlarge func(ctx context.Context, m *model.Model, picture []byte) ([]oip.Tensor, error)
}

// Run answers a picture by its scores, or by what it is enlarged to, and
// tensors by the outputs that were asked for.
func (r runner) Run(ctx context.Context, in replay.Input) ([]oip.Tensor, error) {
	if in.Picture != nil {
		return r.picture(ctx, in.Picture)
	}
	result, err := r.m.Infer(ctx, in.Tensors, in.Outputs)
	if err != nil {
		return nil, err
	}
	defer result.Release()
	outputs := make([]oip.Tensor, len(result.Outputs))
	for i, t := range result.Outputs {
		t.Data = append([]byte(nil), t.Data...)
		outputs[i] = t
	}
	return outputs, nil
}

func (r runner) picture(ctx context.Context, picture []byte) ([]oip.Tensor, error) {
	if r.m.Task() == bundle.TaskSuperResolution && r.enlarge != nil {
		return r.enlarge(ctx, r.m, picture)
	}
	scores, err := r.m.Predict(ctx, picture)
	if err != nil {
		return nil, err
	}
	return []oip.Tensor{{
		Name: "scores", Datatype: oip.FP32, Shape: []int64{int64(len(scores.Values))}, Data: oip.Bytes(scores.Values),
	}}, nil
}
