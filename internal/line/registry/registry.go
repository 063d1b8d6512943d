// Package registry owns the versions of a model and who of them is the
// champion: the version under the alias production.
//
// The tracking server's registry has no compare-and-swap, so the truth of a
// promotion stands in the bucket too (state/registry/<model>.json, changed by
// conditional PUT only), written before the alias moves. Where the two
// disagree, nobody guesses: Champion answers an error that names the remedy.
package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/journal"
)

// Aliases that Penstock moves.
const (
	Candidate  = "candidate"
	Production = "production"
)

// Tags of a model version.
const (
	TagDigest  = "penstock.model_digest"
	TagDataset = "penstock.dataset_digest"
	TagRunKey  = "penstock.run_key"
	TagCommit  = "penstock.git_commit"
)

var (
	// ErrNoChampion means that nothing was ever promoted: the next rollout is
	// the first.
	ErrNoChampion = errors.New("no model was promoted yet")
	// ErrNotFound means that no version or alias has this name.
	ErrNotFound = errors.New("not found")
	// ErrUnsettled means that alias and record disagree.
	ErrUnsettled = errors.New("alias and record disagree")
)

// Version is a model version of the tracking server.
type Version struct {
	Number int
	Source string // s3://<bucket>/models/<digest>
	RunID  string // the tracking server's run, empty where none
	Tags   map[string]string
}

// Digest is the model digest the version stands for.
func (v Version) Digest() string { return v.Tags[TagDigest] }

// Versions is the tracking server's list of versions. Create makes the
// registered model where it is missing.
type Versions interface {
	List(ctx context.Context, model string) ([]Version, error)
	Create(ctx context.Context, model string, v Version) (Version, error)
}

// Aliases are the tracking server's names for versions. Alias answers
// ErrNotFound where there is none.
type Aliases interface {
	Alias(ctx context.Context, model, alias string) (number int, err error)
	SetAlias(ctx context.Context, model, alias string, number int) error
}

// Promotion is one move of the alias production.
type Promotion struct {
	Digest  string    `json:"digest"`
	Dataset string    `json:"dataset"`
	Version int       `json:"version"`
	Since   time.Time `json:"since"`
}

// Record is the bucket's truth about promotions. Previous is what production
// was before, the target of a rollback.
type Record struct {
	Production *Promotion  `json:"production,omitempty"`
	Previous   *Promotion  `json:"previous,omitempty"`
	History    []Promotion `json:"history"`
}

// historyKept bounds the record's size.
const historyKept = 100

// Champion is the promoted version, with what a rollback would return to.
type Champion struct {
	Promotion
	Previous *Promotion
}

// Registry joins the tracking server with the record in the bucket.
type Registry struct {
	Model    string
	Versions Versions
	Aliases  Aliases
	Store    journal.Store
	Now      func() time.Time
}

func (r *Registry) key() string { return "state/registry/" + r.Model + ".json" }

// Register makes the model version of a bundle, or finds the one that stands
// for the same digest, and moves the alias candidate to it.
func (r *Registry) Register(ctx context.Context, b *bundle.Bundle, source, runKey string) (Version, error) {
	v, err := r.version(ctx, b.Digest)
	if errors.Is(err, ErrNotFound) {
		v, err = r.Versions.Create(ctx, r.Model, Version{
			Source: source, RunID: b.Manifest.Provenance.MLflowRun,
			Tags: map[string]string{
				TagDigest: b.Digest, TagDataset: b.Manifest.Provenance.Dataset,
				TagRunKey: runKey, TagCommit: b.Manifest.Provenance.GitCommit,
			},
		})
	}
	if err != nil {
		return Version{}, fmt.Errorf("register %s of model %s: %w", b.Digest, r.Model, err)
	}
	return v, r.point(ctx, Candidate, v.Number)
}

// Champion reads the promoted version. It answers ErrNoChampion where neither
// alias nor record knows one, and ErrUnsettled where only one of them does or
// they differ.
func (r *Registry) Champion(ctx context.Context) (Champion, error) {
	record, _, err := journal.Load[Record](ctx, r.Store, r.key())
	if err != nil && !errors.Is(err, journal.ErrNotFound) {
		return Champion{}, err
	}
	number, err := r.Aliases.Alias(ctx, r.Model, Production)
	missing := errors.Is(err, ErrNotFound)
	switch {
	case err != nil && !missing:
		return Champion{}, err
	case missing && record.Production == nil:
		return Champion{}, ErrNoChampion
	case missing:
		return Champion{}, fmt.Errorf("model %s: the alias %s is missing, the record says version %d; set the alias to %d again: %w",
			r.Model, Production, record.Production.Version, record.Production.Version, ErrUnsettled)
	case record.Production == nil:
		return Champion{}, fmt.Errorf("model %s: the alias %s names version %d, which no rollout promoted; remove the alias, then roll out: %w",
			r.Model, Production, number, ErrUnsettled)
	case record.Production.Version != number:
		return Champion{}, fmt.Errorf("model %s: the alias %s names version %d, the record version %d (a promotion was cut off, or the alias moved by hand); run the last `penstock rollout` or `penstock rollback` again: %w",
			r.Model, Production, number, record.Production.Version, ErrUnsettled)
	}
	return Champion{Promotion: *record.Production, Previous: record.Previous}, nil
}

// Promote makes the digest's version the champion: record first, then alias,
// then a look at what the alias says. Promoting the champion again changes
// nothing; a promotion that was cut off is completed.
func (r *Registry) Promote(ctx context.Context, digest string) (Promotion, error) {
	v, err := r.version(ctx, digest)
	if err != nil {
		return Promotion{}, fmt.Errorf("promote %s of model %s: %w (register it first)", digest, r.Model, err)
	}
	next := Promotion{Digest: digest, Dataset: v.Tags[TagDataset], Version: v.Number, Since: r.Now().UTC()}
	record, err := journal.Update(ctx, r.Store, r.key(), func(rec *Record) error {
		if rec.Production != nil && rec.Production.Digest == digest {
			return nil
		}
		if rec.Production != nil {
			rec.Previous = rec.Production
			rec.History = append(rec.History, *rec.Production)
			rec.History = rec.History[max(0, len(rec.History)-historyKept):]
		}
		rec.Production = &next
		return nil
	})
	if err != nil {
		return Promotion{}, fmt.Errorf("promote %s of model %s: %w", digest, r.Model, err)
	}
	return *record.Production, r.point(ctx, Production, v.Number)
}

// version finds the version that stands for a digest. Of several the oldest
// counts, so that every caller finds the same.
func (r *Registry) version(ctx context.Context, digest string) (Version, error) {
	if digest == "" {
		return Version{}, errors.New("an empty model digest")
	}
	all, err := r.Versions.List(ctx, r.Model)
	if err != nil {
		return Version{}, err
	}
	var found *Version
	for i, v := range all {
		if v.Digest() == digest && (found == nil || v.Number < found.Number) {
			found = &all[i]
		}
	}
	if found == nil {
		return Version{}, fmt.Errorf("no version of model %s has the digest %s: %w", r.Model, digest, ErrNotFound)
	}
	return *found, nil
}

// point moves an alias and reads it back: setting overwrites without asking.
func (r *Registry) point(ctx context.Context, alias string, number int) error {
	if err := r.Aliases.SetAlias(ctx, r.Model, alias, number); err != nil {
		return fmt.Errorf("model %s: move the alias %s to version %d: %w", r.Model, alias, number, err)
	}
	got, err := r.Aliases.Alias(ctx, r.Model, alias)
	if err != nil {
		return fmt.Errorf("model %s: read the alias %s back: %w", r.Model, alias, err)
	}
	if got != number {
		return fmt.Errorf("model %s: the alias %s names version %s just after it was moved to %s: another program moves it", r.Model, alias, strconv.Itoa(got), strconv.Itoa(number))
	}
	return nil
}
