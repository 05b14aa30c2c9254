package evaluation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// pair is one case with what both sides said.
type pair struct {
	Case
	candidate, baseline Answer
}

func (p pair) difference() float64 { return p.candidate.Score - p.baseline.Score }

// sheet is a set of answers by case, checked against its suite.
type sheet map[string]Answer

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
	for _, c := range s.Capabilities {
		binary[c.Name] = c.Binary()
	}
	sheet := make(sheet, len(a.List))
	for _, answer := range a.List {
		if _, twice := sheet[answer.Case]; twice {
			fault("case %s was answered twice", answer.Case)
		}
		if !finite(answer.Score) || binary[answer.Capability] && answer.Score != 0 && answer.Score != 1 {
			fault("case %s has the score %v", answer.Case, answer.Score)
		}
		sheet[answer.Case] = answer
	}
	missing := 0
	for _, c := range s.Cases {
		answer, ok := sheet[c.ID]
		switch {
		case !ok:
			if missing++; missing == 1 {
				fault("case %s has no answer", c.ID)
			}
		case answer.Capability != c.Capability:
			fault("case %s was answered as one of %q", c.ID, answer.Capability)
		}
	}
	if missing > 1 {
		fault("%d cases have no answer", missing)
	}
	if extra := len(sheet) + missing - len(s.Cases); extra > 0 {
		fault("%d answers belong to no case of the suite", extra)
	}
	return sheet, faults
}

// maxFaults bounds the reasons of one side.
const maxFaults = 10

func or(d lifecycle.Digest) string { return cmp.Or(d.Short(), "(none)") }

// pairsOf joins both sides per capability, in the suite's order.
func pairsOf(s Suite, candidate, baseline sheet) map[string][]pair {
	pairs := map[string][]pair{}
	for _, c := range s.Cases {
		pairs[c.Capability] = append(pairs[c.Capability], pair{Case: c, candidate: candidate[c.ID], baseline: baseline[c.ID]})
	}
	return pairs
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
