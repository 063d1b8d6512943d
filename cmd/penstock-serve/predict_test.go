package main

import (
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// save writes a result file with subjects, as an earlier step does.
func (w *world) save(name string, subjects map[string]string) string {
	w.t.Helper()
	r := verdict.Passed("done")
	r.Command, r.Subjects = name, subjects
	path := w.dir + "/" + name + ".json"
	must(w.t, r.Save(path))
	return path
}

func TestPredictRunsEveryModelOnEveryDataSetOnce(t *testing.T) {
	w := newWorld(t)
	candidate := w.publish(bundletest.Mean)
	champion := w.publish(bundletest.Mean, func(m *bundle.Manifest) { m.Provenance.RunKey = "champion" })
	d := w.upload(bundletest.Spec, "Nodule", "Effusion")
	older := w.upload(bundletest.Spec, "Effusion", "Nodule") // another order is no other set
	if older.digest == d.digest {
		t.Fatal("one data set")
	}
	first := w.save("dataset", map[string]string{"dataset": d.digest, "champion": champion, "champion_dataset": older.digest})
	second := w.save("train", map[string]string{"dataset": d.digest, "model": candidate})
	args := []string{"predict", "--from", first, "--from", second, "--split", "test", "--result", w.dir + "/result.json"}
	for _, want := range []string{"4 of 4 predictions files are new", "0 of 4 predictions files are new"} {
		if code, out := w.run(args...); code != 0 || !strings.Contains(out, want) {
			t.Fatalf("exit code %d, want %q:\n%s", code, want, out)
		}
	}
	r, err := verdict.Load(w.dir + "/result.json")
	must(t, err)
	for role, digest := range map[string]string{"model": candidate, "champion": champion, "dataset": d.digest, "champion_dataset": older.digest} {
		if r.Subjects[role] != digest {
			t.Errorf("subject %s: %q", role, r.Subjects[role])
		}
	}
	keys := strings.Split(r.Outputs["predictions"], "\n")
	if len(keys) != 4 {
		t.Fatalf("keys %q", keys)
	}
	for _, key := range keys {
		data, _, err := w.bucket.Get(t.Context(), key)
		must(t, err)
		meta, rows, err := predictions.Decode(data)
		must(t, err)
		if predictions.Key(meta.Dataset, meta.Split, meta.Model) != key || len(rows) != 6 {
			t.Errorf("%s holds %+v, %d rows", key, meta, len(rows))
		}
	}
}

func TestPredictNamesWhatDoesNotFit(t *testing.T) {
	w := newWorld(t)
	model := w.publish(bundletest.Mean)
	failing := w.publish(bundletest.Failing)
	d := w.upload(bundletest.Spec, "Nodule", "Effusion")
	otherLabels := w.upload(bundletest.Spec, "Nodule", "Mass")
	wide := bundletest.Spec
	wide.Width = 9
	otherPixels := w.upload(wide, "Nodule", "Effusion")
	taken := w.publish(bundletest.Mean, func(m *bundle.Manifest) { m.Provenance.RunKey = "taken" })
	must(t, w.bucket.UploadBytes(t.Context(), predictions.Key(d.digest, "test", taken), []byte("not Parquet")))
	unknown := strings.Repeat("0", 64)
	saved := w.save("dataset", map[string]string{"dataset": d.digest})
	clash := w.save("train", map[string]string{"dataset": otherLabels.digest})
	cases := []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no model", []string{"--dataset", d.digest}, 2, "--model"},
		{"no data set", []string{"--model", model}, 2, "--dataset"},
		{"model that is no digest", []string{"--model", "latest", "--dataset", d.digest}, 2, "64 lower-case hex digits"},
		{"unknown model", []string{"--model", unknown, "--dataset", d.digest}, 1, unknown},
		{"unknown data set", []string{"--model", model, "--dataset", unknown}, 1, "no such data set"},
		{"unknown split", []string{"--model", model, "--dataset", d.digest, "--split", "holdout"}, 2, "holdout"},
		{"other labels", []string{"--model", model, "--dataset", otherLabels.digest}, 1, "cannot be compared"},
		{"other pixels", []string{"--model", model, "--dataset", otherPixels.digest}, 1, "was preprocessed as go-9x8x1"},
		{"a file that is none", []string{"--model", taken, "--dataset", d.digest}, 1, "remove it to predict again"},
		{"results that clash", []string{"--model", model, "--from", saved, "--from", clash}, 1, "different runs"},
		{"no project file", []string{"--model", model, "--dataset", d.digest, "--config", "none.yaml"}, 1, "none.yaml"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, out := w.run(append([]string{"predict"}, c.args...)...)
			if code != c.code || !strings.Contains(out, c.text) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.text, out)
			}
		})
	}
	// the test split holds no picture that is bright enough for it to fail
	if code, out := w.run("predict", "--model", failing, "--dataset", d.digest); code != 0 {
		t.Errorf("the failing graph: %d %s", code, out)
	}
}

func TestInspectShowsABundleOrWhyItWouldBeRefused(t *testing.T) {
	w := newWorld(t)
	digest := w.publish(bundletest.Mean)
	for _, args := range [][]string{{"--model", digest}, {"--bundle", bundletest.New(t, bundletest.Mean)}} {
		code, out := w.run(append([]string{"inspect"}, args...)...)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, out)
		}
		for _, want := range []string{digest, "Nodule", "0.6", "urgent", "golden_difference", "go-8x8x1-bilinear-v2"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
	}
	for text, args := range map[string][]string{
		`the manifest names "scores"`: {"--bundle", bundletest.New(t, bundletest.Renamed)},
		"is not a model bundle":       {"--bundle", w.dir},
		"no such file":                {"--bundle", w.dir + "/none"},
	} {
		if code, out := w.run(append([]string{"inspect"}, args...)...); code != 1 || !strings.Contains(out, text) {
			t.Errorf("exit code %d, want 1 and %q:\n%s", code, text, out)
		}
	}
	if code, _ := w.run("inspect"); code != 2 {
		t.Errorf("without a bundle: exit code %d, want 2", code)
	}
}
