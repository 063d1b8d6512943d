// Package replay owns the rehearsal before a swap: a ring in memory of the
// requests that came last, and their run on the candidate beside the model
// that answers them now. It tells what no golden can: whether the candidate
// holds against what is being asked of this very server.
//
// Remembered inputs are people's data. They are never written to disk, never
// logged, told nothing of in reports but numbers, and wiped when they leave the
// ring.
package replay

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
)

// Input is one remembered request: the bytes of a picture, or tensors.
type Input struct {
	Picture []byte
	Tensors []oip.Tensor
	Outputs []string // that were asked for; nil: all
}

// Limits bound a ring and a replay.
type Limits struct {
	Requests int           // kept at most; 0: none, no replay
	Bytes    int64         // kept at most
	Term     time.Duration // of a replay
}

// DefaultLimits suit pictures of a few megabytes.
var DefaultLimits = Limits{Requests: 32, Bytes: 64 << 20, Term: 20 * time.Second}

// Ring keeps the last requests. It is safe for concurrent use.
type Ring struct {
	limits Limits

	mu    sync.Mutex
	kept  []entry // the oldest first
	bytes int64   // of the buffers in kept
}

// entry is an input whose bytes lie in one buffer.
type entry struct {
	input  Input
	buffer []byte
}

// NewRing makes an empty ring.
func NewRing(l Limits) *Ring { return &Ring{limits: l} }

// AddPicture remembers a copy of a picture that was answered.
func (r *Ring) AddPicture(data []byte) {
	r.add(len(data), func(buffer []byte) Input { return Input{Picture: append(buffer, data...)} })
}

// AddTensors remembers copies of tensors that were answered, and which outputs
// were asked for.
func (r *Ring) AddTensors(tensors []oip.Tensor, outputs []string) {
	size := 0
	for _, t := range tensors {
		size += len(t.Data)
	}
	r.add(size, func(buffer []byte) Input {
		copies := make([]oip.Tensor, len(tensors))
		for i, t := range tensors {
			start := len(buffer)
			buffer = append(buffer, t.Data...)
			copies[i] = oip.Tensor{Name: t.Name, Datatype: t.Datatype, Shape: slices.Clone(t.Shape), Data: buffer[start:len(buffer):len(buffer)]}
		}
		return Input{Tensors: copies, Outputs: slices.Clone(outputs)}
	})
}

// add makes room, lets copied fill a buffer of that size outside the lock, and
// takes it in. An input that is larger than the ring is not remembered.
func (r *Ring) add(size int, copied func(buffer []byte) Input) {
	if r.limits.Requests < 1 || int64(size) > r.limits.Bytes {
		return
	}
	r.mu.Lock()
	buffer := r.evict(1, int64(size))
	r.mu.Unlock()
	// A buffer of about the right size is used again: a ring in use allocates
	// nothing.
	if cap(buffer) < size || cap(buffer) > 2*size {
		clear(buffer)
		buffer = make([]byte, 0, size)
	}
	e := entry{copied(buffer[:0]), buffer[:cap(buffer)]}
	clear(e.buffer[size:]) // the rest of what was there before
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.evict(1, int64(len(e.buffer)))) // others may have come meanwhile
	if r.bytes+int64(len(e.buffer)) > r.limits.Bytes {
		clear(e.buffer)
		return
	}
	r.kept = append(r.kept, e)
	r.bytes += int64(len(e.buffer))
}

// evict drops the oldest until there is room for so many more inputs and bytes.
// It wipes them, but for the last one, whose buffer it gives to be used again or
// wiped. It wants the lock.
func (r *Ring) evict(requests int, size int64) (buffer []byte) {
	for len(r.kept) > 0 && (len(r.kept)+requests > r.limits.Requests || r.bytes+size > r.limits.Bytes) {
		clear(buffer)
		buffer = r.kept[0].buffer
		r.bytes -= int64(len(buffer))
		r.kept = slices.Delete(r.kept, 0, 1)
	}
	return buffer
}

// Inputs are copies of what is remembered, the oldest first: the ring goes on
// meanwhile and uses its buffers again.
func (r *Ring) Inputs() []Input {
	r.mu.Lock()
	defer r.mu.Unlock()
	inputs := make([]Input, len(r.kept))
	for i, e := range r.kept {
		in := Input{Picture: bytes.Clone(e.input.Picture), Outputs: e.input.Outputs}
		for _, t := range e.input.Tensors {
			t.Data = bytes.Clone(t.Data)
			in.Tensors = append(in.Tensors, t)
		}
		inputs[i] = in
	}
	return inputs
}

// Len is how many requests are remembered.
func (r *Ring) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)
}

// Clear forgets and wipes everything.
func (r *Ring) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.evict(r.limits.Requests+1, 0))
	r.kept, r.bytes = nil, 0
}
