package main

import (
	"flag"
	"testing"

	"github.com/penstock-ml/penstock/internal/action/actiontest"
)

var update = flag.Bool("update", false, "write the generated files")

func TestGeneratedFilesAreCurrent(t *testing.T) {
	actiontest.Generated(t, "../..", "penstock-serve", commands(), *update)
}
