package evaluation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// pair is one case with what both sides said, each asked for the same time. A case that is asked repeatedly makes as
// many pairs, which share its group and so are one cluster.
type pair struct {
	Case
	candidate, baseline Answer
}

func (p pair) difference() float64 { return p.candidate.Score - p.baseline.Score }

// sheet is a set of answers by case and sample, checked against its suite.
type sheet map[place]Answer

// place is where an answer stands in its sheet.
type place struct {
	Case   string
	Sample int
}

// place names the one question that this answers.
func (a Answer) place() place { return place{a.Case, a.Sample} }

func (p place) String() string {
	if p.Sample == 0 {
		return "case " + p.Case
	}
	return fmt.Sprintf("case %s, sample %d,", p.Case, p.Sample)
}

// check reads answers against the suite. Every fault that makes a comparison unfair is named: answers to
// another suite, of another release, missing, twice, of no case, or with a score that cannot be.
func check(who string, s Suite, suite, release lifecycle.Digest, a Answers) (sheet, []string) {
	var faults []string
	fault := func(format string, args ...any) {
		if len(faults) < maxFaults {
			faults = append(faults, who+": "+fmt.Sprintf(format, args...))
		}
	}
	if a.Suite != suite {
		fault("answers suite %s, not %s", or(a.Suite), or(suite))
	}
	if a.Release != release {
		fault("the answers are of release %s, not %s", or(a.Release), or(release))
	}
	binary := map[string]bool{}
	samples := s.samples()
	for _, c := range s.Capabilities {
		binary[c.Name] = c.Binary()
	}
	sheet := make(sheet, len(a.List))
	for _, answer := range a.List {
		if _, twice := sheet[answer.place()]; twice {
			fault("%s was answered twice", answer.place())
		}
		if !finite(answer.Score) || binary[answer.Capability] && answer.Score != 0 && answer.Score != 1 {
			fault("%s has the score %v", answer.place(), answer.Score)
		}
		sheet[answer.place()] = answer
	}
	missing, asked := 0, 0
	for _, c := range s.Cases {
		for sample := range samples[c.Capability] {
			at := place{c.ID, sample}
			answer, ok := sheet[at]
			asked++
			switch {
			case !ok:
				if missing++; missing == 1 {
					fault("%s has no answer", at)
				}
			case answer.Capability != c.Capability:
				fault("%s was answered as one of %q", at, answer.Capability)
			}
		}
	}
	if missing > 1 {
		fault("%d answers are missing", missing)
	}
	if extra := len(sheet) + missing - asked; extra > 0 {
		fault("%d answers belong to no case of the suite", extra)
	}
	return sheet, faults
}

// maxFaults bounds the reasons of one side.
const maxFaults = 10

func or(d lifecycle.Digest) string { return cmp.Or(d.Short(), "(none)") }

// pairsOf joins both sides per capability, in the suite's order.
func pairsOf(s Suite, candidate, baseline sheet) map[string][]pair {
	pairs, samples := map[string][]pair{}, s.samples()
	for _, c := range s.Cases {
		for sample := range samples[c.Capability] {
			at := place{c.ID, sample}
			pairs[c.Capability] = append(pairs[c.Capability], pair{Case: c, candidate: candidate[at], baseline: baseline[at]})
		}
	}
	return pairs
}

// samples is how many answers each capability's cases have.
func (s Suite) samples() map[string]int {
	samples := map[string]int{}
	for _, c := range s.Capabilities {
		samples[c.Name] = c.Samples()
	}
	return samples
}

// clustersOf sorts the cases' values into their groups, in the order of the groups' names.
func clustersOf(pairs []pair, value func(pair) float64) [][]float64 {
	byGroup := map[string][]float64{}
	for _, p := range pairs {
		byGroup[p.Group] = append(byGroup[p.Group], value(p))
	}
	clusters := make([][]float64, 0, len(byGroup))
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		clusters = append(clusters, byGroup[group])
	}
	return clusters
}

func meanOf(pairs []pair, value func(pair) float64) float64 {
	var sum float64
	for _, p := range pairs {
		sum += value(p)
	}
	return sum / float64(len(pairs))
}

func candidateScore(p pair) float64 { return p.candidate.Score }
func baselineScore(p pair) float64  { return p.baseline.Score }
