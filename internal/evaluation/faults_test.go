package evaluation

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// planted is a fault in the statistics, and the promise that the simulation then sees broken.
type planted struct {
	scene  string
	trials []trial       // in place of the scene's
	inputs func(*Gate)   // the fault in what is judged
	rules  func(*rules)  // or in how
	prints func(*Report) // or in what is printed
	broken string
}

func faultsToPlant() map[string]planted {
	return map[string]planted{
		"groups ignored": {scene: "in groups of 8", broken: "candidates at their margin pass", inputs: func(g *Gate) {
			for i := range g.Suite.Cases {
				g.Suite.Cases[i].Group = g.Suite.Cases[i].ID
			}
		}},
		"the candidate taken for the baseline": {scene: "right and wrong", broken: "candidates at their margin pass", inputs: func(g *Gate) {
			g.CandidateAnswer.List, g.BaselineAnswer.List = g.BaselineAnswer.List, g.CandidateAnswer.List
		}},
		"the margin's sign turned": {scene: "right and wrong", broken: "smallest margins are cleared", rules: func(r *rules) {
			r.inside = func(low, margin float64) bool { return low > margin }
		}},
		"the upper limit taken for the lower": {scene: "right and wrong", broken: "candidates at their margin pass", rules: func(r *rules) {
			look := r.look
			r.look = func(t *tally) (sight, error) { s, err := look(t); s.low = s.high; return s, err }
		}},
		"no correction over capabilities": {scene: "scores in groups of 4, eight", broken: "are called regressions", rules: func(r *rules) {
			r.correct = func(p []float64) ([]float64, error) { return p, nil }
		}},
		"no proof of a drop taken for a pass": {scene: "right and wrong", trials: []trial{
			{kind: Cloze, items: 200, perGroup: 1, baseline: 0.6, flips: 0.2, margin: 0.05},
		}, broken: "candidates at their margin pass", rules: func(r *rules) {
			look := r.look
			r.look = func(t *tally) (sight, error) {
				s, err := look(t)
				if s.low = -1; s.drop > Level { // McNemar's
					s.low = 0
				}
				return s, err
			}
		}},
		"every unchanged candidate said to pass": {scene: "in groups of 8, eight", broken: "unchanged candidates pass, and", prints: func(r *Report) {
			r.ChanceUnchanged = 1
		}},
		"a drop printed as one that is seen half the time": {scene: "right and wrong", broken: "smallest drops are named", prints: func(r *Report) {
			r.Capabilities[0].SmallestDrop *= 0.66
		}},
		"the bootstrap draws cases, not groups": {scene: "scores in groups of 4", trials: []trial{
			{kind: BitsPerByte, items: 480, perGroup: 8, baseline: -2, flips: 0.2, within: 0.8, margin: 0.04},
		}, broken: "candidates at their margin pass", inputs: func(g *Gate) {
			for i := range g.Suite.Cases {
				g.Suite.Cases[i].Group = g.Suite.Cases[i].ID
			}
		}},
	}
}

// The simulation can fail: with a fault planted in what the gate does, a promise is seen broken.
func TestFaultsInTheStatisticsAreFoundBySimulation(t *testing.T) {
	t.Parallel()
	for what, fault := range faultsToPlant() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var s scene
			for _, one := range scenes() {
				if one.name == fault.scene {
					s = one
				}
			}
			if fault.trials != nil {
				s.trials = fault.trials
			}
			s.spoil, s.faults, s.prints = fault.inputs, fault.rules, fault.prints
			size := effort{rounds: sized(100, 2000)}
			if strings.Contains(fault.broken, "smallest") {
				size.powers = 50
			}
			if fault.prints != nil {
				size.foresights = 10
			}
			require.Contains(t, strings.Join(s.try(1, size).summed().broken(s.level), "; "), fault.broken)
		})
	}
}
