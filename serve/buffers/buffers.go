// Package buffers owns the memory that requests borrow: byte slices aligned to
// a cache line, given back after use and lent again, so that a server at work
// makes no garbage proportional to its pictures.
//
// Sizes are rounded up to classes, four to a doubling, so at most a quarter of
// a buffer is unused. What lies idle is bounded; what exceeds the bound is left
// to the garbage collector. A buffer that is given back twice would be lent to
// two requests at a time: that panics.
package buffers

import (
	"fmt"
	"math/bits"
	"sync"
	"unsafe"
)

const (
	// Align is the alignment of every buffer, in bytes: a cache line, which is
	// what vector instructions like best.
	Align = 64

	smallest = 64        // bytes of the smallest class
	perClass = 64        // idle buffers of a class at most
	idleMax  = 256 << 20 // bytes that lie idle at most, over all classes
	largest  = 64 << 20  // larger ones are not kept
)

// Pool lends buffers. It is safe for concurrent use.
type Pool struct {
	mu   sync.Mutex
	idle map[int][][]byte // by class size
	held int              // bytes in idle
	lent int              // buffers of a kept size that are out
}

// New makes an empty pool. A process needs one.
func New() *Pool { return &Pool{idle: map[int][][]byte{}} }

// classOf rounds up to the class size: k/4 of a power of two, 4 < k <= 8.
func classOf(n int) int {
	if n <= smallest {
		return smallest
	}
	step := 1 << max(bits.Len(uint(n-1))-3, 6) // a quarter of the power of two below n
	return (n + step - 1) / step * step
}

// Get lends n bytes, aligned to Align; what they hold is left from before.
func (p *Pool) Get(n int) []byte {
	if n < 0 {
		panic(fmt.Sprintf("buffers: %d bytes asked for", n))
	}
	size := classOf(n)
	if size > largest {
		return fresh(size)[:n]
	}
	p.mu.Lock()
	p.lent++
	free := p.idle[size]
	if len(free) == 0 {
		p.mu.Unlock()
		return fresh(size)[:n]
	}
	b := free[len(free)-1]
	free[len(free)-1] = nil
	p.idle[size] = free[:len(free)-1]
	p.held -= size
	p.mu.Unlock()
	return b[:n]
}

// fresh makes an aligned buffer whose capacity is size exactly.
func fresh(size int) []byte {
	raw := make([]byte, size+Align-1)
	skip := 0
	if over := int(uintptr(unsafe.Pointer(unsafe.SliceData(raw))) % Align); over > 0 {
		skip = Align - over
	}
	return raw[skip : skip+size : skip+size]
}

// Put takes back what Get lent, in any length but from its first byte on; the
// caller must not touch it afterwards. Nil and buffers too large to keep are
// left to the garbage collector.
func (p *Pool) Put(b []byte) {
	size := cap(b)
	if size == 0 || size > largest {
		return
	}
	if classOf(size) != size || !Aligned(b, Align) {
		panic("buffers: a slice that Get did not give, or that does not begin where it did")
	}
	b = b[:size]
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.idle[size] {
		if unsafe.SliceData(other) == unsafe.SliceData(b) {
			panic("buffers: given back twice")
		}
	}
	p.lent--
	if len(p.idle[size]) < perClass && p.held+size <= idleMax {
		p.idle[size] = append(p.idle[size], b)
		p.held += size
	}
}

// Trim leaves everything idle to the garbage collector.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.idle)
	p.held = 0
}

// Idle is how many bytes wait to be lent.
func (p *Pool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// Lent is how many buffers were lent and not given back; those too large to
// keep are not counted. Tests find leaks by it.
func (p *Pool) Lent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lent
}

// Aligned tells whether the first byte lies on a multiple of n.
func Aligned(b []byte, n int) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%uintptr(n) == 0
}
