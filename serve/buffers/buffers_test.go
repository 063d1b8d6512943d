package buffers

import (
	"sync"
	"testing"
)

func TestEveryBufferIsAlignedAndLongEnough(t *testing.T) {
	p := New()
	for n := range 5000 {
		b := p.Get(n)
		if len(b) != n || !Aligned(b, Align) || cap(b) < n || cap(b) > max(smallest, n+n/4+Align) {
			t.Fatalf("%d bytes: length %d, capacity %d, aligned %v", n, len(b), cap(b), Aligned(b, Align))
		}
		p.Put(b)
	}
	for n := 1; n < 100<<20; n = n*3/2 + 7 {
		if size := classOf(n); size < n || size%Align != 0 || classOf(size) != size {
			t.Fatalf("%d bytes have the class %d, which has %d", n, size, classOf(size))
		}
	}
}

func TestWhatIsGivenBackIsLentAgain(t *testing.T) {
	p := New()
	b := p.Get(150_000)
	b[0] = 7
	p.Put(b[:10])
	again := p.Get(149_000)
	if &again[0] != &b[0] || again[0] != 7 {
		t.Error("the idle buffer was not lent again")
	}
	p.Put(again)
	if allocs := testing.AllocsPerRun(100, func() { p.Put(p.Get(150_000)) }); allocs != 0 {
		t.Errorf("%v allocations for a buffer that lies idle", allocs)
	}
	if p.Lent() != 0 {
		t.Errorf("%d are still out", p.Lent())
	}
}

func TestGivenBackTwicePanics(t *testing.T) {
	panics := func(what string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", what)
			}
		}()
		f()
	}
	p := New()
	b := p.Get(1000)
	p.Put(b)
	panics("twice", func() { p.Put(b) })
	c := p.Get(1000)
	panics("from its middle on", func() { p.Put(c[1:]) })
	panics("foreign", func() { p.Put(make([]byte, 77)) })
	panics("negative", func() { p.Get(-1) })
	p.Put(nil)
}

func TestIdleBytesAreBounded(t *testing.T) {
	p := New()
	var all [][]byte
	for range 6 {
		all = append(all, p.Get(largest))
	}
	for _, b := range all {
		p.Put(b)
	}
	if p.Idle() > idleMax || p.Idle() == 0 {
		t.Errorf("%d bytes lie idle, the bound is %d", p.Idle(), idleMax)
	}
	p.Put(p.Get(largest + 1))
	if p.Trim(); p.Idle() != 0 {
		t.Errorf("%d bytes lie idle after Trim", p.Idle())
	}
	for range 2 * perClass {
		all = append(all, p.Get(10))
	}
	for _, b := range all[6:] {
		p.Put(b)
	}
	if p.Idle() != perClass*smallest {
		t.Errorf("%d bytes of small buffers lie idle", p.Idle())
	}
}

func TestBuffersAreNeverSharedBetweenUsers(t *testing.T) {
	p := New()
	var wg sync.WaitGroup
	for user := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				b := p.Get(100 + i%300)
				for j := range b {
					b[j] = byte(user)
				}
				for j := range b {
					if b[j] != byte(user) {
						t.Errorf("user %d reads %d", user, b[j])
						return
					}
				}
				p.Put(b)
			}
		})
	}
	wg.Wait()
}

func BenchmarkGetPut(b *testing.B) {
	p := New()
	b.ReportAllocs()
	for b.Loop() {
		p.Put(p.Get(600_000))
	}
}

func TestALoanThatGrowsHoldsOneBuffer(t *testing.T) {
	pool := New()
	l := NewLoan(pool)
	first := l.Get(100, nil)
	copy(first, "first")
	b := l.Get(100, nil)
	copy(b, "abc")
	b = l.Get(1000, b)
	if string(b[:3]) != "abc" || string(first[:5]) != "first" || pool.Lent() != 2 {
		t.Errorf("%q, %q, %d lent", b[:3], first[:5], pool.Lent())
	}
	if l.End(); pool.Lent() != 0 {
		t.Errorf("%d are not given back", pool.Lent())
	}
}
