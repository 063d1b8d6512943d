package evaluation

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/penstock-ml/penstock/internal/predictions"
)

func digest(i int) string { return fmt.Sprintf("%064x", i) }

const (
	candidateModel = 1 + iota
	championModel
	newDataset
	oldDataset
)

var labels = []string{"Mass", "Effusion", "Hernia"}

// world is two data sets, the newer one the older one plus batch b2, and two
// models on their test rows.
type world struct {
	rng      *rand.Rand
	patients []patient
}

type patient struct {
	name, batch string
	sick        [3]bool
	shuffled    bool // its labels have nothing to do with its images
}

func newWorld(old, batch int, shuffled bool) *world {
	w := &world{rng: rand.New(rand.NewPCG(11, 11))}
	for i := range old + batch {
		p := patient{name: fmt.Sprintf("p%04d", i), batch: "b1"}
		if i >= old {
			p.batch, p.shuffled = "b2", shuffled
		}
		p.sick = [3]bool{w.rng.Float64() < 0.4, w.rng.Float64() < 0.25, i == 3} // Hernia: one patient
		w.patients = append(w.patients, p)
	}
	return w
}

// predict draws the predictions of a model that separates by so many standard
// deviations, for the patients of the batches.
func (w *world) predict(model, dataset int, separation float64, batches ...string) Predictions {
	rng := rand.New(rand.NewPCG(uint64(model), 5)) // a model scores an image alike in every data set
	p := Predictions{SHA256: digest(100*model + dataset), Meta: predictions.Meta{
		Schema: predictions.Schema, Dataset: digest(dataset), Split: TestSplit, Model: digest(model),
		Suite: predictions.SuiteSplit, Tool: "test", Labels: labels,
		Thresholds: map[string]float64{"Mass": 0.5, "Effusion": 0.6},
	}}
	for i, who := range w.patients {
		for image := range 3 {
			r := predictions.Row{
				ID: fmt.Sprintf("%s/%s-%d.png", who.batch, who.name, image), Group: who.name, Split: TestSplit, Batch: who.batch,
				SHA256: digest(1000 + 3*i + image), LatencyMS: 1 + rng.Float64(),
				Slices: map[string]string{"sex": []string{"F", "M"}[i%2]},
			}
			for k := range labels {
				z := rng.NormFloat64()
				if who.sick[k] && !who.shuffled {
					z += separation
				}
				r.Labels = append(r.Labels, who.sick[k])
				r.Scores = append(r.Scores, float32(1/(1+math.Exp(-z))))
			}
			if slices.Contains(batches, who.batch) {
				p.Rows = append(p.Rows, r)
			}
		}
	}
	return p
}

func expected(p Predictions) []Example {
	var out []Example
	for _, r := range p.Rows {
		e := Example{ID: r.ID, SHA256: r.SHA256, Group: r.Group, Batch: r.Batch}
		for k, l := range p.Meta.Labels {
			if r.Labels[k] {
				e.Labels = append(e.Labels, l)
			}
		}
		out = append(out, e)
	}
	return out
}

var settings = Settings{Confidence: 0.95, Replicates: 2000, Seed: 1, PositiveGroups: 5, NegativeGroups: 5}

func (w *world) input(candidate, champion float64) Input {
	in := Input{
		Settings: settings, Model: digest(candidateModel), Dataset: digest(newDataset), Batch: "b2",
		Candidate: w.predict(candidateModel, newDataset, candidate, "b1", "b2"),
		Champion: &Champion{
			Model: digest(championModel), Dataset: digest(oldDataset),
			Candidate: w.predict(candidateModel, oldDataset, candidate, "b1"),
			Own:       w.predict(championModel, oldDataset, champion, "b1"),
			Here:      w.predict(championModel, newDataset, champion, "b1", "b2"),
		},
	}
	in.Expected, in.Champion.Expected = expected(in.Candidate), expected(in.Champion.Own)
	return in
}
