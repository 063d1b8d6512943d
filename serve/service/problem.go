package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/admission"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/remote"
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
	Digest     string        // of the model that was asked; empty where it is not known
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
	var refused *admission.Refused
	if errors.As(err, &refused) {
		return &Problem{Kind: Refused, Text: refused.Error(), RetryAfter: refused.RetryAfter, Err: err}
	}
	kind, text := kindOf(err), err.Error()
	switch kind {
	case Unavailable:
		text = "no model is loaded yet"
	case Late:
		text = "the deadline of the request passed before the answer was there"
	case Gone:
		text = "the client went away"
	}
	return &Problem{Kind: kind, Text: text, Err: err}
}

// tell keeps what a library says of a run from the sender: it names nodes of the
// graph, and values. The log has it (Err), by the request's id.
func (p *Problem) tell(id string) {
	switch {
	case p.Kind == Model:
		p.Text = "the model failed on this input: the server's log says why, by the request id " + id
	case p.Kind == Internal && p.Err != nil:
		p.Text = "the server failed on this request: its log says why, by the request id " + id
	}
}

func kindOf(err error) Kind {
	var picture *imaging.Error
	var body *oip.BadRequest
	var address *remote.Refused
	var input *model.InputError
	var run *model.RunError
	switch {
	case errors.As(err, &picture):
		return ofPicture(picture.Code)
	case errors.As(err, &body) && body.TooLarge:
		return TooLarge
	case errors.As(err, &address):
		return ofAddress(address.Reason)
	case errors.As(err, &input), errors.As(err, &body):
		return BadInput
	case errors.As(err, &run):
		return Model
	case errors.Is(err, host.ErrNoModel), errors.Is(err, model.ErrClosed):
		return Unavailable
	case errors.Is(err, context.DeadlineExceeded):
		return Late
	case errors.Is(err, context.Canceled):
		return Gone
	}
	return Internal
}

func ofPicture(code imaging.Code) Kind {
	switch code {
	case imaging.TooLarge:
		return TooLarge
	case imaging.Unsupported:
		return Unsupported
	}
	return BadInput
}

func ofAddress(reason remote.Reason) Kind {
	switch reason {
	case remote.NotAllowed:
		return Denied
	case remote.TooLarge:
		return TooLarge
	case remote.NoPicture:
		return Unsupported
	}
	return BadInput // it is no URL, or nothing answers there
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
		var refused *admission.Refused
		if allowed < slo && errors.As(p.Err, &refused) && refused.Reason == admission.Deadline {
			return metrics.ClientError // nobody promised to keep such a deadline
		}
		return metrics.Refused
	}
	return metrics.ServerError
}
