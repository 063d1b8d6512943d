package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/replay"
)

// runner answers with the picture's first byte plus an offset.
type runner struct {
	offset float32
	fails  byte // the picture on which it fails; 0: none
	hangs  byte // the picture on which it does not end
}

func (r runner) Run(ctx context.Context, in replay.Input) ([]oip.Tensor, error) {
	b := in.Picture[0]
	switch {
	case r.fails != 0 && b == r.fails:
		return nil, errors.New("the model failed")
	case r.hangs != 0 && b == r.hangs:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []oip.Tensor{scores(float32(b) + r.offset)}, ctx.Err()
}

func scores(values ...float32) oip.Tensor {
	return oip.Tensor{Name: "scores", Datatype: oip.FP32, Shape: []int64{int64(len(values))}, Data: oip.Bytes(values)}
}

func pictures(first ...byte) []replay.Input {
	var inputs []replay.Input
	for _, b := range first {
		inputs = append(inputs, replay.Input{Picture: []byte{b}})
	}
	return inputs
}

func TestReplayReportsTheDifference(t *testing.T) {
	got, err := replay.Run(t.Context(), runner{offset: 0.25}, runner{}, pictures(1, 2, 3, 4, 5), time.Minute)
	if err != nil || got.Inputs != 5 || got.Replayed != 5 || got.Errors != 0 || got.Max != 0.25 || got.Mean != 0.25 || got.Short {
		t.Errorf("%+v %v", got, err)
	}
	if got.P95 < got.P50 || got.P50 <= 0 || got.Before50 <= 0 {
		t.Errorf("times %+v", got)
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

func TestACandidateThatFailsWhereTheIncumbentAnswersIsRefused(t *testing.T) {
	got, err := replay.Run(t.Context(), runner{fails: 3}, runner{}, pictures(1, 2, 3, 4), time.Minute)
	if !errors.Is(err, replay.ErrRefused) || got.Errors != 1 || got.Replayed != 4 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestWhatTheIncumbentFailsIsNotHeldAgainstTheCandidate(t *testing.T) {
	got, err := replay.Run(t.Context(), runner{fails: 3}, runner{fails: 3}, pictures(1, 2, 3, 4), time.Minute)
	if err != nil || got.Errors != 0 || got.Replayed != 3 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestACandidateThatDoesNotEndIsRefused(t *testing.T) {
	for _, inputs := range [][]replay.Input{pictures(3), pictures(1, 3)} { // second, then first in its turn
		began := time.Now()
		got, err := replay.Run(t.Context(), runner{hangs: 3}, runner{}, inputs, 1200*time.Millisecond)
		if !errors.Is(err, replay.ErrRefused) || got.Errors != 1 {
			t.Errorf("%+v %v", got, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
	}
}

func TestReplayEndsWithItsTerm(t *testing.T) {
	got, err := replay.Run(t.Context(), runner{}, runner{hangs: 3}, pictures(1, 2, 3, 4), 50*time.Millisecond)
	if err != nil || !got.Short || got.Replayed != 2 || got.Inputs != 4 {
		t.Errorf("%+v %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := replay.Run(ctx, runner{}, runner{}, pictures(1), time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestASlowCandidateThatTheTermCutsOffIsNotRefused: it answered the first input
// as slowly as it would have answered the second.
func TestASlowCandidateThatTheTermCutsOffIsNotRefused(t *testing.T) {
	got, err := replay.Run(t.Context(), slow(1300*time.Millisecond), runner{}, pictures(1, 2, 3), 2500*time.Millisecond)
	if err != nil || !got.Short || got.Errors != 0 || got.Replayed != 1 {
		t.Errorf("%+v %v", got, err)
	}
}

// slow answers as a runner does, after a while.
type slow time.Duration

func (s slow) Run(ctx context.Context, in replay.Input) ([]oip.Tensor, error) {
	select {
	case <-time.After(time.Duration(s)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return runner{}.Run(ctx, in)
}

// fixed answers with the same tensors whatever comes.
type fixed []oip.Tensor

func (f fixed) Run(context.Context, replay.Input) ([]oip.Tensor, error) { return f, nil }

func TestAnswersThatCannotBeComparedAreCounted(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	strings := oip.Tensor{Name: "scores", Datatype: oip.BYTES, Shape: []int64{1}, Data: []byte{0, 0, 0, 0}}
	cases := []struct {
		got, want oip.Tensor
		unlike    int
	}{
		{scores(1, 2), scores(1), 1},
		{scores(nan), scores(1), 1},
		{scores(inf), scores(1), 1},
		{scores(inf, nan), scores(inf, nan), 0},
		{strings, strings, 1},
	}
	for i, c := range cases {
		r, err := replay.Run(t.Context(), fixed{c.got}, fixed{c.want}, pictures(1), time.Minute)
		if err != nil || r.Unlike != c.unlike || r.Max != 0 {
			t.Errorf("%d: %+v %v", i, r, err)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestTheRingKeepsTheLastCopies(t *testing.T) {
	r := replay.NewRing(replay.Limits{Requests: 3, Bytes: 100})
	data := []byte{0, 0}
	for i := range 5 {
		data[0] = byte(i)
		r.AddPicture(data)
	}
	var got []byte
	for _, in := range r.Inputs() {
		got = append(got, in.Picture[0])
	}
	if !bytes.Equal(got, []byte{2, 3, 4}) {
		t.Errorf("got %v", got)
	}
	tensor := oip.Tensor{Name: "a", Datatype: oip.UINT8, Shape: []int64{2}, Data: []byte{7, 8}}
	r.AddTensors([]oip.Tensor{tensor, tensor}, []string{"x"})
	tensor.Data[0], tensor.Shape[0] = 9, 9
	last := r.Inputs()[2]
	if len(last.Tensors) != 2 || !bytes.Equal(last.Tensors[1].Data, []byte{7, 8}) || last.Tensors[0].Shape[0] != 2 || last.Outputs[0] != "x" {
		t.Errorf("%+v", last)
	}
	r.Clear()
	if r.Len() != 0 || len(r.Inputs()) != 0 {
		t.Error("something is left")
	}
}

func TestTheRingIsBoundedInBytes(t *testing.T) {
	r := replay.NewRing(replay.Limits{Requests: 100, Bytes: 1000})
	for i := range 50 {
		r.AddPicture(make([]byte, 100+i))
	}
	total := 0
	for _, in := range r.Inputs() {
		total += len(in.Picture)
	}
	if total > 1000 || total < 600 || r.Len() < 5 {
		t.Errorf("%d requests of %d bytes", r.Len(), total)
	}
	r.AddPicture(make([]byte, 1001))
	if got := r.Inputs(); len(got[len(got)-1].Picture) != 149 {
		t.Error("what does not fit was remembered")
	}
	off := replay.NewRing(replay.Limits{Bytes: 1000})
	off.AddPicture([]byte{1})
	if off.Len() != 0 {
		t.Error("a ring that is off remembers")
	}
}

func TestASnapshotIsNotTouchedByWhatComesAfter(t *testing.T) {
	r := replay.NewRing(replay.Limits{Requests: 2, Bytes: 1 << 10})
	r.AddPicture([]byte("first"))
	inputs := r.Inputs()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				r.AddPicture([]byte("other"))
			}
		})
	}
	wg.Wait()
	if string(inputs[0].Picture) != "first" || r.Len() != 2 {
		t.Errorf("%q, %d", inputs[0].Picture, r.Len())
	}
}

func TestARingInUseAllocatesNothingOfAPicturesSize(t *testing.T) {
	r := replay.NewRing(replay.DefaultLimits)
	picture := make([]byte, 1<<20)
	for range 40 {
		r.AddPicture(picture)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		r.AddPicture(picture)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 4096 {
		t.Errorf("%d bytes an added picture", got)
	}
}
