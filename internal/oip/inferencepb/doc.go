// Package inferencepb is the Open Inference Protocol's gRPC side as protoc makes
// it of inference.proto. ./generate makes it anew.
package inferencepb
