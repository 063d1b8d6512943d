package model

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/batch"
	"github.com/penstock-ml/penstock/serve/buffers"
)

// item is one request's inputs, of one row each, in buffers of the pool. It
// keeps the model loaded until it is dropped, be its caller there or not.
type item struct {
	inputs []oip.Tensor
	done   func()
}

// together runs the batches of a model.
type together struct{ m *Model }

// Turn waits for a share of the CPUs.
func (t together) Turn(ctx context.Context) (release func(), err error) {
	r, n := t.m.runtime, t.m.runtime.plan.threads
	if _, err := r.share(ctx, n); err != nil {
		return nil, err
	}
	return func() { r.cpus.Release(int64(n)) }, nil
}

// Run runs the items as the rows of one run.
func (t together) Run(ctx context.Context, items []item) ([]batch.Result[*Result], error) {
	if len(items) == 1 {
		r, err := t.m.session.run(ctx, items[0].inputs)
		if err != nil {
			return nil, err
		}
		return []batch.Result[*Result]{{Value: r}}, nil
	}
	rows := make([][]oip.Tensor, len(items))
	for i, one := range items {
		rows[i] = one.inputs
	}
	inputs := stack(t.m.runtime.pool, rows)
	defer release(t.m.runtime.pool, inputs)
	whole, err := t.m.session.run(ctx, inputs)
	if err != nil {
		return nil, err
	}
	parts, err := split(whole, len(items))
	if err != nil {
		whole.Release()
		return nil, err
	}
	return share(whole, parts), nil
}

// Drop gives an item's buffers back.
func (t together) Drop(one item) {
	release(t.m.runtime.pool, one.inputs)
	one.done()
}

// Discard gives a result's buffers back.
func (t together) Discard(r *Result) { r.Release() }

// share makes a result of each part; the whole's memory goes back with the last
// of them.
func share(whole *Result, parts [][]oip.Tensor) []batch.Result[*Result] {
	var left atomic.Int32
	left.Store(int32(len(parts)))
	whole.Phases.Batch = len(parts)
	free := func() {
		if left.Add(-1) == 0 {
			whole.Release()
		}
	}
	results := make([]batch.Result[*Result], len(parts))
	for i, outputs := range parts {
		results[i].Value = &Result{Outputs: outputs, Phases: whole.Phases, release: free}
	}
	return results
}

// inferTogether runs a request with others of the same shapes. Inputs that are
// not the pool's are copied: a caller that leaves takes its own memory along,
// while the run may go on.
func (m *Model) inferTogether(ctx context.Context, inputs []oip.Tensor, pooled bool) (*Result, error) {
	one := item{inputs, m.retain()}
	if !pooled {
		one.inputs = slices.Clone(inputs)
		for i, t := range inputs {
			one.inputs[i].Data = m.runtime.pool.Get(len(t.Data))
			copy(one.inputs[i].Data, t.Data)
		}
	}
	r := m.batcher.Do(ctx, shapesKey(inputs), one)
	if r.Err != nil {
		return nil, r.Err
	}
	r.Value.Phases.Queue = r.Queue
	return r.Value, nil
}

// joins tells whether a request may share a run.
func (m *Model) joins(inputs []oip.Tensor) bool {
	if m.batcher == nil || !m.free {
		return false
	}
	for _, t := range inputs {
		if t.Shape[0] != 1 {
			return false
		}
	}
	return true
}

// stack lays rows on top of each other, input by input, in buffers of the pool.
func stack(pool *buffers.Pool, rows [][]oip.Tensor) []oip.Tensor {
	stacked := slices.Clone(rows[0])
	for k, t := range stacked {
		data := pool.Get(len(t.Data) * len(rows))
		for i, r := range rows {
			copy(data[i*len(t.Data):], r[k].Data)
		}
		stacked[k].Shape = slices.Clone(t.Shape)
		stacked[k].Shape[0], stacked[k].Data = int64(len(rows)), data
	}
	return stacked
}

// split is the reverse of stack, of outputs: views, by row and output.
func split(r *Result, n int) ([][]oip.Tensor, error) {
	for _, t := range r.Outputs {
		if len(t.Shape) == 0 || t.Shape[0] != int64(n) {
			return nil, &RunError{fmt.Errorf("its output %q has the shape %s for %d requests in one run", t.Name, shapeText(t.Shape), n)}
		}
	}
	parts := make([][]oip.Tensor, n)
	for i := range parts {
		parts[i] = make([]oip.Tensor, len(r.Outputs))
		for k, t := range r.Outputs {
			parts[i][k] = row(t, i)
		}
	}
	return parts, nil
}

// row is a view of one row.
func row(t oip.Tensor, i int) oip.Tensor {
	size := len(t.Data) / int(t.Shape[0])
	t.Data = t.Data[i*size : (i+1)*size : (i+1)*size]
	t.Shape = slices.Clone(t.Shape)
	t.Shape[0] = 1
	return t
}

func release(pool *buffers.Pool, tensors []oip.Tensor) {
	for _, t := range tensors {
		pool.Put(t.Data)
	}
}
