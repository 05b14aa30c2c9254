package evaluation

import (
	"fmt"
	"math"
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
	level     float64 // that Tango's limits are taken at, so that few groups count as few
	deviation float64 // standard error of the difference of an unchanged candidate
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
				return rightWrong(t)
			default:
				return p.scores(t)
			}
		},
		inside:  func(low, margin float64) bool { return low > -margin },
		correct: stats.Holm,
		foresee: p.foresee,
	}
}

// exact says whether a capability is judged by betting: its suite asks for it, or the policy does.
func (p Policy) exact(t *tally) bool { return t.Exact || slices.Contains(p.Exact, t.Name) }

// rightWrong compares scores of 0 or 1.
func rightWrong(t *tally) (sight, error) {
	counts := t.counts()
	s := sight{method: byTango, effect: 1, level: Level}
	var err error
	if t.byGroups() {
		s.method = byGroups
		if s.effect, err = t.effect(counts); err != nil {
			return s, err
		}
		if s.level, err = stats.FewerDegrees(Level, t.freely()); err != nil {
			return s, err
		}
	}
	effective := counts.Over(s.effect)
	if s.low, err = stats.TangoLower(effective, s.level); err != nil {
		return s, err
	}
	if s.high, err = stats.TangoUpper(effective, s.level); err != nil {
		return s, err
	}
	if s.drop, err = stats.McNemar(effective); err != nil {
		return s, err
	}
	if t.byGroups() && counts.Better+counts.Worse > 0 {
		// Tango and McNemar know nothing of how few the groups are, nor of answers that are right now and then; the t
		// limits do.
		limits, err := stats.ClusterLimits(t.differences, Level)
		if err != nil {
			return s, err
		}
		s.low, s.high = min(s.low, limits.Low), max(s.high, limits.High)
		s.drop = max(s.drop, limits.PDrop)
	}
	s.deviation = math.Sqrt(discordance(counts) / effective.N)
	return s, nil
}

// byGroups says whether limits by the groups' own spread are taken beside those by counts.
func (t *tally) byGroups() bool { return t.grouped() || t.samples > 1 }

// freely gives the degrees of freedom of the design effect: groups - 1, and fewer where a few groups make up most of it.
func (t *tally) freely() float64 {
	freely := float64(len(t.differences) - 1)
	if noise, err := stats.VarianceNoise(t.differences); err == nil && noise > 0 {
		freely = min(freely, 2/(noise*noise))
	}
	return max(1, freely)
}

// discordance is how often two answers differ: half a differing one more, so that none is not certainty.
func discordance(p stats.Pairs) float64 { return (p.Better + p.Worse + 0.5) / (p.N + 1) }

// enoughDiscordant is from how many differing cases their own design effect is trusted alone.
const enoughDiscordant = 10

// effect gives the design effect of the differences. Where too few cases differ to tell how they hang
// together, it is at least that of the baseline's scores.
func (t *tally) effect(counts stats.Pairs) (float64, error) {
	effect, err := stats.DesignEffect(t.differences)
	if err != nil || counts.Better+counts.Worse >= enoughDiscordant {
		return effect, err
	}
	own, err := stats.DesignEffect(t.before)
	return max(effect, own), err
}

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
