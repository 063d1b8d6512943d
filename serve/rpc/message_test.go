package rpc

import (
	"encoding/binary"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
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
		room := service.NewRoom(16 << 20)
		free := func(n int64) bool { // and no more
			all, more := room.Share(), room.Share()
			defer all.End()
			return all.Hold(n) == nil && more.Hold(1) != nil
		}
		c := &call{limits: oip.DefaultLimits, loan: buffers.NewLoan(buffers.New()), share: room.Share()}
		sender := &announcing{length: length, first: first, onRead: func(n int) {
			if !free(16<<20) || n > small {
				t.Errorf("bytes are held, or %d asked for, before any has come", n)
			}
		}}
		_, _, err := s.open(grpc.NewContextWithServerTransportStream(t.Context(), sender), c)
		if (first == 0) != (status.Code(err) == codes.Internal) {
			t.Errorf("%d of %d bytes: %v", first, length, err)
		}
		if !free(16<<20 - want) {
			t.Errorf("when %d have come, not %d bytes are held", first, want)
		}
		c.giveBack()
		if !free(16 << 20) {
			t.Error("room is not given back")
		}
	}
}
