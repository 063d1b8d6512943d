package rpc

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"

	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// prompt is how many bytes an answer may have that is not counted. gRPC takes an
// answer whole and ends its call, and keeps it until its client takes it: so
// many are less than what it keeps of the call besides. Of answers up to 1 KiB it
// does not say when they were taken.
const prompt = 4 << 10

// untaken is the memory of an answer, in which it waits to be taken.
type untaken struct {
	data []byte
	pool *buffers.Pool
	held service.Share
	late *time.Timer
	over atomic.Bool
}

func (u *untaken) end() {
	if u.over.Swap(true) {
		return
	}
	u.late.Stop()
	u.pool.Put(u.data)
	u.data = nil // the collector's look comes later
	u.held.End()
}

// waiting is untaken for gRPC, which puts back what was taken, or will not be.
// What waits for a connection that ends it drops, and what it is given when the
// client has just ended the call: the garbage collector tells.
type waiting struct{ of *untaken }

func (w *waiting) Get(int) *[]byte { return &w.of.data }
func (w *waiting) Put(*[]byte)     { w.of.end() }

// memory is where an answer of so many bytes is written. A large one holds room
// until it is taken, and its connection ends where that does not come.
func (s *Server) memory(ctx context.Context, c *call, size int) (mem.BufferPool, error) {
	if size <= prompt {
		return mem.DefaultBufferPool(), nil
	}
	held, err := c.share.HoldApart(int64(size))
	if err != nil {
		return nil, err
	}
	// Compressed it would wait in gRPC's own memory. This fails where nobody
	// listens any more.
	_ = grpc.SetSendCompressor(ctx, encoding.Identity)
	u := &untaken{data: s.o.Buffers.Get(size), pool: s.o.Buffers, held: held}
	conn := connOf(ctx) // ctx itself would keep alive what is to be collected
	u.late = time.AfterFunc(s.o.Answer, func() {
		s.dropped.look()
		time.AfterFunc(toldWithin, func() { s.hangUp(u, conn) })
	})
	w := &waiting{u}
	runtime.AddCleanup(w, (*untaken).end, u)
	return w, nil
}

// toldWithin is how long after a collection what was found is given back.
const toldWithin = time.Second

// hangUp ends the connection of an answer that is not merely dropped: gRPC has no
// way to end a call alone whose handler has returned.
func (s *Server) hangUp(u *untaken, conn net.Conn) {
	if u.over.Load() {
		return
	}
	if conn.Close() == nil { // else it has ended already
		s.o.Log.Warn("an answer was not taken in time: its connection is closed", "term", s.o.Answer)
	}
}

// dropped has the collector look for answers that were dropped: by itself it may
// not for minutes, where little goes on, or they are all that is held.
type dropped struct {
	mu     sync.Mutex
	looked time.Time
}

// look does so once in a while, however often it is called.
func (d *dropped) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.looked) < toldWithin {
		return
	}
	runtime.GC()
	runtime.GC() // what lay in one of gRPC's sync.Pools is found by the second
	d.looked = time.Now()
}

// connOf is the connection of a call.
func connOf(ctx context.Context) net.Conn {
	from, _ := peer.FromContext(ctx) // all calls come by the credentials below
	return from.AuthInfo.(knownConn).conn
}

// knownConn tells the connection of a call, which gRPC keeps to itself.
type knownConn struct {
	credentials.AuthInfo
	conn net.Conn
}

// knowing are credentials that tell it.
type knowing struct {
	credentials.TransportCredentials
}

func (k knowing) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := k.TransportCredentials.ServerHandshake(conn)
	return secure, knownConn{info, conn}, err
}
