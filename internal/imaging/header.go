package imaging

import (
	"bytes"
	"encoding/binary"
)

// header is what a file says of its picture, read without decoding any of it.
// Width and height are those that the decoder itself reads; the rest is what
// the decoder does not tell: what decoding costs, and which way is up.
type header struct {
	width, height int64
	components    int   // of a JPEG
	scans         int   // of a JPEG
	progressive   bool  // JPEG
	refined       bool  // JPEG: every coefficient comes to its last bit
	memory        int64 // bytes that decoding allocates, about
	compressed    int64 // bytes of compressed picture in the file, at most
	least         int64 // bytes of them without which the picture cannot be whole
	orientation   int   // of EXIF, 1 to 8; 1 is upright
}

// readHeader reads as far as the file makes sense; what does not is left for
// the decoder to complain about.
func readHeader(data []byte, format Format, width, height int) header {
	h := header{width: int64(width), height: int64(height), orientation: 1}
	if format == JPEG {
		h.readJPEG(data)
	} else {
		h.readPNG(data)
	}
	return h
}

// readPNG walks the chunks (PNG, third edition, 5.3).
func (h *header) readPNG(data []byte) {
	var depth, colour, interlaced byte
	transparent := false
	for rest := data[len(pngMagic):]; len(rest) >= chunkOverhead; {
		length := int64(binary.BigEndian.Uint32(rest))
		present := min(length, int64(len(rest)-8))
		switch body := rest[8 : 8+present]; string(rest[4:8]) {
		case "IHDR":
			if len(body) == 13 {
				depth, colour, interlaced = body[8], body[9], body[12]
			}
		case "IDAT":
			h.compressed += present
		case "tRNS":
			transparent = true
		case "eXIf":
			h.orientation = orientation(bytes.TrimPrefix(body, exifMagic))
		}
		if length > int64(len(rest)-chunkOverhead) {
			break
		}
		rest = rest[chunkOverhead+length:]
	}
	const indexed, palette = 0, 3 // colour types with one sample a pixel
	samples := map[byte]int64{indexed: 1, 2: 3, palette: 1, 4: 2, 6: 4}[colour]
	row := (h.width*samples*int64(depth) + 7) / 8
	h.least = h.height * row / 1032 // deflate makes at most 1032 bytes of one
	// What image/png decodes to: grey and palettes stay as they are, all else has
	// four channels.
	perPixel := int64(4)
	if samples == 1 && (colour == palette || !transparent) {
		perPixel = 1
	}
	if depth == 16 {
		perPixel *= 2
	}
	h.memory = h.width * h.height * perPixel
	if interlaced != 0 {
		h.memory += h.memory / 2 // the largest of the seven passes
	}
	if h.orientation != 1 {
		h.memory += h.width * h.height * perPixel
	}
}

const chunkOverhead = 12 // of a PNG: length, type, checksum

// Markers of a JPEG (ITU-T T.81, table B.1).
const (
	markerSOF0 = 0xc0 // baseline
	markerSOF1 = 0xc1 // extended sequential
	markerSOF2 = 0xc2 // progressive
	markerRST0 = 0xd0
	markerRST7 = 0xd7
	markerEOI  = 0xd9
	markerSOS  = 0xda
	markerAPP1 = 0xe1
)

// readJPEG walks the segments in the way image/jpeg does.
func (h *header) readJPEG(data []byte) {
	samples, missing := int64(0), ^uint64(0)
	for at := 2; at < len(data); {
		next := bytes.IndexByte(data[at:], 0xff)
		if next < 0 || at+next+4 > len(data) {
			break
		}
		at += next + 1
		marker := data[at]
		if marker == markerEOI {
			break
		}
		if marker == 0xff { // a fill byte: what follows may be the marker
			continue
		}
		if marker == 0 || marker >= markerRST0 && marker <= markerRST7 { // within a scan
			at++
			continue
		}
		length := int(binary.BigEndian.Uint16(data[at+1:]))
		if length < 2 || at+1+length > len(data) {
			break
		}
		body := data[at+3 : at+1+length]
		at += 1 + length
		switch marker {
		case markerSOF0, markerSOF1, markerSOF2:
			h.progressive = marker == markerSOF2
			samples = h.frame(body)
		case markerAPP1:
			if exif, found := bytes.CutPrefix(body, exifMagic); found && h.orientation == 1 {
				h.orientation = orientation(exif)
			}
		case markerSOS:
			if h.scans == 0 {
				h.compressed = int64(len(data) - at)
			}
			h.scans++
			missing &^= settled(body)
		}
	}
	h.refined = !h.progressive || missing == 0
	h.cost(samples)
}

// frame reads a frame header and gives how many samples its components have.
func (h *header) frame(body []byte) (samples int64) {
	if len(body) < 6 || len(body) != 6+3*int(body[5]) {
		return 0
	}
	h.components = int(body[5])
	var across, down int64
	for c := range h.components {
		across, down = max(across, int64(body[7+3*c]>>4)), max(down, int64(body[7+3*c]&15))
	}
	if across == 0 || down == 0 {
		return 0
	}
	if h.components == 1 {
		return blocks(h.width, 1) * blocks(h.height, 1) * 64
	}
	units := blocks(h.width, across) * blocks(h.height, down) // of all components together
	for c := range h.components {
		samples += units * int64(body[7+3*c]>>4) * int64(body[7+3*c]&15) * 64
	}
	return samples
}

// settled is the set of coefficients, bit by bit, that are whole after a
// progressive scan with this header, told for one component.
func settled(body []byte) (set uint64) {
	if len(body) != 6 || body[5]&15 != 0 { // bits are still to come
		return 0
	}
	for k := body[3]; k <= body[4] && k < 64; k++ {
		set |= 1 << k
	}
	return set
}

// blocks is how many units of so many blocks of 8 pixels cover a side.
func blocks(side, each int64) int64 { return (side + 8*each - 1) / (8 * each) }

// cost estimates what image/jpeg allocates: the samples, for a progressive
// file their coefficients of 4 bytes, for CMYK and RGB the interleaved copy.
func (h *header) cost(samples int64) {
	h.memory = samples
	// A block takes at least one bit, in a sequential file two.
	h.least = samples / 64 / 4
	if h.progressive {
		h.memory += 4 * samples
		h.least /= 2
	}
	if h.components == 4 || h.components == 3 && samples >= 3*h.width*h.height {
		h.memory += 4 * h.width * h.height
	}
	if h.orientation != 1 {
		h.memory += min(int64(h.components), 4) * h.width * h.height
	}
}
