package api

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// wantAsJSON compares an answer with what encoding/json makes of it.
func wantAsJSON(t *testing.T, s *Server, p *service.Prediction) {
	t.Helper()
	id, pool := service.NewID(), buffers.New()
	want, err := json.Marshal(predictionOf(id, p, false))
	if err != nil {
		t.Fatal(err)
	}
	loan := buffers.NewLoan(pool)
	defer loan.End()
	kind, got, err := s.encode(id, p, false, loan)
	if err != nil || kind != "application/json" || string(got) != string(want)+"\n" {
		t.Fatalf("%v, %s\n got %s\nwant %s", err, kind, got, want)
	}
}

func TestAnswersAreWhatEncodingJSONMakesOfThem(t *testing.T) {
	s := New(Options{})
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "", `"score":0,"`, `{"request_id":""`, "Größe <b> & \u2028 \x01 \\", strings.Repeat("long ", 1000), "\xff"}
	p := service.Prediction{Account: service.Account{Model: `m"odel`, Digest: "d1"}}
	for i, name := range names {
		p.Scores = append(p.Scores, service.Score{Label: name, Threshold: []float64{0, 0.5, 1e-9, 1, 0.1}[i%5], Urgency: names[i/2]})
	}
	edges := []float32{0, float32(math.Copysign(0, -1)), 1, 0.5, 1e-6, math.Nextafter32(1e-6, 0), math.Nextafter32(1e-6, 1), 1e-7, 1e-10, math.SmallestNonzeroFloat32, math.Nextafter32(1, 0), 0.1}
	for range 5000 {
		for i := range p.Scores {
			p.Scores[i].Score = edges[random.IntN(len(edges))]
			switch random.IntN(3) {
			case 0:
				p.Scores[i].Score = random.Float32()
			case 1:
				p.Scores[i].Score = math.Float32frombits(random.Uint32N(math.Float32bits(1)))
			}
			p.Scores[i].Positive = random.IntN(2) == 0
		}
		wantAsJSON(t, s, &p)
	}
	explained := p
	explained.Explanations, explained.Caveat = []service.Explanation{{Label: "a", PNG: []byte("png")}}, "it may mislead"
	wantAsJSON(t, s, &explained)
	wantAsJSON(t, s, &p)
}

func TestEveryModelAnswersWithItsOwnLabels(t *testing.T) {
	s := New(Options{})
	of := func(name, digest, label string) *service.Prediction {
		return &service.Prediction{
			Account: service.Account{Model: name, Digest: digest},
			Scores:  []service.Score{{Label: label, Score: 0.25, Threshold: 0.2, Positive: true, Urgency: "routine"}},
		}
	}
	for range 2 { // the one before answers the last requests of a swap
		wantAsJSON(t, s, of("xray", "d1", "cardiomegaly"))
		wantAsJSON(t, s, of("other", "d1", "effusion"))
		wantAsJSON(t, s, of("xray", "d2", "mass"))
	}
	if n := len(s.frames.byName); n != 2 {
		t.Errorf("%d frames are kept of two names", n)
	}
}
