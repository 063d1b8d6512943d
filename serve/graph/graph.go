// Package graph looks into ONNX files and changes them: what goes in and out,
// how far an output pixel sees (ReceptiveField), and a class activation map as
// one more output (AddCAM).
//
// It works on an own subset of the format (onnxpb); all the rest of a file is
// kept as it is. Nothing is run here. Refused: files that are too large or
// whose protobuf would take far more memory than the file, before they are
// decoded, and files that are no ONNX model.
package graph

import (
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// Limits of a file. A message in memory is a hundred times its two bytes in
// the file, so their number is bounded beside the bytes.
const (
	MaxBytes    = 1 << 30
	maxMessages = 1 << 20
)

// ErrNotONNX means that the bytes are no ONNX model.
var ErrNotONNX = errors.New("not an ONNX file (its protobuf cannot be read)")

// Graph is a model that was read. Its methods do not change it.
type Graph struct {
	model     *onnxpb.Model
	made      map[string]*onnxpb.Node   // by the name of each output
	constants map[string]*onnxpb.Tensor // initializers and Constant nodes, by name
	opset     int64                     // of the standard operators
}

// Value is an input or output of the graph. Datatype is empty for what is no
// tensor of a type that travels. A nil Shape is unknown, a dimension of -1 free.
type Value struct {
	Name     string
	Datatype oip.Datatype
	Shape    []int64
}

// Read parses a file of at most MaxBytes.
func Read(path string) (*Graph, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	g, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

// Parse decodes an ONNX model.
func Parse(data []byte) (*Graph, error) {
	m := new(onnxpb.Model)
	if err := decode(data, m); err != nil {
		return nil, err
	}
	if m.IrVersion == nil || m.Graph == nil {
		return nil, fmt.Errorf("%d bytes without IR version or graph: not an ONNX file, or one that was not written to its end", len(data))
	}
	return index(m)
}

// index names what each tensor is made by.
func index(m *onnxpb.Model) (*Graph, error) {
	g := &Graph{model: m, made: map[string]*onnxpb.Node{}, constants: map[string]*onnxpb.Tensor{}}
	for _, set := range m.GetOpsetImport() {
		if standard(set.GetDomain()) {
			g.opset = set.GetVersion()
		}
	}
	for _, t := range m.GetGraph().GetInitializer() {
		g.constants[t.GetName()] = t
	}
	for _, n := range m.GetGraph().GetNode() {
		for _, name := range n.GetOutput() {
			if name == "" {
				continue // an optional output that is not wanted
			}
			if g.made[name] != nil {
				return nil, fmt.Errorf("two nodes of the graph make the tensor %q", name)
			}
			g.made[name] = n
		}
		if len(n.GetOutput()) != 1 || !standard(n.GetDomain()) {
			continue
		}
		t := g.constants[input(n, 0)]
		if n.GetOpType() == "Constant" {
			t = constantOf(n)
		}
		// Identity: weights that two layers share.
		if t != nil && (n.GetOpType() == "Constant" || n.GetOpType() == "Identity") {
			g.constants[n.GetOutput()[0]] = t
		}
	}
	return g, nil
}

func standard(domain string) bool { return domain == "" || domain == "ai.onnx" }

// decode bounds the number of messages before it makes them.
func decode(data []byte, into proto.Message) error {
	if len(data) > MaxBytes {
		return fmt.Errorf("the ONNX file has more than %d bytes: keep its weights in external tensors", MaxBytes)
	}
	left := maxMessages
	if err := count(into.ProtoReflect().Descriptor(), data, &left); err != nil {
		return err
	}
	if err := proto.Unmarshal(data, into); err != nil {
		return ErrNotONNX
	}
	return nil
}

// count walks the bytes of a message by its description. The messages of
// onnx.proto do not nest without bound, so neither does this.
func count(m protoreflect.MessageDescriptor, data []byte, left *int) error {
	if *left--; *left < 0 {
		return fmt.Errorf("the ONNX file holds more than %d nodes, tensors and attributes", maxMessages)
	}
	for len(data) > 0 {
		n, kind, used := protowire.ConsumeTag(data)
		if used < 0 {
			return ErrNotONNX
		}
		data = data[used:]
		used = protowire.ConsumeFieldValue(n, kind, data)
		if used < 0 {
			return ErrNotONNX
		}
		field := m.Fields().ByNumber(n)
		if kind == protowire.BytesType && field != nil && field.Message() != nil {
			inner, _ := protowire.ConsumeBytes(data)
			if err := count(field.Message(), inner, left); err != nil {
				return err
			}
		}
		data = data[used:]
	}
	return nil
}

// Marshal gives the bytes of the model.
func (g *Graph) Marshal() ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(g.model)
	if err != nil {
		return nil, fmt.Errorf("encode the ONNX model: %w", err)
	}
	return data, nil
}

// Inputs are what a run must give, in the graph's order.
func (g *Graph) Inputs() []Value {
	var values []Value
	for _, v := range g.model.GetGraph().GetInput() {
		if g.constants[v.GetName()] == nil { // before IR version 4 weights are listed too
			values = append(values, valueOf(v))
		}
	}
	return values
}

// Outputs are what a run gives, in the graph's order.
func (g *Graph) Outputs() []Value {
	var values []Value
	for _, v := range g.model.GetGraph().GetOutput() {
		values = append(values, valueOf(v))
	}
	return values
}

func valueOf(v *onnxpb.ValueInfo) Value {
	t := v.GetType().GetTensorType()
	value := Value{Name: v.GetName(), Datatype: datatypes[t.GetElemType()]}
	if t.GetShape() == nil {
		return value
	}
	value.Shape = []int64{}
	for _, d := range t.GetShape().GetDim() {
		n := int64(-1)
		if known, ok := d.GetValue().(*onnxpb.Shape_Dimension_DimValue); ok && known.DimValue >= 0 {
			n = known.DimValue
		}
		value.Shape = append(value.Shape, n)
	}
	return value
}

// shapeOf is what the file says of a tensor's shape; nil where it says nothing.
func (g *Graph) shapeOf(name string) []int64 {
	if t := g.constants[name]; t != nil {
		return t.GetDims()
	}
	in := g.model.GetGraph()
	for _, list := range [][]*onnxpb.ValueInfo{in.GetInput(), in.GetOutput(), in.GetValueInfo()} {
		for _, v := range list {
			if v.GetName() == name {
				return valueOf(v).Shape
			}
		}
	}
	return nil
}
