package evaluation

import (
	"math"

	"github.com/refitml/refit/internal/stats"
)

// power is how often a gate's printed numbers hold.
const power = 0.8

// foresight says how a gate would go, as a capability's answers let expect.
type foresight struct {
	deviation float64 // standard error of the difference of an unchanged candidate
	noise     float64 // standard error of the square of deviation, as a part of it
	widest    float64 // difference that there can be; +Inf where scores have no bounds
	// passes gives the chance that an unchanged candidate passes.
	passes func(setting) (float64, error)
	// names gives the chance that a drop is proven at a level.
	names func(drop, level float64) (float64, error)
}

// setting is what an unchanged candidate is judged in: the margin, how many times the cases, and how many times the
// variance that was seen.
type setting struct{ margin, times, variance float64 }

// foresee fills in what the gate could have seen: capabilities is how many share the level of regress, and must all
// pass for the gate to pass.
func (p Policy) foresee(t *tally, s sight, capabilities int, detail *CapabilityReport) error {
	if s.deviation == 0 && s.method == byScores { // all groups changed alike
		detail.ChanceUnchanged, detail.SmallestDrop, detail.SmallestMargin, detail.ItemsNeeded = 1, 0, 0, t.cases
		return nil
	}
	f, err := p.foresight(t, s)
	if err != nil {
		return err
	}
	if detail.ChanceUnchanged, err = f.chance(t.Margin); err != nil {
		return err
	}
	alone := Level / float64(capabilities) // what Holm leaves where one capability drops
	detail.SmallestMargin = f.smallest(Level, func(m float64) (float64, error) { return f.passes(setting{m, 1, 1}) })
	detail.SmallestDrop = f.smallest(alone, func(d float64) (float64, error) { return f.names(d, alone) })
	each := math.Pow(power, 1/float64(capabilities))
	about := math.Pow(f.deviation*(z(Level)+z(1-each))/t.Margin, 2)
	times := smallest(about, math.Inf(1), each, func(times float64) (float64, error) { return f.passes(setting{t.Margin, times, 1}) })
	if finite(times) {
		detail.ItemsNeeded = int(min(math.Ceil(float64(t.cases)*times), 1e12))
	}
	return nil
}

func (p Policy) foresight(t *tally, s sight) (foresight, error) {
	noise, err := stats.VarianceNoise(t.differences)
	if err != nil {
		return foresight{}, err
	}
	var f foresight
	switch {
	case s.method == byBetting:
		f, err = p.foreseeBetting(t)
	case t.Binary():
		f = foreseeRightWrong(t, s)
	default:
		f, err = p.foreseeScores(t, s)
	}
	f.noise = min(noise, 0.9)
	return f, err
}

// chance gives the chance that an unchanged candidate passes. The variance is an estimate, and the chance bends as it
// grows; so that the chance is right on average, what the bend adds is taken off.
func (f foresight) chance(margin float64) (float64, error) {
	var at [3]float64
	for i, times := range []float64{1 - f.noise, 1, 1 + f.noise} {
		var err error
		if at[i], err = f.passes(setting{margin, 1, times}); err != nil {
			return 0, err
		}
	}
	return min(max(2*at[1]-(at[0]+at[2])/2, 0), 1), nil
}

// smallest gives the smallest difference that is seen with the power that reports promise; a little more power
// makes up for the variance being an estimate.
func (f foresight) smallest(level float64, chance func(float64) (float64, error)) number {
	effect := z(level) + z(1-power)
	height := stats.NormalDensity(z(1 - power))
	bend := (height*z(1-power)*effect*effect + height*effect) / 8
	return number(smallest(f.deviation*effect, f.widest, min(power+bend*f.noise*f.noise, 0.95), chance))
}

// smallest gives the smallest x up to widest, looked for about where it is expected, whose chance is large enough; NaN
// where there is none.
func smallest(about, widest, enough float64, chance func(float64) (float64, error)) float64 {
	holds := func(x float64) bool {
		p, err := chance(x)
		return err == nil && p >= enough
	}
	high := min(2*about, widest)
	for tries := 0; !holds(high); tries++ {
		if high >= widest || tries > 10 {
			return math.NaN()
		}
		high = min(4*high, widest)
	}
	low := high / 2
	for tries := 0; tries < 10 && holds(low); tries++ {
		low /= 4
	}
	return stats.Smallest(low, high, holds)
}

// z is the normal quantile that a one-sided level alpha asks for.
func z(alpha float64) float64 { return stats.NormalQuantile(1 - alpha) }

func foreseeRightWrong(t *tally, s sight) foresight {
	counts := t.counts()
	n, seen := counts.N/s.effect, discordance(counts)
	groups := float64(len(t.differences))
	f := foresight{deviation: s.deviation, widest: 1}
	f.passes = func(in setting) (float64, error) {
		if in.margin >= 1 {
			return 1, nil
		}
		rate := min(seen*in.variance, 1)
		p, err := stats.TangoPower(stats.Comparison{N: max(1, n*in.times), Rate: rate}, in.margin, s.level)
		if err != nil || !t.byGroups() {
			return p, err
		}
		q, err := stats.StudentPower(stats.Studied{Effect: in.margin * math.Sqrt(n*in.times/rate), Freely: max(1, groups*in.times-1)}, Level)
		return min(p, q), err
	}
	f.names = func(drop, level float64) (float64, error) {
		rate := min(seen+drop, 1) // the drop comes on top of what differs anyway
		p, err := stats.McNemarPower(stats.Comparison{N: max(1, n), Rate: rate, Drop: drop}, level)
		if err != nil || !t.byGroups() {
			return p, err
		}
		q, err := stats.StudentPower(stats.Studied{Effect: drop * math.Sqrt(n/max(rate-drop*drop, 1e-9)), Freely: groups - 1}, level)
		return min(p, q) - disagree*(1-max(p, q)), err
	}
	return f
}

// disagree is how often, as simulated, McNemar's test and t do not both see a drop that one of them misses.
const disagree = 0.25

func (p Policy) foreseeScores(t *tally, s sight) (foresight, error) {
	groups, resampling := float64(len(t.differences)), stats.Resampling{Rounds: p.Resamples}
	lean, err := stats.Lean(t.differences)
	if err != nil {
		return foresight{}, err
	}
	sees := func(effect, times, lean, level float64) (float64, error) {
		extra, err := stats.ExtraReach(groups*times, lean, level, resampling)
		if err != nil {
			return 0, err
		}
		return stats.StudentPower(stats.Studied{Effect: effect - extra, Freely: max(1, groups*times-1), Lean: lean}, level)
	}
	return foresight{
		deviation: s.deviation, widest: math.Inf(1),
		passes: func(in setting) (float64, error) {
			return sees(in.margin/s.deviation*math.Sqrt(in.times/in.variance), in.times, lean/math.Sqrt(in.times), Level)
		},
		names: func(drop, level float64) (float64, error) { return sees(drop/s.deviation, 1, -lean, level) },
	}, nil
}

// bets is how often a bet on so many groups is tried out to foresee how it would go.
func bets(groups int) int { return min(max(4_000_000/groups, 40), 200) }

// foreseeBetting tries bets out on groups drawn anew. It takes the variance as it is.
func (p Policy) foreseeBetting(t *tally) (foresight, error) {
	limits, err := stats.ClusterLimits(t.differences, Level)
	again := stats.Resampling{Rounds: bets(len(t.differences)), Seed: p.Seed}
	turned := make([]stats.Total, len(t.differences))
	for i, d := range t.differences {
		turned[i] = stats.Total{Sum: -d.Sum, N: d.N}
	}
	return foresight{
		deviation: max(limits.Deviation, 1/float64(t.cases)), widest: 1,
		passes: func(in setting) (float64, error) {
			return stats.BettingPower(repeated(t.differences, in.times), -1, 1, 0, -in.margin, Level, again)
		},
		names: func(drop, level float64) (float64, error) {
			return stats.BettingPower(turned, -1, 1, drop, 0, level, again)
		},
	}, err
}

// repeated gives so many times the groups, by taking them in turn; at most a million.
func repeated(groups []stats.Total, times float64) []stats.Total {
	if times == 1 {
		return groups
	}
	more := make([]stats.Total, min(max(2, int(math.Ceil(float64(len(groups))*times))), 1_000_000))
	for i := range more {
		more[i] = groups[i%len(groups)]
	}
	return more
}
