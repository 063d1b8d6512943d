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
	counts    []counted      // all that a split wants its share of
	order     uint64         // settles ties: a hash of seed and name
}

// counted is one number of a group: its images, itself, its images with a
// label, or itself again for each label it has. Groups count beside images,
// because intervals rest on groups. The list has a fixed order: a sum of
// floating-point numbers must not depend on that of a map.
type counted struct {
	of string
	n  float64
}

func countedOf(size int, positives map[string]int) []counted {
	list := []counted{{"images", float64(size)}, {"groups", 1}}
	for _, l := range slices.Sorted(maps.Keys(positives)) {
		list = append(list, counted{"images with " + l, float64(positives[l])}, counted{"groups with " + l, 1})
	}
	return list
}

// assign splits new groups: images, groups, and both for each label as near to
// the proportions as whole groups allow. The answer depends on the
// proportions, the seed and the groups, never on their order.
//
// The order is that of Sechidis, Tsoumakas and Vlahavas (2011), with groups in
// place of examples: the label with the fewest images left goes first, and of
// it the richest group. Their choice, the split that wants most of the label,
// is not kept: a patient with one rare finding and thirty images would flood a
// small split. A group goes where the sum of (have - want)^2 / want over all
// that is counted grows least, and at the end groups are moved as long
// as that sum falls.
func assign(groups []group, proportions map[string]float64) map[string]string {
	left := map[string]group{}
	remaining := map[string]int{} // images left, by label
	for _, g := range groups {
		left[g.name] = g
		for l, n := range g.positives {
			remaining[l] += n
		}
	}
	want := newDemand(proportions, groups)
	assigned := map[string]string{}
	var order []group
	give := func(g group) {
		assigned[g.name] = want.cheapest(g)
		want.add(assigned[g.name], g, 1)
		order = append(order, g)
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
			give(g)
		}
	}
	for _, g := range richest(left, "") {
		give(g)
	}
	refine(order, assigned, want)
	return assigned
}

// passes bounds the refinement; it ends by itself after a few.
const passes = 50

// refine moves single groups while that brings the splits nearer to what they
// want.
func refine(order []group, assigned map[string]string, want demand) {
	for range passes {
		moved := false
		for _, g := range order {
			old := assigned[g.name]
			want.add(old, g, -1)
			assigned[g.name] = want.cheapest(g)
			if want.cost(assigned[g.name], g) > want.cost(old, g)-alike {
				assigned[g.name] = old
			}
			want.add(assigned[g.name], g, 1)
			moved = moved || assigned[g.name] != old
		}
		if !moved {
			return
		}
	}
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

// demand is what each split wants of all that is counted, and still misses.
type demand struct {
	splits []string
	want   map[string]map[string]float64 // by split, then by counted.of
	miss   map[string]map[string]float64
}

func newDemand(proportions map[string]float64, groups []group) demand {
	d := demand{want: map[string]map[string]float64{}, miss: map[string]map[string]float64{}}
	sum := 0.0
	for _, s := range Splitting {
		if proportions[s] > 0 {
			d.splits = append(d.splits, s)
			sum += proportions[s]
		}
	}
	total := map[string]float64{}
	for _, g := range groups {
		for _, c := range g.counts {
			total[c.of] += c.n
		}
	}
	for _, s := range d.splits {
		d.want[s] = map[string]float64{}
		for of, n := range total {
			d.want[s][of] = n * proportions[s] / sum
		}
		d.miss[s] = maps.Clone(d.want[s])
	}
	return d
}

// add gives a group to a split, or takes it away where sign is -1.
func (d demand) add(split string, g group, sign float64) {
	for _, c := range g.counts {
		d.miss[split][c.of] -= sign * c.n
	}
}

// cost is by how much the sum of (have - want)^2 / want grows when the group
// comes into the split.
func (d demand) cost(split string, g group) float64 {
	cost := 0.0
	for _, c := range g.counts {
		cost += (c.n*c.n - 2*c.n*d.miss[split][c.of]) / d.want[split][c.of]
	}
	return cost
}

// alike is how near two costs must be to count as equal: sums of proportions
// differ in the last digits.
const alike = 1e-9

// cheapest is the split with the least cost; the group's own order settles
// ties.
func (d demand) cheapest(g group) string {
	start := int(g.order % uint64(len(d.splits)))
	best, least := "", math.Inf(1)
	for i := range d.splits {
		s := d.splits[(start+i)%len(d.splits)]
		if c := d.cost(s, g); c < least-alike {
			best, least = s, c
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
		g := byName[name]
		g.counts = countedOf(g.size, g.positives)
		groups = append(groups, *g)
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
