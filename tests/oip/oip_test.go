package oip_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

// verdicts makes a subtest of each line "ok WAY WHAT" or "FAIL WAY WHAT why".
func verdicts(t *testing.T, out string) (n int) {
	t.Helper()
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 3 {
			t.Fatalf("no verdict: %q", line)
		}
		n++
		t.Run(words[1]+"/"+words[2], func(t *testing.T) {
			if words[0] != "ok" {
				t.Error(line)
			}
		})
	}
	return n
}

func TestTritonclientsCallsAreAnswered(t *testing.T) {
	dir := t.TempDir()
	python(t, "models.py", "synthetic", dir)
	paths, names := folders(t, dir)
	w := serve(t, append(names, "empty")...)
	w.loadAll(paths)
	if n := verdicts(t, python(t, "clients.py", w.public, w.rpc, filepath.Join(dir, "types"))); n < 45 {
		t.Errorf("only %d checks were made", n)
	}
	verdicts(t, python(t, "vectors.py", append([]string{w.public, w.rpc}, paths...)...))
}

func TestOtherPeoplesModels(t *testing.T) {
	data, dir, damaged := corpus(t, "models"), t.TempDir(), t.TempDir()
	python(t, "models.py", "vectors", data, dir)
	python(t, "models.py", "refused", data, damaged)
	paths, names := folders(t, dir)
	w := serve(t, names...)
	w.loadAll(paths)
	t.Run("vectors are reproduced over every way", func(t *testing.T) {
		out := python(t, "vectors.py", append([]string{w.public, w.rpc}, paths...)...)
		// two of the models have FP16 or BF16, which cannot travel as JSON
		if n := verdicts(t, out); n != 3*len(paths)-2 || len(paths) < 17 {
			t.Errorf("%d answers of %d models", n, len(paths))
		}
	})
	t.Run("what cannot be served is refused and changes nothing", func(t *testing.T) {
		refused(t, w, damaged, names[0])
	})
}

// refused has the server load models that cannot run, under the name of one
// that does.
func refused(t *testing.T, w *world, dir, name string) {
	one := []bundletest.Array{bundletest.Floats([]float32{1}, 1)}
	for folder, says := range map[string]string{
		"super_resolution_tutorial": "IR version 1", "test_AvgPool2d": "AveragePool", "test_BatchNorm2d_eval": "BatchNormalization",
		"test_Linear": "Gemm", "sklearn_randomforest": "only tensors can be served",
	} {
		model, err := os.ReadFile(filepath.Join(dir, folder, "model.onnx"))
		must(t, err)
		code, body := w.load(name, bundletest.Tensor(t, model, []bundletest.Golden{{Inputs: one, Outputs: one}}, called(name)))
		if code < 400 || code >= 500 || !strings.Contains(body, says) {
			t.Errorf("%s: %d %s does not say %q", folder, code, body, says)
		}
	}
	response, err := http.Get("http://" + w.public + "/v2/models/" + name + "/ready")
	must(t, err)
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the model of before answers %d", response.StatusCode)
	}
}
