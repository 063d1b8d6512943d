package api_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
)

func TestMetadataNamesTheDigestAsVersion(t *testing.T) {
	w := serve(t, bundletest.Mean)
	if s := decode[oip.Server](t, w.do("GET", "/v2", "", nil)); s.Name != "penstock-serve" || s.Version != "v0" {
		t.Errorf("server %+v", s)
	}
	for _, path := range []string{"/v2/models/test", "/v2/models/test/versions/" + w.digest} {
		a := w.do("GET", path, "", nil)
		m := decode[oip.Model](t, a)
		if a.header.Get("Penstock-Model-Digest") != w.digest || len(m.Versions) != 1 || m.Versions[0] != w.digest {
			t.Errorf("%s: %+v", path, m)
		}
		if got := fmt.Sprint(m.Inputs, m.Outputs); got != "[{input FP32 [-1 1 8 8]}] [{scores FP32 [-1 2]} {heatmap FP32 [-1 2 8 8]} {features FP32 [-1 1]}]" {
			t.Errorf("%s", got)
		}
	}
	for path, want := range map[string]int{
		"/v2/health/ready": 200, "/v2/models/test/ready": 200, "/v2/models/other": 404,
		"/v2/models/test/versions/1": 404, "/v2/models/test/versions/" + w.digest + "/ready": 200,
	} {
		if a := w.do("GET", path, "", nil); a.status != want {
			t.Errorf("%s: %d, want %d", path, a.status, want)
		}
	}
}

// inferBody is a request for n pictures whose values are all v.
func inferBody(n int, v float32, extra string) []byte {
	data := strings.Repeat(fmt.Sprintf("%v,", v), n*64)
	return fmt.Appendf(nil, `{"id":"a1","inputs":[{"name":"input","datatype":"FP32","shape":[%d,1,8,8],"data":[%s]}]%s}`, n, strings.TrimSuffix(data, ","), extra)
}

func TestInferAnswersTheGraphsOutputs(t *testing.T) {
	w := serve(t, bundletest.Mean)
	a := w.do("POST", "/v2/models/test/infer", "application/json", inferBody(2, 0.5, ""))
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := w.counts.last.Batch; got != 1 {
		t.Errorf("counted as one of %d in a run", got)
	}
	r := decode[inferAnswer](t, a)
	if r.ID != "a1" || r.Model != "test" || r.Version != w.digest || len(r.Outputs) != 3 {
		t.Fatalf("%+v", r)
	}
	pixels := imaging.Pixels{Width: 8, Height: 8, Channels: 1, Pix: bytes.Repeat([]byte{0, 255}, 32)} // mean 0.5
	want := bundletest.Scores(pixels)
	scores := r.Outputs[0]
	if scores.Name != "scores" || fmt.Sprint(scores.Shape) != "[2 2]" {
		t.Fatalf("%+v", scores)
	}
	for i, got := range scores.Data {
		if d := got - want[i%2]; d > 1e-6 || d < -1e-6 {
			t.Errorf("score %d: %v, want %v", i, got, want[i%2])
		}
	}
	only := decode[inferAnswer](t, w.do("POST", "/v2/models/test/infer", "application/json", inferBody(1, 0.5, `,"outputs":[{"name":"features"}]`)))
	if len(only.Outputs) != 1 || only.Outputs[0].Name != "features" {
		t.Errorf("%+v", only.Outputs)
	}
}

func TestInferNamesWhatIsWrongWithARequest(t *testing.T) {
	w := serve(t, bundletest.Mean)
	input := func(name, kind, shape, data string) string {
		return fmt.Sprintf(`{"inputs":[{"name":%q,"datatype":%q,"shape":%s,"data":%s}]}`, name, kind, shape, data)
	}
	cases := map[string]struct{ body, text string }{
		"not JSON":        {"hello", "no object"},
		"no input":        {"{}", "no inputs"},
		"another name":    {input("image", "FP32", "[1]", "[1]"), `the model takes "input"`},
		"another type":    {input("input", "UINT8", "[1,1,1,1]", "[1]"), "UINT8"},
		"unknown type":    {input("input", "FLOAT", "[1,1,1,1]", "[1]"), "FLOAT"},
		"another shape":   {input("input", "FP32", "[1,1,1,1]", "[1]"), "shape"},
		"rank":            {input("input", "FP32", "[1]", "[1]"), "shape"},
		"negative":        {input("input", "FP32", "[-1,1,8,8]", "[]"), "no dimension"},
		"huge":            {input("input", "FP32", "[99999999999,1,8,8]", "[]"), "more than"},
		"too few":         {input("input", "FP32", "[1,1,8,8]", "[1,2,3]"), "fewer"},
		"too many":        {input("input", "FP32", "[1,1,1,1]", "[1,2]"), "more"},
		"NaN":             {input("input", "FP32", "[1,1,1,1]", "[NaN]"), "NaN"},
		"infinity":        {input("input", "FP32", "[1,1,1,1]", "[1e99]"), "1e99"},
		"no data":         {`{"inputs":[{"name":"input","datatype":"FP32","shape":[1,1,8,8]}]}`, "neither data"},
		"unknown output":  {string(inferBody(1, 0, `,"outputs":[{"name":"logits"}]`)), "logits"},
		"output twice":    {string(inferBody(1, 0, `,"outputs":[{"name":"scores"},{"name":"scores"}]`)), "twice"},
		"negative length": {input("input", "FP32", "[1,1,8,-8]", "[]"), "no dimension"},
		"field twice":     {`{"inputs":[],"inputs":[]}`, "twice"},
		"input twice":     {`{"inputs":[{"name":"input","datatype":"FP32","shape":[1],"data":[1]},{"name":"input","datatype":"FP32","shape":[1],"data":[1]}]}`, "two tensors"},
		"depth":           {`{"parameters":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, ""},
		"deep data":       {input("input", "FP32", "[1]", strings.Repeat("[", 100000)), ""},
	}
	for name, c := range cases {
		w.counts.take()
		a := w.do("POST", "/v2/models/test/infer", "application/json", []byte(c.body))
		if a.status != 400 {
			t.Errorf("%s: status %d", name, a.status)
		}
		if e := decode[oip.Error](t, a); !strings.Contains(e.Error, c.text) {
			t.Errorf("%s: %q, want %q in it", name, e.Error, c.text)
		}
		if got := w.counts.take(); !strings.HasSuffix(got, " client_error") {
			t.Errorf("%s: counted %q", name, got)
		}
	}
	if a := w.do("POST", "/v2/models/test/versions/1/infer", "application/json", inferBody(1, 0, "")); a.status != 404 {
		t.Errorf("another version: %d", a.status)
	}
}

// inferAnswer is the body of an answer to infer, with float32 outputs.
type inferAnswer struct {
	ID      string `json:"id"`
	Model   string `json:"model_name"`
	Version string `json:"model_version"`
	Outputs []struct {
		Name     string       `json:"name"`
		Shape    []int64      `json:"shape"`
		Datatype oip.Datatype `json:"datatype"`
		Data     []float32    `json:"data"`
	} `json:"outputs"`
}
