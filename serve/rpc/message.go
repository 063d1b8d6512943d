package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/serve/service"
)

// received is gRPC's own side of a call. A message is read from it piece by
// piece: gRPC's way would hold all of it before anybody is asked how large it
// may be. Its type is none of gRPC's promises: the tests of this package fail
// where a new version has another one.
type received interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
	RecvCompress() string
}

// small is how much of a message is read before its bytes are reserved, and at
// a time: as much as a sender may be ahead in a call (window), whoever reads.
const small = window

// message is the bytes of a message as they come. Those that are larger than
// small hold bytes of the server's: so many as they announce, and a compressed
// one so many as have come of it.
type message struct {
	from   *bufio.Reader
	left   int   // bytes that may still come
	exact  bool  // they will
	failed error // why reading ended that is not the message's own fault

	have, held int64 // bytes that have come, and that are reserved
	hold       func(n int64) error
}

// errLarge is of a compressed message: the length of others is known.
var errLarge = status.Error(codes.ResourceExhausted, "the message has more bytes than are taken, uncompressed")

// Read counts and reserves what comes.
func (m *message) Read(p []byte) (int, error) {
	n, err := m.from.Read(p)
	return n, m.count(n, err)
}

// ReadByte does so for one byte.
func (m *message) ReadByte() (byte, error) {
	b, err := m.from.ReadByte()
	if err != nil {
		return b, m.count(0, err)
	}
	return b, m.count(1, nil)
}

func (m *message) count(n int, err error) error {
	m.have += int64(n)
	m.left -= n
	switch {
	case err != nil:
		if err != io.EOF && m.failed == nil {
			m.failed = err
		}
		return err
	case m.left < 0:
		m.failed = errLarge
		return errLarge
	case m.have > max(m.held, small):
		return m.reserve(max(m.held, small))
	}
	return nil
}

// reserve holds n bytes more.
func (m *message) reserve(n int64) error {
	if err := m.hold(n); err != nil {
		m.failed = err
		return err
	}
	m.held += n
	return nil
}

// errVersion is of the program, not of a message.
var errVersion = status.Error(codes.Internal, "this version of gRPC gives messages in another way: the program must be built with the one in its go.mod")

// pieces are what comes over the wire of one message.
type pieces struct {
	from received
	left int
	now  *mem.Reader
}

func (p *pieces) next() error {
	if p.left == 0 {
		return io.EOF
	}
	n := min(p.left, small)
	data, err := p.from.Read(n)
	if err != nil {
		return cut(err)
	}
	p.left -= n
	p.now = data.Reader() // which has references of its own
	data.Free()
	return nil
}

func (p *pieces) Read(to []byte) (int, error) {
	if p.now == nil || p.now.Remaining() == 0 {
		if err := p.next(); err != nil {
			return 0, err
		}
	}
	return p.now.Read(to)
}

// end gives back what was not read.
func (p *pieces) end() {
	if p.now != nil {
		p.now.Close()
	}
}

// cut is an end that should not be there.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return status.Error(codes.Internal, "the message is cut short")
	}
	return err
}

// open reads the frame's header and reserves what the message will hold. The
// error is gRPC's own: none of the message's contents is known yet.
func (s *Server) open(ctx context.Context, c *call) (m *message, end func(), err error) {
	from, ok := grpc.ServerTransportStreamFromContext(ctx).(received)
	if !ok {
		return nil, nil, errVersion
	}
	var header [5]byte // compressed or not, and the length
	if err := from.ReadMessageHeader(header[:]); err != nil {
		return nil, nil, ofTransport(ctx, cut(err))
	}
	length, limit := int64(binary.BigEndian.Uint32(header[1:])), c.limits.Bytes
	if length > limit {
		return nil, nil, status.Errorf(codes.ResourceExhausted, "the message has %d bytes, at most %d are taken", length, limit)
	}
	wire := &pieces{from: from, left: int(length)}
	m = &message{left: int(length), exact: true, hold: c.share.Hold}
	var source io.Reader = wire
	if header[0] != 0 {
		if source, err = uncompressed(from.RecvCompress(), wire); err != nil {
			wire.end()
			return nil, nil, ofTransport(ctx, err)
		}
		m.left, m.exact = int(limit), false
	}
	if m.exact && length > small {
		// The first piece comes before anything is held for the others: who only
		// says that he sends much holds nothing.
		if err = wire.next(); err == nil {
			err = m.reserve(length)
		}
		if err != nil {
			wire.end()
			return nil, nil, ofTransport(ctx, err)
		}
	}
	m.from = bufio.NewReaderSize(source, 512) // for tags and lengths: tensors go past it
	return m, wire.end, nil
}

func uncompressed(name string, wire io.Reader) (io.Reader, error) {
	how := encoding.GetCompressor(name)
	if how == nil {
		return nil, status.Errorf(codes.Unimplemented, "the message is compressed by %.32q, which is not offered", name)
	}
	r, err := how.Decompress(wire)
	if err != nil {
		return nil, fmt.Errorf("the message cannot be decompressed: %w", err)
	}
	return r, nil
}

// ofTransport is an error of reading as a status.
func ofTransport(ctx context.Context, err error) error {
	var p *service.Problem
	switch {
	case errors.As(err, &p):
		return statusOf(p)
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Error(codes.Internal, "the message could not be read to its end")
}

// unread is whose fault it is that a message was not read to its end: the
// sender's, as over REST, but for the room.
func unread(ctx context.Context, err error) *service.Problem {
	s := status.Convert(err)
	p := &service.Problem{Kind: service.BadInput, Text: s.Message()}
	switch code := s.Code(); {
	case errors.Is(context.Cause(ctx), errSlow):
		p.Text = errSlow.Error()
	case code == codes.ResourceExhausted && len(s.Details()) > 0:
		return service.Crowded("no room")
	case code == codes.ResourceExhausted:
		p.Kind = service.TooLarge
	case code == codes.Unimplemented:
		p.Kind = service.Unsupported
	case code == codes.DeadlineExceeded:
		p.Kind = service.Late
	case code == codes.Canceled:
		p.Kind = service.Gone
	case err == errVersion:
		p.Kind = service.Internal
	}
	return p
}
