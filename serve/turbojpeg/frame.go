//go:build turbojpeg

package turbojpeg

import "encoding/binary"

// Markers of a JPEG (ITU-T T.81, table B.1).
const (
	markerSOF0  = 0xc0 // baseline
	markerSOF1  = 0xc1 // extended sequential
	markerDHT   = 0xc4
	markerSOI   = 0xd8
	markerSOS   = 0xda
	markerDQT   = 0xdb
	markerDRI   = 0xdd
	markerAPP0  = 0xe0
	markerAPP15 = 0xef
	markerCOM   = 0xfe
)

// frame is what stands before the one scan of a sequential grey JPEG.
type frame struct {
	width, height int // 0 before the frame's header was met
	component     byte
	quantisation  byte    // the table that the component takes
	quantisers    [4]bool // the tables that the file brings
	coders        [2][4]bool
}

// wholeFrame reads the header of a sequential grey JPEG that brings every table
// that it is decoded by. It is strict: false for all that is not common, such as
// bytes between the segments, so that libjpeg cannot read it in another way.
func wholeFrame(data []byte) (f frame, whole bool) {
	if len(data) < 2 || data[0] != 0xff || data[1] != markerSOI {
		return f, false
	}
	for rest := data[2:]; len(rest) >= 4 && rest[0] == 0xff; {
		marker, length := rest[1], int(binary.BigEndian.Uint16(rest[2:]))
		if length < 2 || 2+length > len(rest) {
			return f, false
		}
		body := rest[4 : 2+length]
		if marker == markerSOS {
			return f, f.decodes(body)
		}
		if !f.segment(marker, body) {
			return f, false
		}
		rest = rest[2+length:]
	}
	return f, false
}

// segment takes what stands before the scan.
func (f *frame) segment(marker byte, body []byte) bool {
	switch marker {
	case markerSOF0, markerSOF1:
		return f.header(body)
	case markerDQT:
		return f.quantiser(body)
	case markerDHT:
		return f.coder(body)
	case markerDRI, markerCOM:
		return true
	}
	return marker >= markerAPP0 && marker <= markerAPP15
}

// header reads a frame header (T.81, B.2.2) of one component.
func (f *frame) header(body []byte) bool {
	if f.width != 0 || len(body) != 9 || body[0] != 8 || body[5] != 1 {
		return false
	}
	f.height, f.width = int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	f.component, f.quantisation = body[6], body[8]
	return f.width > 0 && f.height > 0 && f.quantisation < 4
}

// quantiser reads quantisation tables (T.81, B.2.4.1).
func (f *frame) quantiser(body []byte) bool {
	for len(body) > 0 {
		size, id := 1+64<<(body[0]>>4), body[0]&15
		if body[0]>>4 > 1 || id > 3 || size > len(body) {
			return false
		}
		f.quantisers[id] = true
		body = body[size:]
	}
	return true
}

// coder reads Huffman tables (T.81, B.2.4.2): of the DC coefficients, then of
// the AC ones.
func (f *frame) coder(body []byte) bool {
	for len(body) > 0 {
		class, id := body[0]>>4, body[0]&15
		if class > 1 || id > 3 || len(body) < 17 {
			return false
		}
		size := 17
		for _, n := range body[1:17] {
			size += int(n)
		}
		if size > len(body) {
			return false
		}
		f.coders[class][id] = true
		body = body[size:]
	}
	return true
}

// decodes tells whether a scan with this header (T.81, B.2.3) finds all of its
// tables.
func (f *frame) decodes(scan []byte) bool {
	if f.width == 0 || len(scan) != 6 || scan[0] != 1 || scan[1] != f.component {
		return false
	}
	dc, ac := scan[2]>>4, scan[2]&15
	return dc < 4 && ac < 4 && f.coders[0][dc] && f.coders[1][ac] && f.quantisers[f.quantisation]
}
