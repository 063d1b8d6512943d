package oip_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/penstock-ml/penstock/internal/oip"
)

const floats = 150_000 // about 1x3x224x224

// sample is a request of 150k floats; wide writes them as Python writes
// float32 that it took for float64, in 17 digits.
func sample(tb testing.TB, wide bool) (body []byte, tensor oip.Tensor) {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	values := make([]float32, floats)
	doubles := make([]float64, floats)
	for i := range values {
		values[i] = float32(random.NormFloat64())
		doubles[i] = float64(values[i])
	}
	var data any = values
	if wide {
		data = doubles
	}
	text, err := json.Marshal(data)
	if err != nil {
		tb.Fatal(err)
	}
	body = fmt.Appendf(nil, `{"inputs":[{"name":"input","shape":[1,%d],"datatype":"FP32","data":%s}]}`, floats, text)
	return body, oip.Tensor{Name: "input", Datatype: oip.FP32, Shape: []int64{1, floats}, Data: oip.Bytes(values)}
}

// lender lends the same buffers again and again.
type lender struct {
	buffers [][]byte
	next    int
}

func (l *lender) lend(n int, before []byte) []byte {
	if l.next == len(l.buffers) {
		l.buffers = append(l.buffers, nil)
	}
	if cap(l.buffers[l.next]) < n {
		words := make([]uint64, (n+7)/8)
		l.buffers[l.next] = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), n)
	}
	l.next++
	copy(l.buffers[l.next-1][:n], before)
	return l.buffers[l.next-1][:n]
}

func benchRead(b *testing.B, body []byte, headerLength int) {
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var l lender
	for b.Loop() {
		l.next = 0
		request, err := oip.ReadRequest(bytes.NewReader(body), int64(len(body)), headerLength, oip.DefaultLimits, l.lend)
		if err != nil || len(request.Inputs[0].Data) != 4*floats {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadJSON(b *testing.B) {
	body, _ := sample(b, false)
	benchRead(b, body, -1)
	b.ReportMetric(3e6, "ns/op-bound")
}

func BenchmarkReadJSONOf17Digits(b *testing.B) {
	body, _ := sample(b, true)
	benchRead(b, body, -1)
}

func BenchmarkReadBinary(b *testing.B) {
	_, tensor := sample(b, false)
	encoded, err := oip.EncodeRequest(oip.Request{Inputs: []oip.Tensor{tensor}}, true, nil)
	if err != nil {
		b.Fatal(err)
	}
	var body bytes.Buffer
	if _, err := encoded.WriteTo(&body); err != nil {
		b.Fatal(err)
	}
	benchRead(b, body.Bytes(), encoded.HeaderLength())
}

// BenchmarkStandardLibrary is what the scanner is measured against.
func BenchmarkStandardLibrary(b *testing.B) {
	body, _ := sample(b, false)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var request struct {
			Inputs []struct {
				Name, Datatype string
				Shape          []int64
				Data           []float32
			}
		}
		if err := json.Unmarshal(body, &request); err != nil || len(request.Inputs[0].Data) != floats {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteJSON(b *testing.B) {
	_, tensor := sample(b, false)
	b.ReportAllocs()
	var l lender
	for b.Loop() {
		l.next = 0
		body, err := oip.EncodeResponse(oip.Response{Model: "m", Version: "v", Outputs: []oip.Tensor{tensor}}, oip.Request{}, l.lend)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := body.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
