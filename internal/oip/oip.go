// Package oip owns the Open Inference Protocol, version 2
// (github.com/kserve/open-inference-protocol), that server, load test and
// traffic share: its types, and requests and answers to and from bytes. Tensors
// are bytes from the wire to the runtime and back (Tensor), whichever way they
// travel: as JSON, flat or nested; behind the JSON, by Triton's binary tensor
// extension (github.com/triton-inference-server/server,
// docs/protocol/extension_binary_data.md); or over gRPC, whose messages stand in
// inferencepb.
//
// JSON is read by a scanner of its own (scan.go, number.go): 150k floats in 2
// to 3 ms without garbage, where encoding/json takes 17 and makes a copy.
//
// Refused, as the sender's fault (BadRequest): what breaks a limit, fields that
// come twice, text after the JSON, numbers that JSON does not know (NaN), or
// that are out of their datatype's range, FP16 and BF16 as JSON, data whose
// nesting or number contradicts the shape, sizes that disagree.
package oip

import "fmt"

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
