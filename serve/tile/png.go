package tile

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// writer writes a PNG of 8 bits row by row, so that the picture need not be
// there at once: image/png wants it whole. Every row is filtered by Paeth, which
// does best on photographs; sRGB is not claimed, as the model was not told.
// Portable Network Graphics, third edition, W3C 2025.
type writer struct {
	out      *bytes.Buffer
	chunks   *bufio.Writer
	packed   *zlib.Writer
	last     []uint8 // the row before
	filtered []uint8
}

// colourTypes of PNG by the number of channels.
var colourTypes = map[int]byte{1: 0, 3: 2}

func newWriter(width, height, channels int) *writer {
	w := &writer{out: new(bytes.Buffer), last: make([]uint8, width*channels), filtered: make([]uint8, 1+width*channels)}
	w.out.WriteString("\x89PNG\r\n\x1a\n")
	header := binary.BigEndian.AppendUint32(nil, uint32(width))
	header = binary.BigEndian.AppendUint32(header, uint32(height))
	w.chunk("IHDR", append(header, 8, colourTypes[channels], 0, 0, 0))
	w.chunks = bufio.NewWriterSize(data{w}, 64<<10)
	w.packed, _ = zlib.NewWriterLevel(w.chunks, zlib.BestSpeed) // the level is one
	return w
}

// data makes chunks of what zlib writes.
type data struct{ w *writer }

func (d data) Write(p []byte) (int, error) {
	d.w.chunk("IDAT", p)
	return len(p), nil
}

func (w *writer) chunk(kind string, body []byte) {
	sum := crc32.NewIEEE()
	all := io.MultiWriter(w.out, sum) // neither fails
	_ = binary.Write(w.out, binary.BigEndian, uint32(len(body)))
	_, _ = io.WriteString(all, kind)
	_, _ = all.Write(body)
	_ = binary.Write(w.out, binary.BigEndian, sum.Sum32())
}

// add writes the next rows.
func (w *writer) add(p imaging.Pixels) error {
	n := p.Width * p.Channels
	for y := range p.Height {
		row := p.Pix[y*n : (y+1)*n]
		w.filter(row, p.Channels)
		if _, err := w.packed.Write(w.filtered); err != nil {
			return err
		}
		copy(w.last, row)
	}
	return nil
}

func (w *writer) filter(row []uint8, channels int) {
	out, up := w.filtered[1:len(row)+1], w.last[:len(row)]
	w.filtered[0] = 4 // Paeth
	for i, v := range row[:channels] {
		out[i] = v - up[i]
	}
	for i := channels; i < len(row); i++ {
		out[i] = row[i] - paeth(row[i-channels], up[i], up[i-channels])
	}
}

// paeth is the neighbour that lies nearest to left + above - corner.
func paeth(left, above, corner uint8) uint8 {
	a, b, c := int(left), int(above), int(corner)
	pa, pb, pc := abs(b-c), abs(a-c), abs(a+b-2*c)
	switch {
	case pa <= pb && pa <= pc:
		return left
	case pb <= pc:
		return above
	}
	return corner
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// end gives the file.
func (w *writer) end() ([]byte, error) {
	if err := errors.Join(w.packed.Close(), w.chunks.Flush()); err != nil {
		return nil, err
	}
	w.chunk("IEND", nil)
	return w.out.Bytes(), nil
}
