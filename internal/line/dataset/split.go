package dataset

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// group is what a split keeps together.
type group struct {
	name      string
	size      int            // images
	positives map[string]int // images by label
	order     uint64         // settles ties: a hash of seed and name
}

// assign splits new groups: with each label's images, then with the images, as
// near to the proportions as whole groups allow. The answer depends on the
// proportions, the seed and the groups, never on their order.
//
// It follows Sechidis, Tsoumakas and Vlahavas (2011) with groups in place of
// examples: the label with the fewest images left goes first; each of its
// groups, the richest first, goes to the split that still wants most images of
// that label, then most images at all.
func assign(groups []group, proportions map[string]float64) map[string]string {
	names := make([]string, 0, len(proportions))
	for _, s := range Splitting {
		if proportions[s] > 0 {
			names = append(names, s)
		}
	}
	left := map[string]group{}
	remaining := map[string]int{} // images left, by label
	images := 0
	for _, g := range groups {
		left[g.name] = g
		images += g.size
		for l, n := range g.positives {
			remaining[l] += n
		}
	}
	want := newDemand(names, proportions, images, remaining)
	assigned := map[string]string{}
	give := func(g group, label string) {
		split := want.neediest(names, label, g.order)
		assigned[g.name] = split
		want.take(split, g)
		delete(left, g.name)
		for l, n := range g.positives {
			remaining[l] -= n
		}
	}
	for {
		label, ok := rarest(remaining)
		if !ok {
			break
		}
		for _, g := range richest(left, label) {
			give(g, label)
		}
	}
	for _, g := range richest(left, "") {
		give(g, "")
	}
	return assigned
}

// rarest is the label with the fewest images left, but not none.
func rarest(remaining map[string]int) (string, bool) {
	best, found := "", false
	for _, l := range slices.Sorted(maps.Keys(remaining)) {
		if n := remaining[l]; n > 0 && (!found || n < remaining[best]) {
			best, found = l, true
		}
	}
	return best, found
}

// richest are the groups with the label, or all where it is empty, those with
// most of it first.
func richest(left map[string]group, label string) []group {
	weight := func(g group) int {
		if label == "" {
			return g.size
		}
		return g.positives[label]
	}
	var chosen []group
	for _, g := range left {
		if weight(g) > 0 {
			chosen = append(chosen, g)
		}
	}
	slices.SortFunc(chosen, func(a, b group) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(b.size, a.size), cmp.Compare(a.order, b.order), cmp.Compare(a.name, b.name))
	})
	return chosen
}

// demand is how many images each split still wants.
type demand struct {
	size   map[string]float64
	labels map[string]map[string]float64 // by split, then label
}

func newDemand(names []string, proportions map[string]float64, images int, positives map[string]int) demand {
	sum := 0.0
	for _, s := range names {
		sum += proportions[s]
	}
	d := demand{map[string]float64{}, map[string]map[string]float64{}}
	for _, s := range names {
		p := proportions[s] / sum
		d.size[s] = p * float64(images)
		d.labels[s] = map[string]float64{}
		for l, n := range positives {
			d.labels[s][l] = p * float64(n)
		}
	}
	return d
}

func (d demand) take(split string, g group) {
	d.size[split] -= float64(g.size)
	for l, n := range g.positives {
		d.labels[split][l] -= float64(n)
	}
}

// neediest is the split that wants most of the label, then most images; order
// settles what is left of a tie.
func (d demand) neediest(names []string, label string, order uint64) string {
	const alike = 1e-9 // sums of proportions differ in the last digits
	start := int(order % uint64(len(names)))
	best := names[start]
	for i := 1; i < len(names); i++ {
		s := names[(start+i)%len(names)]
		more := d.labels[s][label] - d.labels[best][label]
		if math.Abs(more) < alike {
			more = d.size[s] - d.size[best]
		}
		if more > alike {
			best = s
		}
	}
	return best
}

// groupsOf gathers the groups of rows.
func groupsOf(rows []Row, seed uint64) []group {
	byName := map[string]*group{}
	for _, r := range rows {
		g := byName[r.Group]
		if g == nil {
			g = &group{name: r.Group, positives: map[string]int{}, order: tieOrder(seed, r.Group)}
			byName[r.Group] = g
		}
		g.size++
		for _, l := range r.Labels {
			g.positives[l]++
		}
	}
	groups := make([]group, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		groups = append(groups, *byName[name])
	}
	return groups
}

func tieOrder(seed uint64, name string) uint64 {
	data := binary.BigEndian.AppendUint64(nil, seed)
	sum := sha256.Sum256(append(data, name...))
	return binary.BigEndian.Uint64(sum[:])
}

// place gives every new row its split: its group's old one where the parent
// knows the group, else a stratified one. Rows whose group belongs to
// final_eval of the parent are set aside: that split is frozen.
func place(parent, fresh []Row, s Splits) (placed, aside []Row) {
	old := map[string]string{}
	for _, r := range parent {
		old[r.Group] = r.Split
	}
	var unknown []Row
	for _, r := range fresh {
		if old[r.Group] == "" {
			unknown = append(unknown, r)
		}
	}
	proportions := map[string]float64{Train: s.Train, Val: s.Val, Test: s.Test}
	if len(parent) == 0 {
		proportions[FinalEval] = s.FinalEval
	}
	assigned := assign(groupsOf(unknown, s.Seed), proportions)
	for _, r := range fresh {
		switch split := old[r.Group]; split {
		case FinalEval:
			aside = append(aside, r)
			continue
		case "":
			r.Split = assigned[r.Group]
		default:
			r.Split = split
		}
		placed = append(placed, r)
	}
	return placed, aside
}

// count describes the splits of rows and the greatest prevalence error.
func count(rows []Row, labels []string) (map[string]Count, PrevalenceError, error) {
	counts := map[string]Count{}
	total := map[string]int{}
	for _, split := range Splitting {
		chosen := Select(rows, split)
		manifest, err := EncodeManifest(chosen)
		if err != nil {
			return nil, PrevalenceError{}, err
		}
		c := Count{Rows: len(chosen), Positives: map[string]int{}, Digest: hash(manifest)}
		for _, l := range labels {
			c.Positives[l] = 0
		}
		seen := map[string]bool{}
		for _, r := range chosen {
			seen[r.Group] = true
			for _, l := range r.Labels {
				c.Positives[l]++
				total[l]++
			}
		}
		c.Groups = len(seen)
		counts[split] = c
	}
	return counts, greatestError(counts, total, len(rows), labels), nil
}

func greatestError(counts map[string]Count, total map[string]int, rows int, labels []string) PrevalenceError {
	var greatest PrevalenceError
	for _, split := range Splitting {
		c := counts[split]
		if c.Rows == 0 {
			continue
		}
		for _, l := range labels {
			e := math.Abs(float64(c.Positives[l])/float64(c.Rows) - float64(total[l])/float64(rows))
			if e > greatest.Error {
				greatest = PrevalenceError{split, l, e}
			}
		}
	}
	return greatest
}
