package model

import (
	"context"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
)

// Decode decodes the bytes of an image file, upright, when a CPU is free. The
// picture keeps its size and has no Pixels. *imaging.Error is the sender's
// fault.
func (m *Model) Decode(ctx context.Context, data []byte) (*Picture, error) {
	waited, err := m.runtime.share(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer m.runtime.cpus.Release(1)
	p := &Picture{Phases: Phases{Queue: waited}}
	began := time.Now()
	if p.Image, _, err = m.runtime.decoder.Decode(data); err != nil {
		return nil, err
	}
	p.Phases.Decode = time.Since(began)
	return p, nil
}

// Raw normalises pixels of any size that the graph takes and gives its outputs
// as the graph leaves them, the manifest's first one first. It never shares a
// run: what it takes in memory is one picture's.
func (m *Model) Raw(ctx context.Context, p imaging.Pixels) (*Result, error) {
	in := m.inputs[0]
	shape := []int64{1, int64(p.Channels), int64(p.Height), int64(p.Width)}
	if len(m.levels) == 0 || len(m.levels) != p.Channels || !in.admits(shape) || len(p.Pix) != p.Width*p.Height*p.Channels {
		return nil, refuse("a picture of %d x %d x %d, the model's %q takes %s", p.Width, p.Height, p.Channels, in.Name, shapeText(in.Shape))
	}
	inputs := []oip.Tensor{m.planes([]imaging.Pixels{p})}
	defer release(m.runtime.pool, inputs)
	r, err := m.runAlone(ctx, inputs)
	if err != nil {
		return nil, err
	}
	if err := m.checkFinite(inputs, r.Outputs); err != nil {
		r.Release()
		return nil, err
	}
	return r, nil
}

// Callers is how many runs go on at a time, over all models.
func (m *Model) Callers() int { return m.runtime.Callers() }
