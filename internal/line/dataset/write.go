package dataset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// write freezes rows under their digest: the manifest first, dataset.json last
// and only once. A run killed between leaves no data set; a second run
// finishes it.
func (r Request) write(ctx context.Context, store Store, parent Dataset, rows []Row, g Growth) (Dataset, error) {
	manifest, err := EncodeManifest(rows)
	if err != nil {
		return Dataset{}, err
	}
	d, err := r.describe(parent, rows, g, hash(manifest))
	if err != nil {
		return Dataset{}, err
	}
	if _, err := store.Put(ctx, manifestKey(d.Digest), manifest, journal.Always()); err != nil {
		return Dataset{}, fmt.Errorf("write the manifest: %w", err)
	}
	_, err = journal.Create(ctx, store, describeKey(d.Digest), d)
	if errors.Is(err, journal.ErrConflict) {
		return Describe(ctx, store, d.Digest) // an earlier run finished it
	}
	return d, err
}

func (r Request) describe(parent Dataset, rows []Row, g Growth, digest string) (Dataset, error) {
	counts, prevalence, err := count(rows, r.Labels)
	if err != nil {
		return Dataset{}, err
	}
	if r.Parent == "" {
		if err := enough(counts); err != nil {
			return Dataset{}, fmt.Errorf("batch %s: %w", r.Batch.Prefix, err)
		}
	} else if counts[FinalEval].Digest != parent.Splits[FinalEval].Digest {
		return Dataset{}, errors.New("final_eval would change: this is a fault of the program, nothing was written")
	}
	return Dataset{
		Schema: Schema, Digest: digest, Parent: r.Parent,
		Batch: r.Batch.Key, Batches: append(slices.Clone(parent.Batches), r.Batch.Key),
		Pipeline: r.Config.Image.Pipeline(),
		Labels:   r.Labels, Slices: slices.Sorted(maps.Keys(r.Config.Slices)),
		Splits: counts, Prevalence: prevalence,
		Quarantined: orEmpty(g.Quarantined), Duplicates: orEmpty(g.Duplicates), SetAside: g.SetAside,
		Source: r.Config.Source, Licence: r.Config.Licence, CreatedBy: r.CreatedBy,
	}, nil
}

// enough refuses a first data set with an empty split: nothing could be
// trained, chosen or judged on it.
func enough(counts map[string]Count) error {
	for _, split := range Splitting {
		if counts[split].Rows == 0 {
			return verdict.Coded(TooFewGroups, fmt.Errorf("the split %s would be empty: the first batch needs more groups, %d are too few for data.splits in penstock.yaml", split, groups(counts)))
		}
	}
	return nil
}

func groups(counts map[string]Count) int {
	n := 0
	for _, c := range counts {
		n += c.Groups
	}
	return n
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
