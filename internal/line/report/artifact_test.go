package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnArtifactSurvivesItsFile(t *testing.T) {
	facts := factsOf(benign())
	data, err := NewArtifact(12, facts).Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ArtifactFile), data, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := ReadArtifact(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := a.Number(); n != 12 || err != nil {
		t.Errorf("number %d, %v", n, err)
	}
	if diff := cmp.Diff(Render(facts), Render(a.Facts)); diff != "" {
		t.Error(diff)
	}
}

func TestArtifactsThatAreNotOfOurFormAreRefused(t *testing.T) {
	good, err := NewArtifact(12, Facts{Project: "xray"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, new string) string {
		changed := strings.Replace(string(good), old, new, 1)
		if changed == string(good) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return changed
	}
	for name, text := range map[string]string{
		"nothing":             "",
		"Markdown":            "# all is fine",
		"an unknown key":      with(`"schema"`, `"body": "x", "schema"`),
		"an unknown fact":     with(`"project"`, `"html": "x", "project"`),
		"another schema":      with(ArtifactSchema, "penstock.comment/2"),
		"two values":          string(good) + string(good),
		"text behind":         string(good) + "x",
		"a negative number":   with("12", "-12"),
		"a fraction":          with("12", "1.2"),
		"an exponent":         with("12", "1e2"),
		"zero":                with("12", "0"),
		"a huge number":       with("12", "12345678901"),
		"a number as a path":  with("12", `"../12"`),
		"a string with words": with("12", `"12 OR 1"`),
		"an impossible report": with(`"project": "xray"`,
			`"project": "xray", "report": {"schema": "penstock.evaluation/1"}`),
		"a step with a hostile name": with(`"project": "xray"`,
			`"project": "xray", "steps": [{"name": "gate-<b>", "verdict": "pass", "reason": {"code": "", "text": ""}}]`),
		"a step twice": with(`"project": "xray"`,
			`"project": "xray", "steps": [{"name": "train", "verdict": "pass", "reason": {"code": "", "text": ""}}, {"name": "train", "verdict": "pass", "reason": {"code": "", "text": ""}}]`),
		"too much": with(`"xray"`, `"`+strings.Repeat("x", maxArtifact)+`"`),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ArtifactFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadArtifact(dir); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestAnArtifactIsARegularFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadArtifact(dir); err == nil {
		t.Error("nothing was read as an artifact")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	good, err := NewArtifact(12, Facts{}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, ArtifactFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadArtifact(dir); err == nil {
		t.Error("a link to a file elsewhere was followed")
	}
}

// FuzzArtifact: whatever is read as an artifact renders to a comment that is
// found again and keeps the limit.
func FuzzArtifact(f *testing.F) {
	for _, s := range hostile {
		data, err := json.Marshal(NewArtifact(1, factsOf(every(s))))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decodeArtifact(data)
		if err != nil {
			return
		}
		a.Facts.Project = "xray"
		body := Render(a.Facts)
		if len(body) > Limit || strings.Count(body, "<!--") != 1 || len(Find([]Comment{{Body: body, Author: "b"}}, "b", "xray")) != 1 {
			t.Errorf("%d bytes:\n%s", len(body), body)
		}
	})
}

// An interval with one end is none, wherever it stands in a report.
func TestAnIntervalWithOneEndIsRefusedAndBringsNobodyDown(t *testing.T) {
	facts := factsOf(benign())
	low := -0.1
	facts.Report.BatchRows.Difference.Low, facts.Report.BatchRows.Difference.High = &low, nil
	if body := Render(facts); !strings.Contains(body, "+0.110 |") {
		t.Errorf("the difference is not told as a plain number:\n%s", body)
	}
	data, err := NewArtifact(1, facts).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeArtifact(data); err == nil || !strings.Contains(err.Error(), "interval") {
		t.Errorf("read with the error %v", err)
	}
}
