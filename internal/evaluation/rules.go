package evaluation

import (
	"fmt"
	"slices"

	"github.com/refitml/refit/internal/stats"
)

// rules are a gate's questions and how it answers them, as its policy chooses.
type rules struct {
	look    func(*tally) (sight, error)                       // both questions of one capability
	inside  func(low, margin float64) bool                    // pass: is the drop provenly smaller than the margin?
	correct func(p []float64) ([]float64, error)              // p-values for having asked of several capabilities
	foresee func(*tally, sight, int, *CapabilityReport) error // what the gate could have seen; nil: nobody asks
}

// sight is what the statistics see of one capability.
type sight struct {
	method    string  // how the limits were found
	low, high float64 // of the difference, each one-sided at Level
	drop      float64 // p-value of "no drop at all"
	effect    float64 // design effect: cases that count as one independent case
	deviation float64 // standard error of the difference of an unchanged candidate; of other scores only
}

// Methods, as reports name them.
const (
	byTango   = "Tango, McNemar"
	byGroups  = "Tango, McNemar and t over groups"
	byScores  = "BCa and t over groups"
	byBetting = "betting over groups"
)

func (p Policy) rules() rules {
	return rules{
		look: func(t *tally) (sight, error) {
			switch {
			case p.exact(t):
				return p.betting(t)
			case t.Binary():
				return t.rightWrong()
			default:
				return p.scores(t)
			}
		},
		inside:  func(low, margin float64) bool { return low > -margin },
		correct: stats.Holm,
		foresee: p.foreseeing(foreseeChance, foreseeSmallest, foreseeNeeded),
	}
}

// exact says whether a capability is judged by betting: its suite asks for it, or the policy does.
func (p Policy) exact(t *tally) bool { return t.Exact || slices.Contains(p.Exact, t.Name) }

// scores compares other scores.
func (p Policy) scores(t *tally) (sight, error) {
	s := sight{method: byScores, effect: 1}
	limits, err := stats.ClusterLimits(t.differences, Level)
	if err != nil {
		return s, err
	}
	interval, err := stats.Bootstrap(t.differences, Level, stats.Resampling{Rounds: p.Resamples, Seed: p.Seed})
	if err != nil {
		return s, err
	}
	s.low, s.high = min(limits.Low, interval.Low), max(limits.High, interval.High)
	s.drop, s.deviation = max(limits.PDrop, interval.PDrop), limits.Deviation
	return s, nil
}

// betting compares scores between 0 and 1 of any distribution.
func (p Policy) betting(t *tally) (sight, error) {
	s := sight{method: byBetting, effect: 1}
	if t.beyond {
		return s, fmt.Errorf("exact limits need scores between 0 and 1, and some of %s lie outside", t.Name)
	}
	bounds, err := stats.Betting(t.differences, -1, 1, Level, p.Seed)
	s.low, s.high, s.drop = bounds.Low, bounds.High, bounds.PDrop
	return s, err
}
