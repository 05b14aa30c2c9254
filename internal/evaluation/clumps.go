package evaluation

import (
	"math/rand/v2"

	"github.com/refitml/refit/internal/stats"
)

// clumps says how many cases a candidate loses together: as many as those hang together that differ anyway. Where too few
// groups differ to tell, that is the design effect by which the gate judges.
//
// Flaky cases hide it. They differ now so and now so, each by itself, and what a candidate has lost stays lost. Let V be
// the variance of a case's difference, E the part of it that changes from sample to sample, and C the covariance of two
// cases of a group. E is nothing that two cases share, so C is that of the lasting part, too: where each case has m others
// in its group, the design effect is 1 + m C/V of all, and 1 + m C/(V - E) of what lasts. How far a case's samples differ
// tells E: the estimate from the analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992, chapter 3).
//
// It was estimated, and the true one may as well lie as far to the other side of the estimate as that of groups drawn anew
// lies to this.
// Source: the basic bootstrap, Davison and Hinkley, Bootstrap Methods and their Application (1997), section 2.4.
type clumps struct {
	pairing
	changing    []float64
	seen, whole float64
	told        bool // by enough groups that differ
}

func (i imagined) clumps() clumps {
	c := clumps{pairing: i.pairing, changing: i.changing, seen: i.effect, whole: i.whole()}
	if c.told = i.byGroups && c.whole > 1 && i.differing() >= enoughDiffering; c.told {
		var h hanging
		for g, d := range c.differences {
			h.add(d, c.changing[g])
		}
		c.seen = h.clump()
	}
	return c
}

// draw gives how many cases may be lost together, on average: at least one, and at most whole groups.
func (c clumps) draw(random *rand.Rand) float64 {
	if !c.told {
		return c.seen
	}
	var other hanging
	for range c.differences {
		g := random.IntN(len(c.differences))
		other.add(c.differences[g], c.changing[g])
	}
	return min(max(1, 2*c.seen-other.clump()), c.whole)
}

// hanging sums up groups to see how their cases hang together.
type hanging struct {
	groups, cases, sum      float64
	squares, changing       float64 // of cases
	sums, sumCases, casesSq float64 // squares of groups' sums, these times their cases, squares of their cases
}

func (h *hanging) add(d stats.Total, changing float64) {
	h.groups, h.cases, h.sum = h.groups+1, h.cases+d.N, h.sum+d.Sum
	h.squares, h.changing = h.squares+d.Squares, h.changing+changing
	h.sums, h.sumCases, h.casesSq = h.sums+d.Sum*d.Sum, h.sumCases+d.Sum*d.N, h.casesSq+d.N*d.N
}

// clump gives the design effect of what lasts; below 1 where cases of a group differ in opposite ways. Half a case more
// than was seen differs for good.
func (h hanging) clump() float64 {
	mean := h.sum / h.cases
	between := (h.sums - 2*mean*h.sumCases + mean*mean*h.casesSq) * h.groups / (h.groups - 1)
	all := h.squares - mean*mean*h.cases
	return 1 + (between-all)/(max(0, all-h.changing)+unseen)
}
