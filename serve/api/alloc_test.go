package api_test

import (
	"bytes"
	"image"
	"image/png"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"testing"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
)

// allocated is how many bytes one call of f allocates on average, after a first
// one.
func allocated(f func()) int {
	const calls = 5
	var before, after runtime.MemStats
	for i := range calls + 1 {
		if i == 1 {
			runtime.ReadMemStats(&before)
		}
		f()
	}
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc-before.TotalAlloc) / calls
}

// nobody reads the answer.
type nobody struct {
	header http.Header
	status int
	n      int
}

func (w *nobody) Header() http.Header         { return w.header }
func (w *nobody) WriteHeader(status int)      { w.status = status }
func (w *nobody) Write(b []byte) (int, error) { w.n += len(b); return len(b), nil }

// TestOnlyDecodingAllocatesInProportionToTheRequest sends a picture of 900,000
// bytes, and tensors of as many, to the handler itself.
func TestOnlyDecodingAllocatesInProportionToTheRequest(t *testing.T) {
	const small = 16 << 10
	_, handler := oneModel(t)
	post := func(path, kind, length string, body []byte) func() {
		return func() {
			r, err := http.NewRequestWithContext(t.Context(), "POST", path, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", kind)
			if length != "" {
				r.Header.Set("Inference-Header-Content-Length", length)
			}
			w := &nobody{header: http.Header{}}
			if handler.ServeHTTP(w, r); w.status != http.StatusOK || w.n == 0 {
				t.Fatalf("%s: %d with %d bytes", path, w.status, w.n)
			}
		}
	}

	random := rand.New(rand.NewPCG(1, 2))
	noise := image.NewGray(image.Rect(0, 0, 1000, 900))
	for i := range noise.Pix {
		noise.Pix[i] = uint8(random.Uint32())
	}
	var file bytes.Buffer
	if err := png.Encode(&file, noise); err != nil {
		t.Fatal(err)
	}
	decode := allocated(func() {
		if _, _, err := imaging.Decode(file.Bytes(), imaging.DefaultLimits); err != nil {
			t.Fatal(err)
		}
	})
	predict := allocated(post(predictPath, "image/png", "", file.Bytes()))
	if predict > decode+small {
		t.Errorf("a prediction allocates %d bytes, decoding alone %d", predict, decode)
	}

	input := oip.Tensor{Name: "input", Datatype: oip.FP32, Shape: []int64{3500, 1, 8, 8}, Data: make([]byte, 3500*64*4)}
	body, err := oip.EncodeRequest(oip.Request{Inputs: []oip.Tensor{input}, Outputs: []oip.Requested{{Name: "scores", Binary: true}}}, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	if _, err := body.WriteTo(&data); err != nil {
		t.Fatal(err)
	}
	infer := allocated(post("/v2/models/test/infer", "application/octet-stream", strconv.Itoa(body.HeaderLength()), data.Bytes()))
	if infer > small {
		t.Errorf("tensors as bytes allocate %d bytes", infer)
	}
}
