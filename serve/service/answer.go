package service

import (
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/metrics"
)

// Phases are the parts of a request. Queue is the waiting: for the turn, for
// CPUs and for the others of a batch. Encode is the transport's, and the
// picture's where the answer is one.
type Phases struct{ Decode, Resize, Queue, Run, Explain, Encode time.Duration }

// Phase is one of them.
type Phase = metrics.Phase

// List gives them in their order; explain only where there was one.
func (p Phases) List() []Phase {
	all := append(make([]Phase, 0, 6),
		Phase{Name: "decode", Took: p.Decode}, Phase{Name: "resize", Took: p.Resize},
		Phase{Name: "queue", Took: p.Queue}, Phase{Name: "run", Took: p.Run})
	if p.Explain > 0 {
		all = append(all, Phase{Name: "explain", Took: p.Explain})
	}
	return append(all, Phase{Name: "encode", Took: p.Encode})
}

// Account is the open end of an answered request. It counts once the transport
// says that the answer is encoded: how slowly somebody reads is not the
// server's fault.
type Account struct {
	Model  string // name
	Digest string
	Phases Phases

	uncounted, held *work // until it is counted, and until it is released
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
	if w := a.held; w != nil {
		a.held = nil
		w.free()
	}
}

func (a *Account) settle(err error) {
	if w := a.uncounted; w != nil {
		a.uncounted = nil
		w.phases = a.Phases
		w.count(err)
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
