package demo

import (
	"context"
	"fmt"
)

// Ways to drive the line.
const (
	Terminal  = "terminal"
	Workflows = "workflows"
)

// driver is who drives the line. begin makes it ready once the project is
// there; run does a task to its end; end stops what begin started, also where
// begin failed or was never called.
type driver interface {
	begin(ctx context.Context) error
	run(ctx context.Context, t task) (outcome, error)
	end() error
}

// task is something that the demo has the line do.
type task struct {
	kind  taskKind
	batch int // its number, of landBatch
}

type taskKind int

const (
	landBatch taskKind = iota // a batch lands and goes as far as it gets
	goBack                    // production returns to the version before
	goForward                 // and again to the second batch's
)

func (d *demo) choose() (driver, error) {
	switch d.Way {
	case Terminal, "":
		return &terminal{demo: d}, nil
	case Workflows:
		return &workflows{demo: d}, nil
	}
	return nil, fmt.Errorf("no way %q to drive the line; there are %s and %s", d.Way, Terminal, Workflows)
}
