package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/serve/model"
)

// meta is what the predictions file of a model on a data set says of itself.
func (p *predictor) meta(b *bundle.Bundle, ds string) predictions.Meta {
	return predictions.Meta{
		Schema: predictions.Schema, Dataset: ds, Split: p.split, Model: b.Digest,
		Suite: predictions.SuiteSplit, Tool: "penstock-serve " + action.BuildVersion(version),
		Labels: b.Manifest.LabelNames(), Thresholds: b.Manifest.Thresholds(),
	}
}

// there tells whether the file exists already, and refuses one that is not
// what its key says.
func (p *predictor) there(ctx context.Context, b *bundle.Bundle, ds string) (bool, error) {
	key := predictions.Key(ds, p.split, b.Digest)
	data, _, err := p.w.Bucket.Get(ctx, key)
	if errors.Is(err, journal.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	got, _, err := predictions.Decode(data)
	if err != nil {
		return false, fmt.Errorf("%s is there but cannot be used, remove it to predict again: %w", key, err)
	}
	want := p.meta(b, ds)
	if got.Dataset != want.Dataset || got.Split != want.Split || got.Model != want.Model ||
		got.Suite != want.Suite || !slices.Equal(got.Labels, want.Labels) {
		return false, fmt.Errorf("%s is there but holds the predictions of model %s on %s of data set %s: remove it to predict again", key, got.Model, got.Split, got.Dataset)
	}
	return true, nil
}

// predict writes the file of one model on one data set.
func (p *predictor) predict(ctx context.Context, m *model.Model, ds string) error {
	rows, dir, err := p.rows(ctx, m, ds)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("predict %.12s on %.12s %s", m.Digest(), ds, p.split)
	p.env.Logf("%s: %d images", what, len(rows))
	progress := p.env.Progress(what, len(rows))
	defer progress.Finish()
	predicted, err := scoreAll(ctx, m, dir, rows, p.size, p.runtime.Callers(), progress)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	meta := p.meta(m.Bundle(), ds)
	data, err := predictions.Encode(meta, predicted)
	if err != nil {
		return err
	}
	_, err = p.w.Bucket.Put(ctx, predictions.Key(ds, p.split, m.Digest()), data, journal.IfAbsent())
	if errors.Is(err, journal.ErrConflict) {
		// Somebody else was faster: theirs is as good if it says the same of itself.
		_, err = p.there(ctx, m.Bundle(), ds)
		return err
	}
	if err == nil {
		p.written++
	}
	return err
}

// rows brings the split to the local cache and refuses what the model cannot
// be asked about.
func (p *predictor) rows(ctx context.Context, m *model.Model, ds string) ([]dataset.Row, string, error) {
	described, err := dataset.Describe(ctx, p.w.Bucket, ds)
	if err != nil {
		return nil, "", err
	}
	labels := slices.Sorted(slices.Values(m.Bundle().Manifest.LabelNames()))
	if known := slices.Sorted(slices.Values(described.Labels)); !slices.Equal(known, labels) {
		return nil, "", fmt.Errorf("model %s knows the labels %q, data set %s has %q: they cannot be compared", m.Digest(), labels, ds, known)
	}
	dir := dataset.CacheDir(p.w.Cache, ds, p.split)
	rows, err := dataset.Materialize(ctx, p.w.Bucket, ds, []string{p.split}, dir)
	if err != nil {
		return nil, "", err
	}
	for _, r := range rows {
		if want := m.Spec().Pipeline(); r.Pipeline != want {
			return nil, "", fmt.Errorf("data set %s was preprocessed as %s, model %s wants %s: preprocess it in the model's way, or train anew", ds, r.Pipeline, m.Digest(), want)
		}
	}
	return rows, dir, nil
}

// scoreAll runs the model on all rows, size pictures a run. The scores do not
// depend on who shares a run; the latency of a row is its run's mean.
func scoreAll(ctx context.Context, m *model.Model, dir string, rows []dataset.Row, size, callers int, progress *action.Progress) ([]predictions.Row, error) {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(callers)
	predicted := make([]predictions.Row, len(rows))
	for start := 0; start < len(rows) && groupCtx.Err() == nil; start += size {
		end := min(start+size, len(rows))
		group.Go(func() error {
			if err := score(groupCtx, m, dir, rows[start:end], predicted[start:end]); err != nil {
				return err
			}
			progress.Add(end-start, "")
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return predicted, context.Cause(ctx)
}

// score runs the model once, on all rows, and fills predicted.
func score(ctx context.Context, m *model.Model, dir string, rows []dataset.Row, predicted []predictions.Row) error {
	pictures := make([]imaging.Pixels, len(rows))
	for i, r := range rows {
		data, err := os.ReadFile(dataset.LocalImage(dir, r))
		if err != nil {
			return err
		}
		if pictures[i], err = imaging.FromPNG(data); err != nil {
			return fmt.Errorf("preprocessed image of %s: %w", r.File, err)
		}
	}
	scores, each, err := m.ScoreBatch(ctx, pictures)
	if err != nil {
		return fmt.Errorf("%d images from %s on: %w", len(rows), rows[0].File, err)
	}
	names := m.Bundle().Manifest.LabelNames()
	for i, r := range rows {
		truth := make([]bool, len(names))
		for k, name := range names {
			truth[k] = slices.Contains(r.Labels, name)
		}
		predicted[i] = predictions.Row{
			ID: r.File, Group: r.Group, Split: r.Split, Batch: r.Batch, SHA256: r.SHA256, Slices: r.Slices,
			Labels: truth, Scores: scores[i], LatencyMS: float64(each.Microseconds()) / 1000,
		}
	}
	return nil
}
