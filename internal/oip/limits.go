package oip

import (
	"fmt"
	"io"
)

// Alloc lends n bytes, aligned to 8 at least, whose contents do not matter.
// All that a codec borrows (the text of a body, the tensors) is the caller's
// to take back, after the answer is written and whether or not there was an
// error: an Alloc over a pool keeps a list. Where before is given, which is what
// was lent last, the new bytes begin as it does and take its place. Nil stands
// for make.
type Alloc func(n int, before []byte) []byte

func (a Alloc) orMake() Alloc {
	if a == nil {
		return func(n int, before []byte) []byte {
			b := make([]byte, n)
			copy(b, before)
			return b
		}
	}
	return a
}

// Limits bound what a sender can make the server do.
type Limits struct {
	Bytes    int64 // of a body
	Header   int   // bytes of the JSON before binary tensors
	Elements int   // of all tensors of a request together
	Tensors  int   // of a request: inputs, and requested outputs
	Depth    int   // of nested JSON
}

// DefaultLimits admit a batch of large pictures.
var DefaultLimits = Limits{Bytes: 256 << 20, Header: 4 << 20, Elements: 32 << 20, Tensors: 256, Depth: 32}

// BadRequest is a body that breaks the protocol or a limit: the sender's fault.
type BadRequest struct {
	TooLarge bool // it breaks the limit of bytes
	Text     string
}

func (e *BadRequest) Error() string { return e.Text }

func bad(format string, args ...any) error {
	return &BadRequest{Text: fmt.Sprintf(format, args...)}
}

func tooLarge(limit int64) error {
	return &BadRequest{TooLarge: true, Text: fmt.Sprintf("the body has more than %d bytes", limit)}
}

// firstRead is what is allocated because a sender says that so much comes;
// more is allocated as it comes.
const firstRead = 16 << 20

// readFull reads n bytes.
func readFull(body io.Reader, n int, what string, alloc Alloc) ([]byte, error) {
	buffer, have := alloc(min(n, firstRead), nil), 0
	for {
		k, err := io.ReadFull(body, buffer[have:])
		have += k
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil, bad("the body ends after %d of the %d bytes of %s", have, n, what)
		case err != nil:
			return nil, fmt.Errorf("reading the body: %w", err)
		case have == n:
			return buffer, nil
		}
		buffer = alloc(min(n, 2*have), buffer)
	}
}

// readAll reads a body to its end; length is -1 where nobody said it.
func readAll(body io.Reader, length, limit int64, alloc Alloc) ([]byte, error) {
	if length >= 0 {
		text, err := readFull(body, int(length), "its Content-Length", alloc)
		if err != nil {
			return nil, err
		}
		return text, readEnd(body)
	}
	text, err := ReadGrowing(body, 64<<10, limit, alloc)
	if err == nil && int64(len(text)) > limit {
		err = tooLarge(limit)
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

// ReadGrowing reads a body whose length nobody said into one buffer, which has
// first bytes, at least 1, and grows as they come. Of a body that is longer than
// limit it gives one byte more than limit.
func ReadGrowing(body io.Reader, first int, limit int64, alloc Alloc) ([]byte, error) {
	alloc = alloc.orMake()
	buffer, have := alloc(int(min(int64(first), limit+1)), nil), 0
	for {
		k, err := io.ReadFull(body, buffer[have:])
		have += k
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return buffer[:have], nil
		case err != nil:
			return nil, fmt.Errorf("reading the body: %w", err)
		case int64(have) > limit:
			return buffer, nil
		}
		buffer = alloc(int(min(2*int64(have), limit+1)), buffer)
	}
}

// readEnd wants the body to be over.
func readEnd(body io.Reader) error {
	var more [1]byte
	for {
		n, err := body.Read(more[:])
		switch {
		case n > 0:
			return bad("the body goes on after the last tensor or after its Content-Length: the sizes disagree")
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("reading the body: %w", err)
		}
	}
}
