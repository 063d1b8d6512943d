package rpc

import (
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"

	"github.com/penstock-ml/penstock/internal/dev/logtest"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// closing counts how often it is closed.
type closing struct {
	net.Conn
	times atomic.Int32
}

func (c *closing) Close() error {
	c.times.Add(1)
	return nil
}

// TestManyAnswersOfSomeKilobytesAreRefusedToo: of 900 connections they held
// 2.6 GB where 1 GiB is allowed.
func TestManyAnswersOfSomeKilobytesAreRefusedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := service.NewRoom(1 << 20)
		s := &Server{o: Options{Buffers: buffers.New(), Answer: time.Minute}}
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: knownConn{conn: &closing{}}})
		counted := 0
		for range 200 {
			answer, err := s.memory(ctx, &call{share: room.Share()}, 8<<10)
			if _, ok := answer.(*waiting); ok && err == nil {
				counted++
				defer answer.Put(nil)
			}
		}
		if counted != 128 {
			t.Errorf("%d answers of 8 KiB are let in and counted where 1 MiB may wait, want 128", counted)
		}
	})
}

// TestGRPCTellsWhenAnAnswerThatIsCountedWasTaken: else its memory would be lent
// again while it is written.
func TestGRPCTellsWhenAnAnswerThatIsCountedWasTaken(t *testing.T) {
	if mem.IsBelowBufferPoolingThreshold(prompt) {
		t.Errorf("this version of gRPC does not for %d bytes", prompt)
	}
}

func TestOneAnswerThatIsNotTakenEndsItsConnectionAndNoneThatIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, pool, room := &closing{}, buffers.New(), service.NewRoom(1<<20)
		s := &Server{o: Options{Buffers: pool, Answer: time.Minute, Log: slog.New(slog.DiscardHandler)}}
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: knownConn{conn: conn}})
		var answers [3]mem.BufferPool // taken in time, while dropped ones are looked for, and not
		for i := range answers {
			var err error
			if answers[i], err = s.memory(ctx, &call{share: room.Share()}, prompt+1); err != nil {
				t.Fatal(err)
			}
		}
		answers[0].Put(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := conn.times.Load(); n != 0 {
			t.Errorf("closed %d times in their time", n)
		}
		answers[1].Put(nil)
		time.Sleep(time.Minute)
		if n := conn.times.Load(); n != 1 {
			t.Errorf("closed %d times after it, want once", n)
		}
		answers[2].Put(nil)
		if n := pool.Lent(); n != 0 {
			t.Errorf("%d buffers were not given back", n)
		}
	})
}

// TestAnAnswerThatGRPCDropsDoesNotEndItsConnection: where its client ends the
// call while the answer is handed over, gRPC forgets it, and the connection goes
// on.
func TestAnAnswerThatGRPCDropsDoesNotEndItsConnection(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var log logtest.Buffer
	conn, pool, room := &closing{}, buffers.New(), service.NewRoom(1<<20)
	s := &Server{o: Options{Buffers: pool, Answer: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))}}
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: knownConn{conn: conn}})
	if _, err := s.memory(ctx, &call{share: room.Share()}, prompt+1); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); pool.Lent() > 0 && conn.times.Load() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("its memory is not given back")
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	if conn.times.Load() != 0 {
		t.Errorf("the connection is closed:\n%s", log.String())
	}
}

func TestRefusalsDoNotKeepTheCollectorAtWork(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	synctest.Test(t, func(t *testing.T) { // whose clock stands still meanwhile
		var before, after runtime.MemStats
		var d dropped
		runtime.ReadMemStats(&before)
		for range 1000 {
			d.look()
		}
		runtime.ReadMemStats(&after)
		if n := after.NumGC - before.NumGC; n < 2 || n > 3 { // one may be Go's own
			t.Errorf("%d collections, want 2", n)
		}
	})
}
