package model_test

import (
	"runtime"
	"testing"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// allocated is how many bytes one call of f allocates on average, after a
// first one.
func allocated(t *testing.T, f func() error) int {
	t.Helper()
	const calls = 5
	var before, after runtime.MemStats
	for i := range calls + 1 {
		if i == 1 {
			runtime.ReadMemStats(&before)
		}
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc-before.TotalAlloc) / calls
}

// TestOnlyDecodingAllocatesInProportionToThePicture measures a model of 224 x
// 224: its input has 200,704 bytes, its pixels 50,176.
func TestOnlyDecodingAllocatesInProportionToThePicture(t *testing.T) {
	r := modeltest.Runtime(t)
	m, err := model.Open(t.Context(), r, workBundle(t))
	must(t, err)
	defer m.Close()
	const small = 8 << 10
	lent := r.Buffers().Lent()

	file := greyPNG(t, 1000, 900)
	picture, err := m.Prepare(t.Context(), file)
	must(t, err)
	if got := allocated(t, func() error { _, err := m.Score(t.Context(), picture); return err }); got > small {
		t.Errorf("Score allocates %d bytes", got)
	}
	picture.Release()
	picture.Release() // does nothing

	input := oip.Tensor{Name: "input", Datatype: oip.FP32, Shape: []int64{1, 1, 224, 224}, Data: make([]byte, 4*224*224)}
	infer := func() error {
		result, err := m.Infer(t.Context(), []oip.Tensor{input}, nil)
		if err == nil {
			result.Release()
		}
		return err
	}
	if got := allocated(t, infer); got > small {
		t.Errorf("Infer allocates %d bytes", got)
	}
	input.Data = make([]byte, 4*224*224+1)[1:]
	if got := allocated(t, infer); got > small {
		t.Errorf("Infer of unaligned bytes allocates %d bytes", got)
	}

	decode := allocated(t, func() error { _, _, err := imaging.Decode(file, imaging.DefaultLimits); return err })
	prepare := allocated(t, func() error {
		p, err := m.Prepare(t.Context(), file)
		if err == nil {
			p.Release()
		}
		return err
	})
	if prepare > decode+2*small {
		t.Errorf("Prepare allocates %d bytes, decoding alone %d", prepare, decode)
	}
	if got := r.Buffers().Lent(); got != lent {
		t.Errorf("%d buffers are out, %d were before", got, lent)
	}
}
