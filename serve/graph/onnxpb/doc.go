// Package onnxpb is the generated Go of onnx.proto, the part of the ONNX format
// that package graph works with. ./regenerate writes it anew.
package onnxpb
