package oip

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
)

// element reads one element of a tensor from JSON into out and gives the end
// of its text; false where none of this datatype stands at text[at:].
type element func(text []byte, at int, out []byte) (end int, ok bool)

// elements has the datatypes that JSON can carry as numbers and words; BYTES
// is apart, and FP16 and BF16 travel as raw bytes only.
var elements = map[Datatype]element{
	BOOL: readBool,
	INT8: signed(8), INT16: signed(16), INT32: signed(32), INT64: signed(64),
	UINT8: unsigned(8), UINT16: unsigned(16), UINT32: unsigned(32), UINT64: unsigned(64),
	FP32: readFloat32, FP64: readFloat64,
}

func readFloat32(text []byte, at int, out []byte) (int, bool) {
	if end, ok := fastFloat32(text, at, out); ok {
		return end, true
	}
	d, ok := scanNumber(text, at)
	if !ok {
		return 0, false
	}
	f, ok := d.float32(text, at)
	binary.LittleEndian.PutUint32(out, math.Float32bits(f))
	return d.end, ok
}

func readFloat64(text []byte, at int, out []byte) (int, bool) {
	d, ok := scanNumber(text, at)
	if !ok {
		return 0, false
	}
	f, ok := d.float64(text, at)
	binary.LittleEndian.PutUint64(out, math.Float64bits(f))
	return d.end, ok
}

func readBool(text []byte, at int, out []byte) (int, bool) {
	switch rest := text[at:]; {
	case len(rest) >= 4 && string(rest[:4]) == "true":
		out[0] = 1
		return at + 4, true
	case len(rest) >= 5 && string(rest[:5]) == "false":
		out[0] = 0
		return at + 5, true
	}
	return 0, false
}

func signed(bits int) element {
	return func(text []byte, at int, out []byte) (int, bool) {
		d, ok := scanNumber(text, at)
		if !ok {
			return 0, false
		}
		v, ok := d.signed(text, at, bits)
		putInteger(out, uint64(v), bits)
		return d.end, ok
	}
}

func unsigned(bits int) element {
	return func(text []byte, at int, out []byte) (int, bool) {
		d, ok := scanNumber(text, at)
		if !ok {
			return 0, false
		}
		v, ok := d.unsigned(text, at, bits)
		putInteger(out, v, bits)
		return d.end, ok
	}
}

func putInteger(out []byte, v uint64, bits int) {
	switch bits {
	case 8:
		out[0] = byte(v)
	case 16:
		binary.LittleEndian.PutUint16(out, uint16(v))
	case 32:
		binary.LittleEndian.PutUint32(out, uint32(v))
	default:
		binary.LittleEndian.PutUint64(out, v)
	}
}

// data reads the JSON data of a tensor whose datatype, shape and number of
// elements n are known: flat, or nested exactly as the shape is.
func (s *scanner) data(t *Tensor, n int, alloc Alloc) error {
	if t.Datatype == FP16 || t.Datatype == BF16 {
		return s.fail("%s cannot travel as JSON: send its bytes, by the binary tensor extension or as raw_input_contents over gRPC", t.Datatype)
	}
	// One element takes a character and a comma at least: a short text never
	// makes a large buffer.
	if left := len(s.text) - s.at; n > left {
		return s.fail("the shape %v has %d elements, of which the data has fewer", t.Shape, n)
	}
	shape, err := s.nesting(t.Shape, n)
	if err != nil {
		return err
	}
	f := filler{scanner: s, datatype: t.Datatype, size: t.Datatype.Size(), total: n}
	if t.Datatype == BYTES {
		ahead := *s
		if err := ahead.skip("data"); err != nil {
			return err
		}
		// What is written is no longer than what is read, plus the lengths.
		f.out = alloc(ahead.at-s.at+4*n, nil)
	} else {
		f.read, f.out = elements[t.Datatype], alloc(n*f.size, nil)
	}
	if err := f.array(shape); err != nil {
		return err
	}
	t.Data = f.out[:f.used]
	return nil
}

// nesting is the shape that the brackets at the front announce: that of the
// tensor, or that of a flat list.
func (s *scanner) nesting(shape []int64, n int) ([]int64, error) {
	ahead, deep := *s, 0
	for ahead.next('[') {
		deep++
	}
	switch {
	case deep == 0:
		return nil, s.fail("data is no array: %s", s.here())
	case deep == 1 && len(shape) != 1:
		return []int64{int64(n)}, nil
	case deep == len(shape), n == 0:
		return shape, nil
	}
	return nil, s.fail("data is nested %d deep, want 1 (flat) or %d (as the shape %v)", deep, len(shape), shape)
}

// filler writes the elements that it reads.
type filler struct {
	*scanner
	datatype Datatype
	read     element
	size     int // bytes of an element; 0 for BYTES
	out      []byte
	used     int // bytes of out
	done     int // elements
	total    int
}

// array reads an array of shape[0] elements, each an array of the rest.
func (f *filler) array(shape []int64) error {
	if err := f.enter('[', "data"); err != nil {
		return err
	}
	var err error
	switch {
	case len(shape) > 1:
		err = f.arrays(shape)
	case f.size > 0:
		err = f.row(int(shape[0]))
	default:
		err = f.texts(int(shape[0]))
	}
	if err != nil {
		return err
	}
	if !f.next(']') {
		if f.peek() == ',' {
			return f.fail("data has more elements than the shape: %d in an array of %d", f.done+1, shape[0])
		}
		return f.fail("data: want ], found %s", f.here())
	}
	f.depth++
	return nil
}

func (f *filler) arrays(shape []int64) error {
	for i := range shape[0] {
		if err := f.comma(i > 0); err != nil {
			return err
		}
		if err := f.array(shape[1:]); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) comma(due bool) error {
	if !due || f.next(',') {
		return nil
	}
	return f.wanting()
}

// wanting is why no element follows where one should.
func (f *filler) wanting() error {
	f.peek()
	switch rest := bytes.TrimPrefix(f.text[f.at:], []byte("-")); {
	case len(rest) > 0 && rest[0] == ']':
		return f.fail("data has fewer elements than the shape: an array ends after %d of %d in all", f.done, f.total)
	case len(rest) > 0 && strings.IndexByte("NnIi", rest[0]) >= 0:
		return f.fail("element %d is %s, want %s: JSON has neither NaN nor infinities nor null; the binary tensor extension carries them", f.done, f.here(), f.datatype)
	}
	return f.fail("element %d is no %s: %s", f.done, f.datatype, f.here())
}

// row reads n elements of fixed size. This is the hot loop.
func (f *filler) row(n int) error {
	text, at, out, size, read := f.text, f.at, f.out[f.used:], f.size, f.read
	for i := range n {
		at = skipSpace(text, at)
		if i > 0 {
			if at == len(text) || text[at] != ',' {
				return f.stop(at, i)
			}
			at = skipSpace(text, at+1)
		}
		end, ok := read(text, at, out[i*size:])
		if !ok {
			return f.stop(at, i)
		}
		at = end
	}
	f.at, f.done, f.used = at, f.done+n, f.used+n*size
	return nil
}

func (f *filler) stop(at, i int) error {
	f.at, f.done = at, f.done+i
	return f.wanting()
}

// texts reads n strings: the elements of BYTES, each with its length before it.
func (f *filler) texts(n int) error {
	for i := range n {
		if err := f.comma(i > 0); err != nil {
			return err
		}
		if f.peek() != '"' {
			return f.wanting()
		}
		text, err := f.bytes("an element")
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(f.out[f.used:], uint32(len(text)))
		f.used += 4 + copy(f.out[f.used+4:], text)
		f.done++
	}
	return nil
}
