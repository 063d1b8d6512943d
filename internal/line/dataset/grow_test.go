package dataset_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// picture is a small PNG whose content depends on n alone.
// hugePNG is a sound header that promises 40,000 x 40,000 pixels.
// upload is a batch in the making.
// patients adds two images for each of the patients first to last.
// send uploads the batch and answers it as a watcher would.
// fails wants an error with this reason code that says these words.
func TestGrowOnMinIO(t *testing.T) {
	s3 := servertest.MinIO(t)
	for name, test := range map[string]func(*testing.T, *objectstore.Bucket){
		"bad files are quarantined with their reasons":               badFiles,
		"duplicates are dropped and contradictions quarantined":      contradictions,
		"a second batch moves nothing and leaves final_eval":         secondBatch,
		"a contained batch changes nothing":                          contained,
		"a run killed at any write leaves the old and can be rerun":  killed,
		"the digest depends on content alone":                        digestOfContent,
		"a batch that changed after its claim is refused":            changedBatch,
		"a batch that cannot be used at all says why":                unusable,
		"a parent made otherwise is refused":                         otherParent,
		"a damaged manifest is refused":                              damagedManifest,
		"the head moves only from the parent":                        headMoves,
		"of many that accept on one parent exactly one wins":         acceptRace,
		"a refused batch stays out until it is readmitted":           refused,
		"a local copy holds the asked splits and is used again":      localCopy,
		"a local copy that is torn or another's is refused":          tornCopy,
		"copies made at once by many are made once":                  copyRace,
		"a failed copy leaves nothing":                               failedCopy,
		"a cancelled run says so":                                    cancelledRun,
		"a batch that the parent has by key needs no files any more": clearedRaw,
	} {
		t.Run(name, func(t *testing.T) { test(t, bucket(t, s3)) })
	}
}

func badFiles(t *testing.T, b *objectstore.Bucket) {
	u := newUpload("one").patients(t, 1, 20)
	sound := picture(t, 7777)
	u.add("cut.png", "p90", "Mass", sound[:len(sound)/2])
	u.add("empty.png", "p91", "Mass", []byte{})
	u.add("text.png", "p92", "Mass", []byte("no picture at all"))
	u.add("huge.png", "p93", "Mass", hugePNG())
	u.add("gone.png", "p94", "Mass", nil)
	u.add("cough.png", "p95", "Cough", sound)
	u.add("../two/away.png", "p96", "Mass", nil)
	u.files["stray.txt"] = []byte("x")
	u.files["_SUCCESS"] = nil
	g := grow(t, b, request(u.send(t, b), ""))
	codes := map[string]string{}
	for _, q := range g.Quarantined {
		codes[q.File] = q.Code
		if q.Reason == "" || strings.Contains(q.Reason, "p9") {
			t.Errorf("%s: reason %q", q.File, q.Reason)
		}
	}
	want := map[string]string{
		"one/cut.png": "truncated", "one/empty.png": "empty", "one/text.png": "unsupported", "one/huge.png": "too-large",
		"one/gone.png": dataset.FileMissing, "one/cough.png": dataset.UnknownLabel, "one/../two/away.png": dataset.FileMissing,
		"one/stray.txt": dataset.NotInTable,
	}
	if d := cmp.Diff(want, codes); d != "" {
		t.Error(d)
	}
	d, rows := load(t, b, g.Dataset.Digest)
	if len(rows) != 40 || g.Added != 40 || !g.Changed || len(d.Quarantined) != len(want) || len(g.Warnings) != 1 {
		t.Errorf("%d rows, %d added, changed %v, %d quarantined, warnings %q", len(rows), g.Added, g.Changed, len(d.Quarantined), g.Warnings)
	}
	if d.CreatedBy != "run" || d.Parent != "" || d.Splits[dataset.Train].Rows == 0 || d.Splits[dataset.Train].Positives["Mass"] == 0 {
		t.Errorf("%+v", d)
	}
	data, _, err := b.Get(t.Context(), rows[0].Processed())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := imaging.FromPNG(data); err != nil || p.Width != 8 || p.Height != 8 {
		t.Errorf("%+v, %v", p, err)
	}
}

func contradictions(t *testing.T, b *objectstore.Bucket) {
	u := newUpload("one").patients(t, 1, 20)
	u.add("again.png", "p1", "No Finding", picture(t, 2)) // 0002.png of p1, kind 2: No Finding
	u.add("other-label.png", "p2", "Hernia", picture(t, 4))
	u.add("other-patient.png", "p99", "Mass|Hernia", picture(t, 8))
	g := grow(t, b, request(u.send(t, b), ""))
	if d := cmp.Diff([]dataset.Duplicate{{File: "one/again.png", Of: "one/0002.png"}}, g.Duplicates); d != "" {
		t.Error(d)
	}
	codes := map[string]string{}
	for _, q := range g.Quarantined {
		codes[q.File] = q.Code
	}
	want := map[string]string{
		"one/0004.png": dataset.ConflictingLabels, "one/other-label.png": dataset.ConflictingLabels,
		"one/0008.png": dataset.ConflictingGroups, "one/other-patient.png": dataset.ConflictingGroups,
	}
	if d := cmp.Diff(want, codes); d != "" {
		t.Error(d)
	}
	second := newUpload("two").patients(t, 21, 25)
	second.add("flipped.png", "p99", "Mass", picture(t, 10)) // p5's in the parent
	second.add("relabelled.png", "p6", "Mass|Hernia", picture(t, 12))
	h := grow(t, b, request(second.send(t, b), g.Dataset.Digest))
	codes = map[string]string{}
	for _, q := range h.Quarantined {
		codes[q.File] = q.Code
	}
	want = map[string]string{"two/flipped.png": dataset.ConflictingGroups, "two/relabelled.png": dataset.ConflictingLabels}
	if d := cmp.Diff(want, codes); d != "" {
		t.Error(d)
	}
	if _, rows := load(t, b, h.Dataset.Digest); !slices.ContainsFunc(rows, func(r dataset.Row) bool { return r.File == "one/0010.png" }) {
		t.Error("what the parent had is lost to a contradiction")
	}
}

func secondBatch(t *testing.T, b *objectstore.Bucket) {
	first := grow(t, b, request(newUpload("one").patients(t, 1, 40).send(t, b), ""))
	u := newUpload("two").patients(t, 41, 70)
	for p := 1; p <= 40; p++ { // a new image for each old patient
		u.add(fmt.Sprintf("old-%d.png", p), fmt.Sprintf("p%d", p), "Mass", picture(t, 5000+p))
	}
	second := grow(t, b, request(u.send(t, b), first.Dataset.Digest))
	d1, rows1 := load(t, b, first.Dataset.Digest)
	d2, rows2 := load(t, b, second.Dataset.Digest)
	if d2.Parent != d1.Digest || !slices.Equal(d2.Batches, []string{"key-of-one", "key-of-two"}) {
		t.Errorf("parent %s, batches %v", d2.Parent, d2.Batches)
	}
	if d1.Splits[dataset.FinalEval].Digest != d2.Splits[dataset.FinalEval].Digest {
		t.Error("final_eval changed")
	}
	if len(second.SetAside) == 0 || second.Added+len(second.SetAside) != 60+40 {
		t.Errorf("%d set aside, %d added", len(second.SetAside), second.Added)
	}
	kept := map[string]dataset.Row{}
	for _, r := range rows2 {
		kept[r.File] = r
	}
	for _, r := range rows1 {
		if d := cmp.Diff(r, kept[r.File]); d != "" {
			t.Fatal(d)
		}
	}
	byGroup, byContent := map[string]string{}, map[string]string{}
	for _, r := range rows2 {
		if s := byGroup[r.Group]; s != "" && s != r.Split {
			t.Errorf("a group is in %s and %s", s, r.Split)
		}
		if f := byContent[r.SHA256]; f != "" {
			t.Errorf("%s and %s have the same content", f, r.File)
		}
		byGroup[r.Group], byContent[r.SHA256] = r.Split, r.File
	}
}

func contained(t *testing.T, b *objectstore.Bucket) {
	first := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), ""))
	again := grow(t, b, request(newUpload("copy").patients(t, 3, 9).send(t, b), first.Dataset.Digest))
	if again.Changed || again.Added != 0 || again.Dataset.Digest != first.Dataset.Digest || len(again.Duplicates) != 14 {
		t.Errorf("changed %v, %d added, %d duplicates", again.Changed, again.Added, len(again.Duplicates))
	}
}

func clearedRaw(t *testing.T, b *objectstore.Bucket) {
	batch := newUpload("one").patients(t, 1, 20).send(t, b)
	first := grow(t, b, request(batch, ""))
	for _, o := range batch.Objects {
		if err := b.Remove(t.Context(), o.Key); err != nil {
			t.Fatal(err)
		}
	}
	if g := grow(t, b, request(batch, first.Dataset.Digest)); g.Changed || g.Dataset.Digest != first.Dataset.Digest {
		t.Errorf("%+v", g)
	}
}

// dying is a store that dies at one of its writes: this one and all calls
// after it fail.
type dying struct {
	dataset.Store
	left atomic.Int64
}

var errDied = errors.New("killed here")

func (d *dying) Put(ctx context.Context, key string, data []byte, when journal.Condition) (string, error) {
	if d.left.Add(-1) < 0 {
		return "", errDied
	}
	return d.Store.Put(ctx, key, data, when)
}

func killed(t *testing.T, b *objectstore.Bucket) {
	first := grow(t, b, request(newUpload("one").patients(t, 1, 15).send(t, b), ""))
	batch := newUpload("two").patients(t, 16, 20).send(t, b)
	before := keys(t, b)
	whole := grow(t, b, request(batch, first.Dataset.Digest))
	const writes = 10 + 2 // images, manifest, dataset.json
	if n := len(keys(t, b)) - len(before); n != writes {
		t.Fatalf("the run left %d objects, want %d", n, writes)
	}
	for n := range int64(writes) {
		for key := range keys(t, b) {
			if before[key] {
				continue
			}
			if err := b.Remove(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		store := &dying{Store: b}
		store.left.Store(n)
		if _, err := dataset.Grow(t.Context(), store, request(batch, first.Dataset.Digest)); !errors.Is(err, errDied) {
			t.Fatalf("killed at write %d: %v", n, err)
		}
		if _, rows := load(t, b, first.Dataset.Digest); len(rows) != 30 {
			t.Fatalf("the old data set has %d rows", len(rows))
		}
		if _, _, err := dataset.Load(t.Context(), b, whole.Dataset.Digest); !errors.Is(err, dataset.ErrUnknown) {
			t.Fatalf("killed at write %d, the new data set is there: %v", n, err)
		}
	}
	again := grow(t, b, request(batch, first.Dataset.Digest))
	if d := cmp.Diff(whole, again); d != "" {
		t.Errorf("the rerun differs: %s", d)
	}
	if _, rows := load(t, b, again.Dataset.Digest); len(rows) != 40 {
		t.Errorf("%d rows after the rerun", len(rows))
	}
}

func keys(t *testing.T, b *objectstore.Bucket) map[string]bool {
	t.Helper()
	objects, err := b.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, o := range objects {
		set[o.Key] = true
	}
	return set
}

func digestOfContent(t *testing.T, b *objectstore.Bucket) {
	batch := newUpload("one").patients(t, 1, 20).send(t, b)
	want := grow(t, b, request(batch, "")).Dataset.Digest
	slices.Reverse(batch.Objects)
	r := request(batch, "")
	r.CreatedBy = "another run"
	if got := grow(t, b, r); got.Dataset.Digest != want || got.Dataset.CreatedBy != "run" {
		t.Errorf("digest %s made by %s, want %s as the first run left it", got.Dataset.Digest, got.Dataset.CreatedBy, want)
	}
	u := newUpload("one").patients(t, 1, 20)
	if got := grow(t, b, request(u.send(t, b), "")).Dataset.Digest; got != want {
		t.Errorf("uploaded again: %s, want %s", got, want)
	}
	u.files["0005.png"] = append(u.files["0005.png"], 0) // the decoder does not mind
	if g := grow(t, b, request(u.send(t, b), "")); g.Dataset.Digest == want || len(g.Quarantined) > 0 {
		t.Errorf("another byte, the same digest; quarantined %v", g.Quarantined)
	}
}

func changedBatch(t *testing.T, b *objectstore.Bucket) {
	batch := newUpload("one").patients(t, 1, 20).send(t, b)
	if err := b.UploadBytes(t.Context(), "raw/one/0007.png", picture(t, 999)); err != nil {
		t.Fatal(err)
	}
	_, err := dataset.Grow(t.Context(), b, request(batch, ""))
	fails(t, err, dataset.BatchChanged, "raw/one/0007.png", "overwritten")
	if err := b.Remove(t.Context(), "raw/one/0007.png"); err != nil {
		t.Fatal(err)
	}
	_, err = dataset.Grow(t.Context(), b, request(batch, ""))
	fails(t, err, dataset.BatchChanged, "raw/one/0007.png", "removed")
}

func unusable(t *testing.T, b *objectstore.Bucket) {
	noTable := newUpload("no-table").patients(t, 1, 2)
	noTable.table = nil
	_, err := dataset.Grow(t.Context(), b, request(noTable.send(t, b), ""))
	fails(t, err, dataset.NoTable, "raw/no-table/labels.csv", `"patient"`)
	badTable := newUpload("bad-table").patients(t, 1, 2)
	badTable.table[0] = "file,labels,sex"
	_, err = dataset.Grow(t.Context(), b, request(badTable.send(t, b), ""))
	fails(t, err, dataset.BadTable, "raw/bad-table/labels.csv", `no column "patient"`)
	nothing := newUpload("nothing")
	nothing.add("a.png", "p", "Cough", picture(t, 1))
	_, err = dataset.Grow(t.Context(), b, request(nothing.send(t, b), ""))
	fails(t, err, dataset.NothingUsable, "1 unknown-label", `"Cough"`)
	_, err = dataset.Grow(t.Context(), b, request(newUpload("few").patients(t, 1, 2).send(t, b), ""))
	fails(t, err, dataset.TooFewGroups, "2 are too few")
	_, err = dataset.Grow(t.Context(), b, request(newUpload("orphan").patients(t, 1, 20).send(t, b), strings.Repeat("0", 64)))
	if !errors.Is(err, dataset.ErrUnknown) {
		t.Errorf("unknown parent: %v", err)
	}
	if left := keys(t, b); slices.ContainsFunc(sorted(left), func(k string) bool { return strings.HasPrefix(k, "datasets/") }) {
		t.Errorf("a data set was written: %v", left)
	}
}

func sorted(set map[string]bool) []string {
	var list []string
	for k := range set {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func otherParent(t *testing.T, b *objectstore.Bucket) {
	first := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), ""))
	second := newUpload("two").patients(t, 21, 25).send(t, b)
	r := request(second, first.Dataset.Digest)
	r.Config.Image.Width = 16
	_, err := dataset.Grow(t.Context(), b, r)
	fails(t, err, dataset.PipelineChanged, first.Dataset.Pipeline, r.Config.Image.Pipeline())
	r = request(second, first.Dataset.Digest)
	r.Labels = []string{"Mass"}
	_, err = dataset.Grow(t.Context(), b, r)
	fails(t, err, dataset.LabelsChanged, `"Hernia"`)
}

func damagedManifest(t *testing.T, b *objectstore.Bucket) {
	digest := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), "")).Dataset.Digest
	key := "datasets/" + digest + "/manifest.jsonl"
	data, _, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := b.UploadBytes(t.Context(), key, data); err != nil {
		t.Fatal(err)
	}
	if _, _, err := dataset.Load(t.Context(), b, digest); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v", err)
	}
	if _, _, err := dataset.Load(t.Context(), b, "../../x"); err == nil {
		t.Error("a path passes for a digest")
	}
}

func cancelledRun(t *testing.T, b *objectstore.Bucket) {
	batch := newUpload("one").patients(t, 1, 20).send(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	r := request(batch, "")
	var once sync.Once
	r.Step = func() { once.Do(cancel) }
	_, err := dataset.Grow(ctx, b, r)
	fails(t, err, verdict.Cancelled)
}
