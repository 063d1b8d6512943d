// Package oip owns the types of the Open Inference Protocol, version 2, that
// server, load test and traffic share (github.com/kserve/open-inference-protocol).
// So far: REST with JSON data.
//
// Refused: tensor data whose nesting contradicts the shape, numbers that JSON
// cannot hold, more elements than a limit.
package oip

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Error is the body of every answer that is no success.
type Error struct {
	Error string `json:"error"`
}

// Extensions are the extensions of the protocol that the server offers.
var Extensions = []string{"binary_tensor_data"}

// Live is the body of GET /v2/health/live.
type Live struct {
	Live bool `json:"live"`
}

// Ready is the body of GET /v2/health/ready and of a model's ready.
type Ready struct {
	Name  string `json:"name,omitempty"`
	Ready bool   `json:"ready"`
}

// Server is the body of GET /v2.
type Server struct {
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Extensions []string `json:"extensions"`
}

// Model is the body of GET /v2/models/M. A version is a bundle's digest.
type Model struct {
	Name     string     `json:"name"`
	Versions []string   `json:"versions"`
	Platform string     `json:"platform"`
	Inputs   []Metadata `json:"inputs"`
	Outputs  []Metadata `json:"outputs"`
}

// Metadata describes a tensor; a dimension of -1 is free.
type Metadata struct {
	Name     string   `json:"name"`
	Datatype Datatype `json:"datatype"`
	Shape    []int64  `json:"shape"`
}

// InferRequest is the body of POST /v2/models/M/infer.
type InferRequest struct {
	ID         string          `json:"id,omitempty"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Inputs     []Input         `json:"inputs"`
	Outputs    []Requested     `json:"outputs,omitempty"`
}

// Input is a tensor of a request. Data is flat or nested, row-major.
type Input struct {
	Name       string          `json:"name"`
	Shape      []int64         `json:"shape"`
	Datatype   Datatype        `json:"datatype"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Data       json.RawMessage `json:"data"`
}

// Requested names an output that the caller wants.
type Requested struct {
	Name       string         `json:"name"`
	Binary     bool           `json:"-"` // as bytes behind the JSON
	Parameters map[string]any `json:"parameters,omitempty"`
}

// InferResponse is the answer of POST /v2/models/M/infer.
type InferResponse struct {
	ID      string   `json:"id,omitempty"`
	Model   string   `json:"model_name"`
	Version string   `json:"model_version"`
	Outputs []Output `json:"outputs"`
}

// Output is a tensor of an answer, flat.
type Output struct {
	Name     string    `json:"name"`
	Shape    []int64   `json:"shape"`
	Datatype Datatype  `json:"datatype"`
	Data     []float32 `json:"data"`
}

// Elements is the number of elements of a shape, at most limit; dimensions are
// at least 1.
func Elements(shape []int64, limit int) (int, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 1 {
			return 0, fmt.Errorf("shape %v: every dimension is at least 1", shape)
		}
		if n > int64(limit)/d {
			return 0, fmt.Errorf("shape %v: more than %d elements", shape, limit)
		}
		n *= d
	}
	return int(n), nil
}

// Floats reads the JSON array data of a tensor with this shape, of n elements,
// either flat or nested exactly as the shape is.
func Floats(data []byte, shape []int64, n int) ([]float32, error) {
	p := parser{data: data, out: make([]float32, 0, n)}
	switch depth := p.depth(); depth {
	case 0:
		return nil, errArray
	case 1:
		shape = []int64{int64(n)}
	case len(shape):
	default:
		return nil, fmt.Errorf("data is nested %d deep, want 1 (flat) or %d (as the shape %v)", depth, len(shape), shape)
	}
	if err := p.array(shape); err != nil {
		return nil, err
	}
	if p.skip(); p.at != len(p.data) {
		return nil, fmt.Errorf("data goes on after its array, at byte %d", p.at)
	}
	return p.out, nil
}

// parser reads nested arrays of numbers: encoding/json would make a value of
// its own of each of a hundred thousand numbers.
type parser struct {
	data []byte
	at   int
	out  []float32
}

func (p *parser) skip() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// depth counts the brackets that data opens with, and reads nothing.
func (p *parser) depth() int {
	ahead := parser{data: p.data}
	for depth := 0; ; depth++ {
		if ahead.skip(); !ahead.next('[') {
			return depth
		}
	}
}

func (p *parser) next(c byte) bool {
	if p.at < len(p.data) && p.data[p.at] == c {
		p.at++
		return true
	}
	return false
}

var errArray = errors.New("data is not an array of numbers")

// array reads one array of shape[0] elements, each an array of the rest.
func (p *parser) array(shape []int64) error {
	if p.skip(); !p.next('[') {
		return fmt.Errorf("%w: want [ at byte %d", errArray, p.at)
	}
	for i := range shape[0] {
		if p.skip(); i > 0 && !p.next(',') {
			return fmt.Errorf("%w, or an array has %d of %d elements, at byte %d", errArray, i, shape[0], p.at)
		}
		var err error
		if len(shape) > 1 {
			err = p.array(shape[1:])
		} else {
			err = p.number()
		}
		if err != nil {
			return err
		}
	}
	if p.skip(); !p.next(']') {
		return fmt.Errorf("%w, or an array has more than %d elements, at byte %d", errArray, shape[0], p.at)
	}
	return nil
}

func (p *parser) number() error {
	p.skip()
	start := p.at
	for p.at < len(p.data) {
		c := p.data[p.at]
		if (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			break
		}
		p.at++
	}
	v, err := strconv.ParseFloat(string(p.data[start:p.at]), 32)
	if err != nil {
		return fmt.Errorf("%w: %q at byte %d is no float32", errArray, p.data[start:p.at], start)
	}
	p.out = append(p.out, float32(v))
	return nil
}
