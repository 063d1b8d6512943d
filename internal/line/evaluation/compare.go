package evaluation

import "github.com/penstock-ml/penstock/internal/predictions"

// of keeps the rows of one batch.
func (p Predictions) of(batch string) Predictions {
	out := Predictions{Meta: p.Meta}
	for _, r := range p.Rows {
		if r.Batch == batch {
			out.Rows = append(out.Rows, r)
		}
	}
	return out
}

// compare measures both models on the champion's test rows.
func (s Settings) compare(candidate, champion Predictions) (*Comparison, error) {
	tables := numbered(candidate, champion)
	ours, theirs := tables[0], tables[1]
	evaluable := s.evaluable(theirs)
	var b bench
	var at [][3]int // candidate, champion, difference of each label
	for k := range ours.meta.Labels {
		a, err := b.auroc(ours, k)
		if err != nil {
			return nil, err
		}
		c, err := b.auroc(theirs, k)
		if err != nil {
			return nil, err
		}
		at = append(at, [3]int{a, c, b.difference(a, c)})
	}
	mine, his := []int{}, []int{}
	for _, k := range evaluable {
		mine, his = append(mine, at[k][0]), append(his, at[k][1])
	}
	a, c := b.mean(mine), b.mean(his)
	d := b.difference(a, c)
	parts, err := s.moves(&b, ours, theirs)
	if err != nil {
		return nil, err
	}
	metrics, err := b.run(ours.groups, s)
	if err != nil {
		return nil, err
	}
	out := &Comparison{
		Rows: len(theirs.rows), Groups: theirs.present(), Evaluable: theirs.names(evaluable),
		Candidate: metrics[a], Champion: metrics[c], Difference: metrics[d],
	}
	for k, name := range theirs.meta.Labels {
		counts := theirs.counts(k)
		out.Labels = append(out.Labels, Difference{
			Name: name, Counts: counts, Evaluable: s.enough(counts),
			Candidate: metrics[at[k][0]], Champion: metrics[at[k][1]], Difference: metrics[at[k][2]],
		})
	}
	for _, p := range parts {
		p.Candidate, p.Champion, p.Difference = metrics[p.at[0]], metrics[p.at[1]], metrics[p.at[2]]
		out.Slices = append(out.Slices, p.SliceDifference)
	}
	return out, nil
}

// move is a slice and where its three metrics stand on the bench.
type move struct {
	SliceDifference
	at [3]int // candidate, champion, difference
}

// moves puts both models' macro AUROC on every slice of the champion's rows on
// the bench, by name and value.
func (s Settings) moves(b *bench, ours, theirs table) ([]move, error) {
	var parts []move
	for _, key := range theirs.sliced() {
		in := map[string]bool{}
		his := theirs.where(func(r predictions.Row) bool {
			value, ok := r.Slices[key[0]]
			in[r.ID] = ok && value == key[1]
			return in[r.ID]
		})
		mine := ours.where(func(r predictions.Row) bool { return in[r.ID] })
		evaluable := s.evaluable(his)
		a, err := b.macro(mine, evaluable)
		if err != nil {
			return nil, err
		}
		c, err := b.macro(his, evaluable)
		if err != nil {
			return nil, err
		}
		parts = append(parts, move{at: [3]int{a, c, b.difference(a, c)}, SliceDifference: SliceDifference{
			Name: key[0], Value: key[1], Rows: len(his.rows), Groups: his.present(), Evaluable: his.names(evaluable),
		}})
	}
	return parts, nil
}

// batchRows measures both models on the new batch's test rows, and how far the
// champion falls there from its own test rows.
func (s Settings) batchRows(batch string, candidate, champion, championOwn Predictions) (*BatchCard, error) {
	tables := numbered(candidate.of(batch), champion.of(batch), championOwn)
	ours, theirs, reference := tables[0], tables[1], tables[2]
	evaluable := s.evaluable(theirs, reference)
	var b bench
	a, err := b.macro(ours, evaluable)
	if err != nil {
		return nil, err
	}
	c, err := b.macro(theirs, evaluable)
	if err != nil {
		return nil, err
	}
	r, err := b.macro(reference, evaluable)
	if err != nil {
		return nil, err
	}
	d, drop := b.difference(a, c), b.difference(c, r)
	metrics, err := b.run(theirs.groups, s)
	if err != nil {
		return nil, err
	}
	return &BatchCard{
		Rows: len(theirs.rows), Groups: theirs.present(), Evaluable: theirs.names(evaluable),
		Candidate: metrics[a], Champion: metrics[c], Difference: metrics[d], Reference: metrics[r], Drop: metrics[drop],
	}, nil
}
