package api_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
)

// inferTensors sends the two inputs of the graph Sums as it is told, and reads
// the answer whichever way it comes.
func (w *world) inferTensors(binary bool, r oip.Request) (oip.Response, answer) {
	w.t.Helper()
	body, err := oip.EncodeRequest(r, binary, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var data bytes.Buffer
	if _, err := body.WriteTo(&data); err != nil {
		w.t.Fatal(err)
	}
	h := header{"Content-Type": body.ContentType()}
	if n := body.HeaderLength(); n >= 0 {
		h["Inference-Header-Content-Length"] = strconv.Itoa(n)
	}
	a := w.send(h, "POST", "/v2/models/test/infer", data.Bytes())
	if a.status != 200 {
		return oip.Response{}, a
	}
	n := -1
	if told := a.header.Get("Inference-Header-Content-Length"); told != "" {
		if n, err = strconv.Atoi(told); err != nil {
			w.t.Fatal(err)
		}
	}
	answered, err := oip.ReadResponse(bytes.NewReader(a.body), int64(len(a.body)), n, oip.DefaultLimits, nil)
	if err != nil {
		w.t.Fatalf("%v: %q", err, a.body)
	}
	return answered, a
}

func sums(t *testing.T, w *world) []oip.Tensor {
	t.Helper()
	var inputs []oip.Tensor
	for _, in := range decode[oip.Model](t, w.do("GET", "/v2/models/test", "", nil)).Inputs {
		tensor := oip.Tensor{Name: in.Name, Datatype: in.Datatype, Shape: []int64{1, 3}}
		switch in.Datatype {
		case oip.FP32:
			tensor.Data = bundletest.Floats([]float32{1, 2, 3}).Data
		case oip.INT64:
			tensor.Data = bundletest.Ints([]int64{4, -5, 6}).Data
		default:
			t.Fatalf("%+v", in)
		}
		inputs = append(inputs, tensor)
	}
	return inputs
}

func TestTensorsTravelAsJSONAndAsBytes(t *testing.T) {
	w := serveModels(t, options{}, bundletest.NewTensor(t))
	inputs := sums(t, w)
	slices.Reverse(inputs) // the order is the sender's
	want := map[oip.Datatype][]byte{
		oip.FP32:  bundletest.Floats([]float32{5, -3, 9}).Data,
		oip.INT64: bundletest.Ints([]int64{8, -10, 12}).Data,
	}
	for _, sent := range []bool{false, true} {
		for _, wanted := range []bool{false, true} {
			got, a := w.inferTensors(sent, oip.Request{ID: "7", Inputs: inputs, BinaryOutputs: wanted})
			if got.ID != "7" || got.Model != "test" || got.Version != w.digest || len(got.Outputs) != 2 {
				t.Fatalf("sent %t, wanted %t: %d %s", sent, wanted, a.status, a.body)
			}
			for _, o := range got.Outputs {
				if !bytes.Equal(o.Data, want[o.Datatype]) {
					t.Errorf("sent %t, wanted %t: %s %x", sent, wanted, o.Name, o.Data)
				}
			}
			if (a.header.Get("Inference-Header-Content-Length") != "") != wanted {
				t.Errorf("sent %t, wanted %t: %s", sent, wanted, a.header)
			}
		}
	}
	// One output only, as bytes, while nothing else is.
	names := decode[oip.Model](t, w.do("GET", "/v2/models/test", "", nil)).Outputs
	got, _ := w.inferTensors(false, oip.Request{Inputs: inputs, Outputs: []oip.Requested{{Name: names[1].Name, Binary: true}}})
	if len(got.Outputs) != 1 || got.Outputs[0].Name != names[1].Name {
		t.Errorf("%+v", got.Outputs)
	}
}

func TestNumbersThatJSONCannotHoldTravelAsBytesOnly(t *testing.T) {
	w := serveModels(t, options{}, bundletest.NewTensor(t))
	inputs := sums(t, w)
	for i, in := range inputs {
		if in.Datatype == oip.FP32 {
			inputs[i].Data = bundletest.Floats([]float32{float32(math.NaN()), float32(math.Inf(1)), 0}).Data
		}
	}
	if got, _ := w.inferTensors(true, oip.Request{Inputs: inputs, BinaryOutputs: true}); len(got.Outputs) != 2 {
		t.Errorf("as bytes: %+v", got)
	}
	w.counts.take()
	_, a := w.inferTensors(true, oip.Request{Inputs: inputs})
	if a.status != 400 || !strings.Contains(string(a.body), "binary_data") {
		t.Errorf("as JSON: %d %s", a.status, a.body)
	}
	if got := w.counts.take(); got != w.digest[:8]+" client_error" {
		t.Errorf("counted %s", got)
	}
}

func TestARequestIsCountedWithItsPhasesOnce(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for path, want := range map[string]string{
		predictPath:                   "[decode resize queue run encode]",
		predictPath + "?explain=true": "[decode resize queue run explain encode]",
	} {
		w.do("POST", path, "", bright(t))
		w.counts.mu.Lock()
		last := w.counts.last
		w.counts.mu.Unlock()
		var names []string
		for _, p := range last.Phases {
			names = append(names, p.Name)
		}
		if fmt.Sprint(names) != want || last.Batch != 1 {
			t.Errorf("%s: %s, batch %d", path, names, last.Batch)
		}
		if got := w.counts.take(); got != w.digest[:8]+" ok" {
			t.Errorf("counted %s", got)
		}
	}
}

// Two models side by side answer under their names, each with its digest.
func TestModelsStandSideBySide(t *testing.T) {
	second := bundletest.NewTensor(t, func(m *bundle.Manifest) { m.Name = "sums" })
	w := serveModels(t, options{}, bundletest.New(t, bundletest.Mean), second)
	xray := decode[oip.Model](t, w.do("GET", "/v2/models/test", "", nil))
	other := decode[oip.Model](t, w.do("GET", "/v2/models/sums", "", nil))
	if xray.Name != "test" || other.Name != "sums" || xray.Versions[0] == other.Versions[0] || len(other.Inputs) != 2 {
		t.Errorf("%+v %+v", xray, other)
	}
	if a := w.do("GET", "/v2/models/sums/versions/"+xray.Versions[0], "", nil); a.status != 404 {
		t.Errorf("the version of another model: %d", a.status)
	}
	if a := w.do("POST", "/v1/models/neither/predict", "", bright(t)); !strings.Contains(string(a.body), `\"test\", \"sums\"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}
