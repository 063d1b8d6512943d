package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
)

// Kind is what went wrong with a request, and so whose fault it was.
type Kind string

// The kinds. They are values of a metric's label.
const (
	BadInput    Kind = "bad_input"   // the sender's: damaged, incomplete, of the wrong form
	TooLarge    Kind = "too_large"   // the sender's: above a limit
	Unsupported Kind = "unsupported" // the sender's: a format or a task that there is not
	NotFound    Kind = "not_found"   // the sender's: a model, version or output that there is not
	Denied      Kind = "denied"      // the sender's: no or another token, an address that is not allowed
	Refused     Kind = "refused"     // the server's: it would not be done in time, and was not begun
	Late        Kind = "late"        // the server's: it was begun, and the sender's own deadline passed
	Gone        Kind = "gone"        // the sender went away
	Unavailable Kind = "unavailable" // the server's: no model is loaded yet
	Model       Kind = "model"       // the model's: its graph failed, or its scores are none
	Internal    Kind = "internal"    // the server's: a fault of the program
)

// Kinds are all of them: a transport's table has a row for each.
var Kinds = []Kind{BadInput, TooLarge, Unsupported, NotFound, Denied, Refused, Late, Gone, Unavailable, Model, Internal}

// Problem is why a request had no success. Every error of this package is one.
type Problem struct {
	Kind       Kind
	Text       string        // for the sender: never contents, never a file's name
	RetryAfter time.Duration // of Refused: when a turn is likely
	Err        error         // for the log; may be nil
}

func (p *Problem) Error() string { return p.Text }
func (p *Problem) Unwrap() error { return p.Err }

// Bad is a problem of the sender's.
func Bad(kind Kind, format string, args ...any) *Problem {
	return &Problem{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// ProblemOf finds what kind of problem an error of the packages below is.
func ProblemOf(err error) *Problem {
	var known *Problem
	if errors.As(err, &known) {
		return known
	}
	var picture *imaging.Error
	var run *model.RunError
	kind, text := Internal, err.Error()
	switch {
	case errors.As(err, &picture):
		kind = kindOf(picture.Code)
	case errors.As(err, &run):
		kind = Model
	case errors.Is(err, host.ErrNoModel), errors.Is(err, model.ErrClosed):
		kind, text = Unavailable, "no model is loaded yet"
	case errors.Is(err, context.DeadlineExceeded):
		kind, text = Late, "the deadline of the request passed before the answer was there"
	case errors.Is(err, context.Canceled):
		kind, text = Gone, "the client went away"
	}
	return &Problem{Kind: kind, Text: text, Err: err}
}

func kindOf(code imaging.Code) Kind {
	switch code {
	case imaging.TooLarge:
		return TooLarge
	case imaging.Unsupported:
		return Unsupported
	}
	return BadInput
}

// outcome says how a problem counts. The canary is judged by what is not the
// sender's: a sender who gives up, or whose own deadline passes, is to blame
// only within the slo.
func (p *Problem) outcome(took, allowed, slo time.Duration) metrics.Outcome {
	switch p.Kind {
	case BadInput, TooLarge, Unsupported, NotFound, Denied:
		return metrics.ClientError
	case Gone, Late:
		if took < slo {
			return metrics.ClientError
		}
	case Refused:
		if allowed < slo { // a deadline of the sender's that was never to be kept
			return metrics.ClientError
		}
		return metrics.Refused
	}
	return metrics.ServerError
}
