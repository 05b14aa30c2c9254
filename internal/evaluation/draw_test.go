package evaluation

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// trial is one capability's truth in a simulation.
type trial struct {
	kind     string
	items    int
	perGroup int     // cases of one group; 1 is none grouped
	uneven   bool    // every other group has a third of the next one's cases
	samples  int     // answers to each case; 0 is 1
	baseline float64 // chance that the baseline is right; mean of other scores
	change   float64 // true change of the candidate
	flips    float64 // chance that a case differs although nothing changed; deviation of other scores
	within   float64 // part of the differences that a group shares, 0 to 1
	flaky    float64 // part of the cases that both sides answer now so and now so
	skewed   bool    // of other scores: seldom, and then much lower
	bounded  bool    // of other scores: between 0 and 1, and so are the differences
	margin   float64
}

// draw makes a gate whose candidate truly changed as the trials say.
func draw(r *rand.Rand, trials ...trial) Gate {
	g := Gate{
		Service: "docs", SuiteDigest: suiteDigest, Candidate: newRelease, Baseline: oldRelease, Attempt: 1,
		Suite:           Suite{Version: SuiteVersion},
		CandidateAnswer: Answers{Suite: suiteDigest, Release: newRelease},
		BaselineAnswer:  Answers{Suite: suiteDigest, Release: oldRelease},
		Policy:          Policy{Resamples: 400},
	}
	for n, tr := range trials {
		name := fmt.Sprintf("c%d", n)
		c := Capability{Name: name, Kind: tr.kind, Metric: "accuracy", Margin: tr.margin, Items: tr.items}
		if !c.Binary() {
			c.Metric = BitsPerByte
		}
		if tr.samples > 1 {
			c.Sampling = &Sampling{Samples: tr.samples}
		}
		g.Suite.Capabilities = append(g.Suite.Capabilities, c)
		for i := range tr.items {
			id := fmt.Sprintf("%s/%d", name, i)
			g.Suite.Cases = append(g.Suite.Cases, Case{
				ID: id, Capability: name, Group: fmt.Sprint(name, "-", tr.group(i)), Text: "t", Want: "w", Choices: []string{"w", "v"},
			})
			for sample := range c.Samples() {
				a := Answer{Case: id, Capability: name, Sample: sample}
				g.BaselineAnswer.List = append(g.BaselineAnswer.List, a)
				g.CandidateAnswer.List = append(g.CandidateAnswer.List, a)
			}
		}
	}
	redraw(r, &g, trials...)
	return g
}

// redraw draws all scores of a gate anew.
func redraw(r *rand.Rand, g *Gate, trials ...trial) {
	at := 0
	for n, tr := range trials {
		g.Suite.Capabilities[n].Margin = tr.margin
		var shared [2]float64
		for i := range tr.items {
			if i == 0 || tr.group(i) != tr.group(i-1) {
				shared = [2]float64{r.Float64(), tr.noise(r)}
			}
			before, after := tr.score(r, shared)
			often := 0.2 + 0.6*r.Float64()
			flaky := r.Float64() < tr.flaky
			for range max(1, tr.samples) {
				if flaky {
					before, after = truth(r.Float64() < often), truth(r.Float64() < often)
				}
				g.BaselineAnswer.List[at].Score, g.CandidateAnswer.List[at].Score = before, after
				at++
			}
		}
	}
}

// group gives the number of a case's group.
func (tr trial) group(i int) int {
	if !tr.uneven {
		return i / tr.perGroup
	}
	pair := i / (2 * tr.perGroup)
	if i%(2*tr.perGroup) < tr.perGroup/2 {
		return 2 * pair
	}
	return 2*pair + 1
}

// score draws one case. Right and wrong: with chance flips the sides differ, either way alike, and the change comes on
// top; flaky cases do not change, so the others change more. Which way a group's cases differ is shared with chance
// within.
func (tr trial) score(r *rand.Rand, shared [2]float64) (before, after float64) {
	if tr.kind == BitsPerByte {
		w := math.Sqrt(tr.within)
		difference := tr.flips * (w*shared[1] + math.Sqrt(1-tr.within)*tr.noise(r))
		if tr.bounded {
			before = 0.4 + 0.2*r.Float64()
		} else {
			before = tr.baseline + r.NormFloat64()
		}
		return before, before + tr.change + difference
	}
	change := tr.change / (1 - tr.flaky)
	u := r.Float64()
	if r.Float64() < tr.within {
		u = shared[0]
	}
	worse, better := tr.flips/2+max(0, -change), tr.flips/2+max(0, change)
	switch {
	case u < worse:
		return 1, 0
	case u < worse+better:
		return 0, 1
	}
	before = truth(r.Float64() < tr.baseline)
	return before, before
}

// noise draws a difference of mean 0 and deviation 1.
func (tr trial) noise(r *rand.Rand) float64 {
	switch {
	case tr.skewed:
		return 1 - r.ExpFloat64()
	case tr.bounded:
		return math.Sqrt(3) * (2*r.Float64() - 1)
	}
	return r.NormFloat64()
}

// at gives the trial with a change.
func (tr trial) at(change float64) trial { tr.change = change; return tr }

// many gives n capabilities that are alike.
func many(n int, tr trial) []trial {
	list := make([]trial, n)
	for i := range list {
		list[i] = tr
	}
	return list
}
