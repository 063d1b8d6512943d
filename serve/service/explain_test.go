package service

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// explained makes the heat maps of a picture with one positive finding, by
// occlusion or from the graph.
func explained(t *testing.T, ctx context.Context, s *Service, deadline time.Time, occlusion bool) (*Prediction, *work, error) {
	t.Helper()
	b, err := bundle.Read(bundletest.New(t, bundletest.Mean, func(m *bundle.Manifest) {
		if occlusion {
			m.Outputs.Heatmap = ""
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(t.Context(), modeltest.Runtime(t), b)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	picture, err := m.Prepare(t.Context(), bundletest.Picture(t, 30, 20, 150))
	if err != nil {
		t.Fatal(err)
	}
	defer picture.Release()
	scores, err := m.Score(t.Context(), picture)
	if err != nil {
		t.Fatal(err)
	}
	w := s.begin(Call{Deadline: deadline})
	p := &Prediction{Scores: decide(m, scores.Values)}
	err = w.explain(ctx, p, m, picture, scores)
	return p, w, err
}

func quiet(term time.Duration) *Service {
	return New(Options{Log: slog.New(slog.DiscardHandler), SLO: time.Second, ExplainTerm: term})
}

func TestAHeatMapWithoutTimeLeavesTheScoresAndSaysSo(t *testing.T) {
	for _, occlusion := range []bool{true, false} {
		p, w, err := explained(t, t.Context(), quiet(time.Minute), time.Now().Add(-time.Millisecond), occlusion)
		if err != nil || len(p.Explanations) != 1 || p.Caveat == "" || w.phases.Explain == 0 {
			t.Fatalf("occlusion %t: %v %+v", occlusion, err, p)
		}
		if e := p.Explanations[0]; len(e.PNG) != 0 || !strings.Contains(e.Note, "allow more") {
			t.Errorf("occlusion %t: %q", occlusion, e.Note)
		}
	}
	if p, _, err := explained(t, t.Context(), quiet(time.Minute), time.Time{}, true); err != nil || len(p.Explanations[0].PNG) == 0 {
		t.Errorf("with time: %v %+v", err, p)
	}
}

func TestAHeatMapThatWaitsForOthersGivesUpInTime(t *testing.T) {
	s := quiet(50 * time.Millisecond)
	for range cap(s.explaining) {
		s.explaining <- struct{}{}
	}
	p, _, err := explained(t, t.Context(), s, time.Time{}, false)
	if err != nil || len(p.Explanations) != 1 || p.Explanations[0].Note == "" {
		t.Errorf("%v %+v", err, p)
	}
}

func TestNobodyIsExplainedToWhoHasLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, occlusion := range []bool{true, false} {
		_, _, err := explained(t, ctx, quiet(time.Minute), time.Time{}, occlusion)
		if !errors.Is(err, context.Canceled) || ProblemOf(err).Kind != Gone {
			t.Errorf("occlusion %t: %v", occlusion, err)
		}
	}
}

func TestAnExplanationIsNotTheSlosMatter(t *testing.T) {
	var count counted
	s := New(Options{Log: slog.New(slog.DiscardHandler), SLO: time.Second, Strays: &count})
	w := s.begin(Call{Began: time.Now().Add(-3 * time.Second)})
	w.phases.Explain = 2900 * time.Millisecond
	w.count(nil)
	if len(count) != 1 || count[0].Took > time.Second {
		t.Errorf("%+v", count)
	}
}
