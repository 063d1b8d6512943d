package dataset

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/journal"
)

// transfers is how many objects are on the way at once. Together with the
// limit on decoding it bounds memory: each holds one file.
const transfers = 8

// examine reads every candidate once, hashes it and leaves its preprocessed
// image in the bucket. Images that imaging refuses are quarantined. The rows
// come back in the order of the candidates, without a split.
func (r Request) examine(ctx context.Context, store Store, candidates []candidate) ([]Row, []Quarantined, error) {
	if r.Begin != nil {
		r.Begin(len(candidates))
	}
	rows := make([]Row, len(candidates))
	problems := make([]*Problem, len(candidates))
	decoding := make(chan struct{}, runtime.GOMAXPROCS(0))
	err := each(ctx, len(candidates), transfers, func(ctx context.Context, i int) (err error) {
		rows[i], problems[i], err = r.examineOne(ctx, store, candidates[i], decoding)
		if err == nil && r.Step != nil {
			r.Step()
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var sound []Row
	var bad []Quarantined
	for i, c := range candidates {
		if p := problems[i]; p != nil {
			bad = append(bad, Quarantined{c.file, p.Code, p.Reason})
			continue
		}
		sound = append(sound, rows[i])
	}
	return sound, bad, nil
}

func (r Request) examineOne(ctx context.Context, store Store, c candidate, decoding chan struct{}) (Row, *Problem, error) {
	if c.object.Size > r.Limits.Bytes {
		return Row{}, problem(string(imaging.TooLarge), "the file has %d bytes, at most %d are read", c.object.Size, r.Limits.Bytes), nil
	}
	data, err := fetch(ctx, store, c.object)
	if err != nil {
		return Row{}, nil, err
	}
	row := Row{
		File: c.file, SHA256: hash(data), Pipeline: r.Config.Image.Pipeline(),
		Group: c.group, Batch: r.Batch.Key, Labels: c.labels, Slices: c.slices,
	}
	// An image that is there was sound: the pipeline's name covers all that
	// decides about it.
	done, err := store.Exists(ctx, row.Processed())
	if err != nil || done {
		return row, nil, err
	}
	decoding <- struct{}{}
	png, err := r.preprocess(data)
	<-decoding
	var refused *imaging.Error
	if errors.As(err, &refused) {
		return Row{}, problem(string(refused.Code), "%s", refused.Error()), nil
	}
	if err != nil {
		return Row{}, nil, fmt.Errorf("preprocess %s: %w", c.object.Key, err)
	}
	_, err = store.Put(ctx, row.Processed(), png, journal.Always())
	return row, nil, err
}

func (r Request) preprocess(data []byte) ([]byte, error) {
	pixels, err := imaging.Preprocess(data, r.Config.Image, r.Limits)
	if err != nil {
		return nil, err
	}
	return pixels.PNG()
}
