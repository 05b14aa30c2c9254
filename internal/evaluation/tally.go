package evaluation

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

// tally is one capability's comparison summed up: what the statistics need to know, by groups of cases.
type tally struct {
	Capability
	cases, samples      int     // samples is per case and side
	weight              float64 // of the cases, in all
	groups              map[string]int
	differences         []stats.Total // candidate minus baseline, a group each
	before              []stats.Total // the baseline's scores, likewise
	changing            []float64     // of a group's squares of differences: what answers that change from sample to sample add on average
	candidate, baseline float64       // sums of mean scores
	beyond              bool          // a score lies outside of 0 to 1
	pairwise            *Pairwise     // where the sides' answers were compared with one another
	scorer              *score.Scorer // nil where there is none
	labels              *labels       // of people; nil where no scorer was held against them
	required            *lifecycle.Agreement

	changed                       top[Change]
	flaky                         top[Flaky]
	flakyCandidate, flakyBaseline int
}

// shown is how many cases a list of a report names.
const shown = 10

func newTally(c Capability) *tally {
	t := &tally{Capability: c, groups: map[string]int{}, changed: top[Change]{order: largerChange}, flaky: top[Flaky]{order: flakier}}
	t.scorer, _ = c.ready()
	if t.scorer != nil && t.scorer.Pair != nil {
		t.pairwise = &Pairwise{}
	}
	return t
}

// held makes the tally hold its scorer against people's labels, where there are any that it was held against.
func (t *tally) held(s Suite, found map[string]Label) *tally {
	if t.asked() {
		t.required = s.Agreement
	}
	if found != nil && t.scorer != nil {
		t.labels = &labels{found: found, categories: t.scorer.Categories != nil, groups: map[string]bool{}}
	}
	return t
}

// tallies sums up both sides' answers, by capability in the suite's order.
func tallies(s Suite, candidate, baseline sheet, compared map[place]Comparison, labelled map[string]Label) []*tally {
	list, byName := make([]*tally, len(s.Capabilities)), map[string]*tally{}
	for i, c := range s.Capabilities {
		list[i] = newTally(c).held(s, labelled)
		byName[c.Name] = list[i]
	}
	for i, c := range s.Cases {
		t, after, before := byName[c.Capability], candidate.of(i), baseline.of(i)
		if t.pairwise != nil {
			var list []Comparison
			for _, a := range after {
				if one, there := compared[place{a.Case, a.Sample}]; there {
					list = append(list, one)
				}
			}
			after, before = t.compared(after, before, list)
		}
		t.add(c, after, before)
	}
	return list
}

// add sums up one case. Where it was answered several times, it counts with the mean difference: an answer that
// changes from time to time counts by how often it is right, and the more often it is asked the less of its changing
// is left. A case stays one case, however often it is asked: what a release forgot it fails every time. A case of
// weight w counts as w cases of one group that are all answered alike: it moves the mean as they would, and proves no
// more than one case.
func (t *tally) add(c Case, candidate, baseline []Answer) {
	at, known := t.groups[c.Group]
	if !known {
		at = len(t.differences)
		t.groups[c.Group] = at
		t.differences, t.before = append(t.differences, stats.Total{}), append(t.before, stats.Total{})
		t.changing = append(t.changing, 0)
	}
	t.label(c)
	t.cases++
	t.samples = len(candidate)
	weight := float64(max(1, c.Weight))
	t.weight += weight
	after, before := spreadOf(candidate), spreadOf(baseline)
	t.differences[at].AddTimes(after.mean-before.mean, weight)
	t.before[at].AddTimes(before.mean, weight)
	t.changing[at] += weight * (after.noise + before.noise)
	t.beyond = t.beyond || min(after.low, before.low) < 0 || max(after.high, before.high) > 1
	t.candidate += weight * after.mean
	t.baseline += weight * before.mean
	t.list(c, candidate, baseline, after, before)
}

// list notes a case that changed, and one whose own answers differ.
func (t *tally) list(c Case, candidate, baseline []Answer, after, before spread) {
	if after.mean != before.mean {
		change := Change{Case: c.ID, Candidate: after.mean, Baseline: before.mean}
		if t.changed.wants(change) {
			change.fill(c, candidate, baseline)
			t.changed.add(change)
		}
	}
	if t.pairwise != nil {
		return // whether one side's own answers differ is not known from comparing both
	}
	if after.low < after.high {
		t.flakyCandidate++
		t.flaky.add(after.flaky(c, "candidate", len(candidate)))
	}
	if before.low < before.high {
		t.flakyBaseline++
		t.flaky.add(before.flaky(c, "baseline", len(baseline)))
	}
}

// grouped says whether cases depend on one another, or one counts as several.
func (t *tally) grouped() bool { return len(t.differences) < int(t.weight) }

func (t *tally) mean(sum float64) float64 { return sum / t.weight }

// spread is what one side's answers to one case say.
type spread struct {
	mean, low, high float64
	noise           float64 // variance of the mean, as its answers let expect; 0 of one answer, which says nothing of it
}

func spreadOf(answers []Answer) spread {
	s := spread{low: answers[0].Score, high: answers[0].Score}
	for _, a := range answers {
		s.mean += a.Score / float64(len(answers))
		s.low, s.high = min(s.low, a.Score), max(s.high, a.Score)
	}
	if s.low == s.high {
		s.mean = s.low // without the rounding of a sum
		return s
	}
	for _, a := range answers {
		s.noise += (a.Score - s.mean) * (a.Score - s.mean)
	}
	s.noise /= float64(len(answers) * (len(answers) - 1))
	return s
}

func (s spread) flaky(c Case, side string, samples int) Flaky {
	return Flaky{Case: c.ID, Side: side, Samples: samples, Mean: s.mean, Lowest: s.low, Highest: s.high}
}

// flakier puts first what changes most from answer to answer.
func flakier(a, b Flaky) int {
	spread := func(f Flaky) float64 { return (f.Highest - f.Mean) * (f.Mean - f.Lowest) }
	return cmp.Or(cmp.Compare(spread(b), spread(a)), strings.Compare(a.Case, b.Case), strings.Compare(a.Side, b.Side))
}

// fill adds the two answers to a case that show best how it changed.
func (ch *Change) fill(c Case, candidate, baseline []Answer) {
	byScore := func(a, b Answer) int { return cmp.Compare(a.Score, b.Score) }
	after, before := slices.MinFunc(candidate, byScore), slices.MaxFunc(baseline, byScore)
	if ch.Candidate > ch.Baseline {
		after, before = slices.MaxFunc(candidate, byScore), slices.MinFunc(baseline, byScore)
	}
	ch.Text, ch.Want = bounded(c.Text), bounded(c.Want)
	ch.BaselineSaid, ch.CandidateSaid = bounded(before.Said), bounded(after.Said)
}

// largerChange puts the largest first, drops first among equals.
func largerChange(a, b Change) int {
	x, y := a.Candidate-a.Baseline, b.Candidate-b.Baseline
	return cmp.Or(cmp.Compare(math.Abs(y), math.Abs(x)), cmp.Compare(x, y), strings.Compare(a.Case, b.Case))
}

// maxShown bounds a text in a report, in bytes.
const maxShown = 600

func bounded(s string) string {
	if len(s) <= maxShown {
		return strings.Clone(s)
	}
	return strings.ToValidUTF8(s[:maxShown], "") + " ..."
}

// top keeps the first few of what is added, by order.
type top[T any] struct {
	order func(a, b T) int
	list  []T
}

// wants says whether add would keep v.
func (t *top[T]) wants(v T) bool {
	return len(t.list) < shown || t.order(v, t.list[shown-1]) < 0
}

func (t *top[T]) add(v T) {
	if !t.wants(v) {
		return
	}
	if len(t.list) == shown {
		t.list = t.list[:shown-1]
	}
	at, _ := slices.BinarySearchFunc(t.list, v, t.order)
	t.list = slices.Insert(t.list, at, v)
}
