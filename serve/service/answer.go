package service

import (
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
)

// Phases are the parts of a request. Queue is the waiting: for the turn, for
// CPUs and for the others of a batch. Encode is the transport's, and the
// picture's where the answer is one.
type Phases struct{ Decode, Resize, Queue, Run, Explain, Encode time.Duration }

// Phase is one of them.
type Phase struct {
	Name string
	Took time.Duration
}

// List gives them in their order; explain only where there was one.
func (p Phases) List() []Phase {
	all := []Phase{{"decode", p.Decode}, {"resize", p.Resize}, {"queue", p.Queue}, {"run", p.Run}}
	if p.Explain > 0 {
		all = append(all, Phase{"explain", p.Explain})
	}
	return append(all, Phase{"encode", p.Encode})
}

// Account is the open end of an answered request. It counts once the transport
// says that the answer is encoded: how slowly somebody reads is not the
// server's fault.
type Account struct {
	Model  string // name
	Digest string
	Phases Phases

	count   func(a *Account, failed error)
	release func()
}

// Encoded counts the request, with what its encoding took.
func (a *Account) Encoded(took time.Duration) {
	a.Phases.Encode += took
	a.settle(nil)
}

// Fail counts a request whose answer could not be encoded.
func (a *Account) Fail(err error) { a.settle(err) }

// Release gives the answer's memory back, and counts the request if that was
// not done before. Calls after the first do nothing.
func (a *Account) Release() {
	a.settle(nil)
	if release := a.release; release != nil {
		a.release = nil
		release()
	}
}

func (a *Account) settle(err error) {
	if count := a.count; count != nil {
		a.count = nil
		count(a, err)
	}
}

// Inference is an answer of tensors, which live until Release.
type Inference struct {
	Account
	Outputs []oip.Tensor
}

// Prediction is an answer about a picture: Scores or Enlarged, by the model's
// task.
type Prediction struct {
	Account
	Scores       []Score // in the order of the bundle's labels
	Explanations []Explanation
	Caveat       string // beside every explanation
	Enlarged     *Enlarged
}

// Score is one label's: positive where the score reaches the threshold.
type Score struct {
	Label     string
	Score     float32 // 0 to 1
	Threshold float64
	Positive  bool
	Urgency   string
}

// Explanation is the heat map of one positive finding over the picture.
type Explanation struct {
	Label         string
	Method        Method
	Exact         bool   // the map is the score's own: its mean is the logit, but for the bias
	Note          string // what limits it; empty: nothing
	PNG           []byte // empty: there was no time for it, Note says so
	Width, Height int    // of the PNG
}

// Enlarged is a picture of exactly Scale x the one that was sent.
type Enlarged struct {
	PNG                  []byte
	Width, Height, Scale int
}
