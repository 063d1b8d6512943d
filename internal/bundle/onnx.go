package bundle

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Of the ONNX protobuf (onnx/onnx.proto) only what decides whether the file
// may be opened is walked: IR version, operator sets, and the locations of
// external tensors wherever a tensor may stand.

const (
	minIRVersion = 3  // the first with operator sets
	maxDepth     = 64 // of graphs within attributes
)

// Numbers of the fields that are walked, by message.
const (
	modelIRVersion, modelGraph, modelOpset, modelTraining, modelFunction        = 1, 7, 8, 20, 25
	graphNode, graphInitializer, graphSparse                                    = 1, 5, 15
	nodeAttribute                                                               = 5
	attrTensor, attrGraph, attrTensors, attrGraphs, attrSparse, attrSparseMulti = 5, 6, 10, 11, 22, 23
	tensorExternal                                                              = 13
	functionNode, functionAttributeProto                                        = 7, 11
	entryKey, entryValue                                                        = 1, 2
)

// model is what Inspect found in an ONNX file.
type model struct {
	irVersion uint64
	opsets    int
	external  []string // locations, sorted, each once
}

var errProto = errors.New("not an ONNX file (its protobuf cannot be read)")

// inspectONNX walks the bytes of a model and refuses what no runtime of today
// opens.
func inspectONNX(data []byte) (model, error) {
	var m model
	err := fields(data, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case modelIRVersion:
			m.irVersion = v
		case modelOpset:
			m.opsets++
		case modelGraph:
			return m.graph(b, 0)
		case modelTraining:
			// TrainingInfoProto: initialization = 1, algorithm = 2, both graphs
			return fields(b, func(n protowire.Number, _ uint64, b []byte) error {
				if n == 1 || n == 2 {
					return m.graph(b, 0)
				}
				return nil
			})
		case modelFunction:
			return fields(b, func(n protowire.Number, _ uint64, b []byte) error {
				switch n {
				case functionNode:
					return m.node(b, 0)
				case functionAttributeProto:
					return m.attribute(b, 0)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return model{}, err
	}
	if m.irVersion == 0 {
		return model{}, fmt.Errorf("%d bytes without an IR version: not an ONNX file, or one that was not written to its end", len(data))
	}
	if m.irVersion < minIRVersion {
		return model{}, fmt.Errorf("the ONNX file has IR version %d, from before operator sets: export it again, IR version %d is the oldest that runs", m.irVersion, minIRVersion)
	}
	if m.opsets == 0 {
		return model{}, errors.New("the ONNX file names no operator set (opset_import): export it again")
	}
	slices.Sort(m.external)
	m.external = slices.Compact(m.external)
	return m, nil
}

func (m *model) graph(data []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("graphs are nested more than %d deep: %w", maxDepth, errProto)
	}
	return fields(data, func(n protowire.Number, _ uint64, b []byte) error {
		switch n {
		case graphNode:
			return m.node(b, depth)
		case graphInitializer:
			return m.tensor(b)
		case graphSparse:
			return m.sparse(b)
		}
		return nil
	})
}

func (m *model) node(data []byte, depth int) error {
	return fields(data, func(n protowire.Number, _ uint64, b []byte) error {
		if n == nodeAttribute {
			return m.attribute(b, depth)
		}
		return nil
	})
}

func (m *model) attribute(data []byte, depth int) error {
	return fields(data, func(n protowire.Number, _ uint64, b []byte) error {
		switch n {
		case attrTensor, attrTensors:
			return m.tensor(b)
		case attrSparse, attrSparseMulti:
			return m.sparse(b)
		case attrGraph, attrGraphs:
			return m.graph(b, depth+1)
		}
		return nil
	})
}

// sparse reads a SparseTensorProto: values = 1 and indices = 2 are tensors.
func (m *model) sparse(data []byte) error {
	return fields(data, func(n protowire.Number, _ uint64, b []byte) error {
		if n == 1 || n == 2 {
			return m.tensor(b)
		}
		return nil
	})
}

func (m *model) tensor(data []byte) error {
	return fields(data, func(n protowire.Number, _ uint64, b []byte) error {
		if n != tensorExternal {
			return nil
		}
		var key, value string
		err := fields(b, func(n protowire.Number, _ uint64, b []byte) error {
			switch n {
			case entryKey:
				key = string(b)
			case entryValue:
				value = string(b)
			}
			return nil
		})
		if key == "location" {
			m.external = append(m.external, value)
		}
		return err
	})
}

// fields calls see for every field of a message: v holds a varint, b the bytes
// of a length-delimited field.
func fields(data []byte, see func(n protowire.Number, v uint64, b []byte) error) error {
	for len(data) > 0 {
		n, kind, used := protowire.ConsumeTag(data)
		if used < 0 {
			return errProto
		}
		data = data[used:]
		var v uint64
		var b []byte
		switch kind {
		case protowire.VarintType:
			v, used = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			b, used = protowire.ConsumeBytes(data)
		default:
			used = protowire.ConsumeFieldValue(n, kind, data)
		}
		if used < 0 {
			return errProto
		}
		data = data[used:]
		if err := see(n, v, b); err != nil {
			return err
		}
	}
	return nil
}
