package dataset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Store is the bucket as Grow needs it.
type Store interface {
	journal.Store
	Exists(ctx context.Context, key string) (bool, error)
}

// Batch is what the watcher claimed: a key, the folder and its objects as they
// were then.
type Batch struct {
	Key     string
	Prefix  string // raw/<batch>/
	Objects []Object
}

// Object is one object of a batch. Size is in bytes.
type Object struct {
	Key, ETag string
	Size      int64
}

// Marker is the name of the empty file that says that a batch is complete. It
// is not part of the batch.
const Marker = "_SUCCESS"

// Request asks for a data set: its parent plus a batch.
type Request struct {
	Config    Config
	Labels    []string // in penstock.yaml's order
	Parent    string   // digest; empty for the first data set
	Batch     Batch
	CreatedBy string // run key
	Limits    imaging.Limits
	Begin     func(files int) // told how many files will be looked at; may be nil
	Step      func()          // told after each; may be nil
}

// Growth is what came of a Request. Added and the lists are about the batch,
// also where nothing changed.
type Growth struct {
	Dataset     Dataset
	Changed     bool // false: all that is usable was there already
	Added       int  // images
	Quarantined []Quarantined
	Duplicates  []Duplicate
	SetAside    []string
	Warnings    []string
}

// Reason codes of errors that concern the whole batch.
const (
	NoTable         = "no-table"
	BadTable        = "bad-table"
	NothingUsable   = "nothing-usable"
	BatchChanged    = "batch-changed"
	TooFewGroups    = "too-few-groups"
	PipelineChanged = "pipeline-changed"
	LabelsChanged   = "labels-changed"
)

// Grow makes the data set of parent and batch. It may be repeated: what is
// there already is used again, and the digest is the same.
func Grow(ctx context.Context, store Store, r Request) (Growth, error) {
	if err := r.Config.checkLabels(r.Labels); err != nil {
		return Growth{}, err
	}
	parent, rows, err := r.parent(ctx, store)
	if err != nil {
		return Growth{}, err
	}
	if slices.Contains(parent.Batches, r.Batch.Key) {
		return Growth{Dataset: parent}, nil // though raw/ may be cleared by now
	}
	entries, err := r.table(ctx, store)
	if err != nil {
		return Growth{}, err
	}
	candidates, quarantined := match(entries, r.Batch, r.Config)
	sound, bad, err := r.examine(ctx, store, candidates)
	if err != nil {
		return Growth{}, fmt.Errorf("batch %s: %w", r.Batch.Prefix, err)
	}
	fresh, duplicates, conflicting := deduplicate(rows, sound)
	placed, aside := place(rows, fresh, r.Config.Splits)
	g := Growth{
		Added:       len(placed),
		Duplicates:  duplicates,
		SetAside:    files(aside),
		Quarantined: slices.Concat(quarantined, bad, conflicting),
	}
	slices.SortFunc(g.Quarantined, func(a, b Quarantined) int { return strings.Compare(a.File, b.File) })
	g.Warnings = warnings(g)
	if len(placed)+len(duplicates)+len(aside) == 0 {
		return g, verdict.Coded(NothingUsable, fmt.Errorf("batch %s: not one of its files can be used: %s", r.Batch.Prefix, tally(g.Quarantined)))
	}
	if len(placed) == 0 {
		g.Dataset = parent
		return g, nil
	}
	g.Changed = true
	g.Dataset, err = r.write(ctx, store, parent, append(rows, placed...), g)
	return g, err
}

func (r Request) parent(ctx context.Context, store Store) (Dataset, []Row, error) {
	if r.Parent == "" {
		return Dataset{}, nil, nil
	}
	d, rows, err := Load(ctx, store, r.Parent)
	if err != nil {
		return d, nil, fmt.Errorf("parent: %w", err)
	}
	if p := r.Config.Image.Pipeline(); d.Pipeline != p {
		return d, nil, verdict.Coded(PipelineChanged, fmt.Errorf("the parent %s was preprocessed as %s, and data.image in penstock.yaml says %s: models of the two cannot be compared; restore data.image, or begin in a new bucket", r.Parent, d.Pipeline, p))
	}
	for _, row := range rows {
		for _, l := range row.Labels {
			if !slices.Contains(r.Labels, l) {
				return d, nil, verdict.Coded(LabelsChanged, fmt.Errorf("the parent %s has images with the label %q, which penstock.yaml no longer names: restore it, or begin in a new bucket", r.Parent, l))
			}
		}
	}
	return d, rows, nil
}

// maxTable bounds a table, which is held in memory: 256 MiB, some million rows.
const maxTable = 256 << 20

// table reads the batch's table.
func (r Request) table(ctx context.Context, store Store) ([]entry, error) {
	key := r.Batch.Prefix + r.Config.Table
	i := slices.IndexFunc(r.Batch.Objects, func(o Object) bool { return o.Key == key })
	if i < 0 {
		return nil, verdict.Coded(NoTable, fmt.Errorf("batch %s has no table: upload %s (data.table in penstock.yaml) with the columns %q, %q and %q", r.Batch.Prefix, key, r.Config.Columns.File, r.Config.Columns.Labels, r.Config.Columns.Group))
	}
	if o := r.Batch.Objects[i]; o.Size > maxTable {
		return nil, verdict.Coded(BadTable, fmt.Errorf("the table %s has %d bytes, at most %d are read", key, o.Size, maxTable))
	}
	data, err := fetch(ctx, store, r.Batch.Objects[i])
	if err != nil {
		return nil, fmt.Errorf("table of batch %s: %w", r.Batch.Prefix, err)
	}
	entries, err := readTable(data, r.Config, r.Labels)
	if err != nil {
		return nil, verdict.Coded(BadTable, fmt.Errorf("the table %s cannot be used: %w", key, err))
	}
	return entries, nil
}

// fetch reads an object and makes sure that it still is what was claimed.
func fetch(ctx context.Context, store Reader, o Object) ([]byte, error) {
	data, etag, err := store.Get(ctx, o.Key)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, verdict.Coded(BatchChanged, fmt.Errorf("%s was removed since the batch was claimed: the watcher gives what is there now a key of its own; use that (%w)", o.Key, err))
	}
	if err != nil {
		return nil, err
	}
	if etag != o.ETag {
		return nil, verdict.Coded(BatchChanged, fmt.Errorf("%s was overwritten since the batch was claimed: the watcher gives what is there now a key of its own; use that", o.Key))
	}
	return data, nil
}

// candidate is a file with a sound line in the table.
type candidate struct {
	entry
	object Object
	file   string // below raw/
}

// match brings files and table together; what has no partner is quarantined.
func match(entries []entry, b Batch, c Config) ([]candidate, []Quarantined) {
	var candidates []candidate
	var bad []Quarantined
	quarantine := func(file string, p *Problem) { bad = append(bad, Quarantined{file, p.Code, p.Reason}) }
	objects := map[string]Object{}
	for _, o := range b.Objects {
		if name := strings.TrimPrefix(o.Key, b.Prefix); name != c.Table && name != Marker {
			objects[name] = o
		}
	}
	folder := strings.TrimPrefix(b.Prefix, c.Raw)
	for _, e := range entries {
		o, there := objects[e.file]
		delete(objects, e.file)
		switch {
		case !there:
			quarantine(folder+e.file, problem(FileMissing, "the table names it, and the batch has no such file"))
		case e.problem != nil:
			quarantine(folder+e.file, e.problem)
		default:
			candidates = append(candidates, candidate{e, o, folder + e.file})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		quarantine(folder+name, problem(NotInTable, "the table does not name it"))
	}
	return candidates, bad
}

// deduplicate keeps one row for each new content. The same content under
// another group or with other labels cannot be trusted at all.
func deduplicate(parent, rows []Row) (fresh []Row, duplicates []Duplicate, bad []Quarantined) {
	known := map[string]Row{}
	for _, r := range parent {
		known[r.SHA256] = r
	}
	copies := map[string][]Row{}
	for _, r := range rows {
		copies[r.SHA256] = append(copies[r.SHA256], r)
	}
	for _, sum := range slices.Sorted(maps.Keys(copies)) {
		same := copies[sum]
		slices.SortFunc(same, func(a, b Row) int { return strings.Compare(a.File, b.File) })
		all := same
		old, contained := known[sum]
		if contained {
			all = append([]Row{old}, same...)
		}
		if p := conflict(all); p != nil {
			for _, r := range same {
				bad = append(bad, Quarantined{r.File, p.Code, p.Reason})
			}
			continue
		}
		if !contained {
			fresh = append(fresh, same[0])
			same = same[1:]
		}
		for _, r := range same {
			duplicates = append(duplicates, Duplicate{r.File, all[0].File})
		}
	}
	byFile := func(a, b Duplicate) int { return strings.Compare(a.File, b.File) }
	slices.SortFunc(duplicates, byFile)
	return fresh, duplicates, bad
}

func conflict(same []Row) *Problem {
	first := same[0]
	for _, r := range same[1:] {
		if r.Group != first.Group {
			return problem(ConflictingGroups, "the same content stands under two groups: %s and %s", first.File, r.File)
		}
		if !slices.Equal(r.Labels, first.Labels) {
			return problem(ConflictingLabels, "the same content has different labels: %s and %s", first.File, r.File)
		}
	}
	return nil
}

func files(rows []Row) []string {
	names := []string{}
	for _, r := range rows {
		names = append(names, r.File)
	}
	slices.Sort(names)
	return names
}

func warnings(g Growth) []string {
	var w []string
	if len(g.Quarantined) > 0 {
		w = append(w, fmt.Sprintf("%d files are quarantined: %s", len(g.Quarantined), tally(g.Quarantined)))
	}
	if len(g.SetAside) > 0 {
		w = append(w, fmt.Sprintf("%d images are set aside: their groups belong to final_eval", len(g.SetAside)))
	}
	return w
}

// tally tells how often each reason occurs, and one example.
func tally(bad []Quarantined) string {
	counts, example := map[string]int{}, map[string]Quarantined{}
	for _, q := range bad {
		if counts[q.Code] == 0 {
			example[q.Code] = q
		}
		counts[q.Code]++
	}
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		q := example[code]
		parts = append(parts, fmt.Sprintf("%d %s (%s: %s)", counts[code], code, q.File, q.Reason))
	}
	if parts == nil {
		return "the batch has no files"
	}
	return strings.Join(parts, "; ")
}
