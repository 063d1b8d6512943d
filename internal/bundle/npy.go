package bundle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// The .npy format, versions 1 and 2 (NumPy Enhancement Proposal 1): magic,
// version, length of the header, the header as a Python dict, the elements.
// Only little-endian C order of fixed-size elements is read; the rest is
// refused by name.

var npyMagic = []byte("\x93NUMPY")

// maxNpyElements bounds what a header may announce.
const maxNpyElements = 1 << 28

const (
	npyUint8   = "|u1"
	npyFloat32 = "<f4"
)

// npySizes are the element types that are read and the bytes of an element.
var npySizes = map[string]int{
	"|b1": 1, "|i1": 1, npyUint8: 1, "<i2": 2, "<u2": 2, "<i4": 4, "<u4": 4, "<i8": 8, "<u8": 8, "<f2": 2, npyFloat32: 4, "<f8": 8,
}

// ReadArray reads a .npy file of any fixed-size element type: dtype as numpy
// writes it, such as <f4, |u1 or |b1, and the elements as little-endian bytes in
// C order.
func ReadArray(path string) (dtype string, shape []int64, data []byte, err error) {
	dtype, dims, data, err := readNpy(path, "")
	if err != nil {
		return "", nil, nil, err
	}
	shape = make([]int64, len(dims))
	for i, d := range dims {
		shape[i] = int64(d)
	}
	return dtype, shape, data, nil
}

// WriteArray writes a .npy file of elements as ReadArray gives them.
func WriteArray(path, dtype string, shape []int64, data []byte) error {
	size, known := npySizes[dtype]
	if !known || len(data)%size != 0 {
		return fmt.Errorf("write %s: %d bytes of the element type %q", path, len(data), dtype)
	}
	dims := make([]int, len(shape))
	for i, d := range shape {
		dims[i] = int(d)
	}
	return writeNpy(path, dtype, dims, len(data)/size, data)
}

// ReadUint8 reads a .npy file of uint8 in C order.
func ReadUint8(path string) (shape []int, data []uint8, err error) {
	_, shape, body, err := readNpy(path, npyUint8)
	return shape, body, err
}

// ReadFloat32 reads a .npy file of float32 in C order.
func ReadFloat32(path string) (shape []int, data []float32, err error) {
	_, shape, body, err := readNpy(path, npyFloat32)
	if err != nil {
		return nil, nil, err
	}
	data = make([]float32, len(body)/4)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))
	}
	return shape, data, nil
}

// WriteUint8 writes a .npy file of uint8.
func WriteUint8(path string, shape []int, data []uint8) error {
	return writeNpy(path, npyUint8, shape, len(data), data)
}

// WriteFloat32 writes a .npy file of float32.
func WriteFloat32(path string, shape []int, data []float32) error {
	body := make([]byte, 0, 4*len(data))
	for _, v := range data {
		body = binary.LittleEndian.AppendUint32(body, math.Float32bits(v))
	}
	return writeNpy(path, npyFloat32, shape, len(data), body)
}

func writeNpy(path, descr string, shape []int, n int, body []byte) error {
	if count, err := elements(shape); err != nil || count != n {
		return fmt.Errorf("write %s: %d elements do not have the shape %v", path, n, shape)
	}
	dims := ""
	for _, d := range shape {
		dims += strconv.Itoa(d) + ", "
	}
	if len(shape) > 1 {
		dims = strings.TrimSuffix(dims, ", ")
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, dims)
	const preamble = 10 // magic, version, length
	pad := 64 - (preamble+len(header)+1)%64
	header += strings.Repeat(" ", pad%64) + "\n"
	out := append(bytes.Clone(npyMagic), 1, 0)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(header)))
	out = append(out, header...)
	return verdict.WriteFile(path, append(out, body...))
}

// readNpy wants the element type; an empty one stands for any of npySizes.
func readNpy(path, want string) (descr string, shape []int, body []byte, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", nil, nil, err
	}
	header, body, err := splitNpy(data)
	if err != nil {
		return "", nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	descr, shape, err = parseNpyHeader(header)
	if err != nil {
		return "", nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if want != "" && descr != want {
		return "", nil, nil, fmt.Errorf("%s: the .npy file holds %q, want %q (numpy: .astype(%s))", path, descr, want,
			map[string]string{npyUint8: "'uint8'", npyFloat32: "'float32'"}[want])
	}
	size, known := npySizes[descr]
	if !known {
		return "", nil, nil, fmt.Errorf("%s: the .npy file holds %q, want little-endian numbers or booleans, such as '<f4'", path, descr)
	}
	n, err := elements(shape)
	if err != nil || len(body) != n*size {
		return "", nil, nil, fmt.Errorf("%s: %d bytes of elements do not have the shape %v", path, len(body), shape)
	}
	return descr, shape, body, nil
}

func splitNpy(data []byte) (header string, body []byte, err error) {
	if !bytes.HasPrefix(data, npyMagic) || len(data) < 12 {
		return "", nil, fmt.Errorf("not a .npy file")
	}
	var length, at int
	switch data[6] {
	case 1:
		length, at = int(binary.LittleEndian.Uint16(data[8:])), 10
	case 2:
		length, at = int(binary.LittleEndian.Uint32(data[8:])), 12
	default:
		return "", nil, fmt.Errorf(".npy version %d: want 1 or 2", data[6])
	}
	if length > len(data)-at {
		return "", nil, fmt.Errorf("the .npy file is truncated")
	}
	return string(data[at : at+length]), data[at+length:], nil
}

var (
	npyDescr   = regexp.MustCompile(`'descr'\s*:\s*'([^']*)'`)
	npyFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`'shape'\s*:\s*\(([0-9, ]*)\)`)
)

// parseNpyHeader gives the element type as numpy writes it, and the shape.
func parseNpyHeader(header string) (descr string, shape []int, err error) {
	d, f, s := npyDescr.FindStringSubmatch(header), npyFortran.FindStringSubmatch(header), npyShape.FindStringSubmatch(header)
	if d == nil || f == nil || s == nil {
		return "", nil, fmt.Errorf("the .npy header cannot be understood: %.200q", header)
	}
	if f[1] == "True" {
		return "", nil, fmt.Errorf("the .npy file is in Fortran order: save numpy.ascontiguousarray of it")
	}
	shape = []int{}
	for _, field := range strings.Split(s[1], ",") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		n, err := strconv.Atoi(field)
		if err != nil {
			return "", nil, fmt.Errorf("the .npy shape (%s): %w", s[1], err)
		}
		shape = append(shape, n)
	}
	return d[1], shape, nil
}

func elements(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d < 0 || (d > 0 && n > maxNpyElements/d) {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n *= d
	}
	return n, nil
}
