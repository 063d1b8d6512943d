package rpc

import (
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/buffers"
)

// announcing is a sender who says that a message of length bytes comes; first is
// all that does.
type announcing struct {
	grpc.ServerTransportStream
	length, first int
	onRead        func(asked int)
}

func (a *announcing) ReadMessageHeader(header []byte) error {
	header[0] = 0
	binary.BigEndian.PutUint32(header[1:], uint32(a.length))
	return nil
}

func (a *announcing) Read(n int) (mem.BufferSlice, error) {
	a.onRead(n)
	if a.first < n {
		return nil, io.ErrUnexpectedEOF
	}
	a.first -= n
	return mem.BufferSlice{mem.SliceBuffer(make([]byte, n))}, nil
}

func (*announcing) RecvCompress() string         { return "" }
func (*announcing) Method() string               { return inferMethod }
func (*announcing) SetHeader(metadata.MD) error  { return nil }
func (*announcing) SendHeader(metadata.MD) error { return nil }

// Who announces much and sends little must not keep others out.
func TestWhoOnlyAnnouncesAMessageHoldsNothing(t *testing.T) {
	const length = 10 << 20
	for first, want := range map[int]int64{0: 0, small: length} {
		s := &Server{}
		c := &call{limits: oip.DefaultLimits, loan: buffers.NewLoan(buffers.New()), room: semaphore.NewWeighted(16 << 20), all: 16 << 20}
		sender := &announcing{length: length, first: first, onRead: func(n int) {
			if c.held != 0 || n > small {
				t.Errorf("%d bytes are held, %d asked for, before any has come", c.held, n)
			}
		}}
		_, _, err := s.open(grpc.NewContextWithServerTransportStream(t.Context(), sender), c)
		if (first == 0) != (status.Code(err) == codes.Internal) {
			t.Errorf("%d of %d bytes: %v", first, length, err)
		}
		if c.held != want {
			t.Errorf("when %d have come, %d bytes are held", first, c.held)
		}
		c.giveBack()
		if !c.room.TryAcquire(16 << 20) {
			t.Error("room is not given back")
		}
	}
}
