// Package oip holds the server to the Open Inference Protocol as other people's
// clients speak it: tritonclient over HTTP and gRPC, against a real
// penstock-serve with a real bucket, and the test vectors of other people's
// models over every way that tensors can travel.
package oip
