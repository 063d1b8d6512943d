package dataset

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/imaging"
)

var known = []string{"Mass", "Hernia", "Nodule"}

func config() Config {
	return Config{
		Bucket: "xray", Raw: "raw/", Settle: time.Second, Table: "labels.csv",
		Columns:        Columns{File: "file", Labels: "labels", Group: "patient"},
		LabelSeparator: "|", NoFinding: "No Finding",
		Slices: map[string]Slice{"sex": {Column: "sex"}, "age": {Column: "age", Bands: []float64{40, 60}}},
		Splits: proportions,
		Image:  imaging.Spec{Width: 8, Height: 8, Channels: 1, Filter: "bilinear", Decoder: "go"},
		Normalise: Normalise{
			Scale: 1.0 / 255, Mean: []float64{0.5}, Std: []float64{0.25},
		},
	}
}

func TestTableReadsEveryKindOfRow(t *testing.T) {
	table := "\ufefffile,patient,labels,sex,age,ignored\n" +
		"./a.png,p1,No Finding,F,39.9,x\n" +
		"b.png,p1,Mass|Hernia| Mass ,M,40,x\n" +
		"c.png,p2,Mass,,60,x\n" +
		"d.png,p2,Mass,F,old,x\n" +
		"e.png,p3,,F,1,x\n" +
		"f.png,,Mass,F,1,x\n" +
		"g.png,p3,Cough,F,1,x\n" +
		"h.png,p3,Mass|No Finding,F,1,x\n" +
		"i.png,p3,Mass,F,1,x\n" +
		"i.png,p3,Mass,F,1,y\n" +
		"j.png,p3,Mass,F,1,x\n" +
		"j.png,p3,Hernia,F,1,x\n"
	entries, err := readTable([]byte(table), config(), known)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		line := e.file + " " + e.group + " " + strings.Join(e.labels, "+") + " " + e.slices["sex"] + " " + e.slices["age"]
		if e.problem != nil {
			line = e.file + " " + e.problem.Code
		}
		got = append(got, line)
	}
	want := []string{
		"a.png p1  F <40", "b.png p1 Hernia+Mass M 40..60", "c.png p2 Mass missing >=60", "d.png p2 Mass F missing",
		"e.png no-label", "f.png no-group", "g.png unknown-label", "h.png contradictory-label", "i.png p3 Mass F <40", "j.png named-twice",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTableOfTheWrongFormIsAnErrorThatSaysWhy(t *testing.T) {
	for name, c := range map[string]struct{ table, says string }{
		"empty":          {"", "first line"},
		"no such column": {"file,labels\n", `no column "age", "patient", "sex"`},
		"column twice":   {"file,labels,patient,sex,age,sex\n", `"sex" twice`},
		"short line":     {"file,labels,patient,sex,age\na.png,Mass\n", "line 2"},
		"no file":        {"file,labels,patient,sex,age\n,Mass,p,F,1\n", "line 2 names no file"},
		"open quote":     {"file,labels,patient,sex,age\n\"a.png,Mass,p,F,1\n", "CSV"},
	} {
		if _, err := readTable([]byte(c.table), config(), known); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.says)
		}
	}
}

func TestEmptyCellMeansNoneOnlyWhereNoneHasNoName(t *testing.T) {
	c := config()
	c.NoFinding = ""
	if labels, p := c.labels("", known); p != nil || len(labels) != 0 {
		t.Errorf("%v, %v", labels, p)
	}
}

func TestConfigNamesTheKeyThatIsWrong(t *testing.T) {
	if err := config().Validate(); err != nil {
		t.Fatal(err)
	}
	for says, spoil := range map[string]func(*Config){
		"bucket is missing":     func(c *Config) { c.Bucket = "" },
		"columns.group":         func(c *Config) { c.Columns.Group = "" },
		"label_separator":       func(c *Config) { c.LabelSeparator = "" },
		"raw is":                func(c *Config) { c.Raw = "raw" },
		"table is":              func(c *Config) { c.Table = "../labels.csv" },
		"settle is":             func(c *Config) { c.Settle = 0 },
		"splits.final_eval":     func(c *Config) { c.Splits.FinalEval = 0 },
		"add up to":             func(c *Config) { c.Splits.Train = 0.7 },
		"slices.age.bands":      func(c *Config) { c.Slices = map[string]Slice{"age": {"age", []float64{60, 40}}} },
		"slices.age.column":     func(c *Config) { c.Slices = map[string]Slice{"age": {}} },
		"image: filter":         func(c *Config) { c.Image.Filter = "sinc" },
		"normalise.scale":       func(c *Config) { c.Normalise.Scale = 0 },
		"normalise: mean has 2": func(c *Config) { c.Normalise.Mean = []float64{0, 0} },
		"normalise.std":         func(c *Config) { c.Normalise.Std = []float64{0} },
	} {
		c := config()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one that says %q", err, says)
		}
	}
	for _, l := range []string{"No Finding", "a|b", " a"} {
		if err := config().checkLabels([]string{l}); err == nil {
			t.Errorf("the label %q is taken", l)
		}
	}
}
