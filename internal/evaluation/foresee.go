package evaluation

import (
	"math"
	"math/rand/v2"

	"github.com/refitml/refit/internal/stats"
)

// power is how often a gate's printed numbers hold.
const power = 0.8

// aim is how often they are meant to hold: there is room in between for what is approximate about them.
const aim = 0.86

// foresight says how a gate would go, as a capability's answers let expect.
type foresight interface {
	// chance gives the chance that an unchanged candidate passes.
	chance(margin float64) (float64, error)
	// margin gives the smallest that an unchanged candidate would clear with a chance; NaN where there is none.
	margin(chance float64) (float64, error)
	// drop gives the smallest that would be proven at a level with a chance; NaN or +Inf where there is none.
	drop(chance, level float64) (float64, error)
	// times gives how many times the groups it takes for an unchanged candidate to clear a margin with a chance; NaN
	// where that cannot be said.
	times(margin, chance float64) (float64, error)
}

// foreseer fills in a part of what the gate could have seen: capabilities is how many share the level of regress, and
// must all pass for the gate to pass.
type foreseer func(t *tally, f foresight, capabilities int, detail *CapabilityReport) error

// foreseeing fills in what the gate could have seen.
func (p Policy) foreseeing(parts ...foreseer) func(*tally, sight, int, *CapabilityReport) error {
	return func(t *tally, s sight, capabilities int, detail *CapabilityReport) error {
		if s.deviation == 0 && s.method == byScores { // all groups changed alike
			detail.ChanceUnchanged, detail.SmallestDrop, detail.SmallestMargin, detail.ItemsNeeded = 1, 0, 0, t.cases
			return nil
		}
		f, err := p.foresight(t, s)
		if err != nil {
			return err
		}
		for _, part := range parts {
			if err := part(t, f, capabilities, detail); err != nil {
				return err
			}
		}
		return nil
	}
}

func foreseeChance(t *tally, f foresight, _ int, detail *CapabilityReport) (err error) {
	detail.ChanceUnchanged, err = f.chance(t.Margin)
	return err
}

func foreseeSmallest(_ *tally, f foresight, capabilities int, detail *CapabilityReport) error {
	margin, err := f.margin(aim)
	if err != nil {
		return err
	}
	drop, err := f.drop(aim, Level/float64(capabilities)) // what Holm leaves where one capability drops
	detail.SmallestMargin, detail.SmallestDrop = number(margin), number(drop)
	return err
}

func foreseeNeeded(t *tally, f foresight, capabilities int, detail *CapabilityReport) error {
	times, err := f.times(t.Margin, math.Pow(power, 1/float64(capabilities)))
	if finite(times) {
		detail.ItemsNeeded = int(min(math.Ceil(float64(t.cases)*times), 1e12))
	}
	return err
}

func (p Policy) foresight(t *tally, s sight) (foresight, error) {
	if s.method == byBetting {
		return p.betted(t)
	}
	if !t.Binary() {
		return p.expected(t, s)
	}
	return p.imagined(t)
}

// expected foresees scores by distributions: the noncentral t, with what skewness and the bootstrap do to it.
type expected struct {
	differences             []stats.Total
	groups, lean, deviation float64
	noise                   float64 // standard error of the square of deviation, as a part of it
	policy                  Policy
}

func (p Policy) expected(t *tally, s sight) (expected, error) {
	e := expected{differences: t.differences, groups: float64(len(t.differences)), deviation: s.deviation, policy: p}
	noise, err := stats.VarianceNoise(t.differences)
	if err != nil {
		return e, err
	}
	e.noise = min(noise, 0.9)
	e.lean, err = stats.Lean(t.differences)
	return e, err
}

// sees gives the chance that a difference is seen, with so many times the groups and so many times the variance.
func (e expected) sees(difference, times, variance, lean, level float64) (float64, error) {
	lean /= math.Sqrt(times)
	extra, err := stats.ExtraReach(e.groups*times, lean, level, stats.Resampling{Rounds: e.policy.Resamples})
	if err != nil {
		return 0, err
	}
	effect := difference / e.deviation * math.Sqrt(times/variance)
	return stats.StudentPower(stats.Studied{Effect: effect - extra, Freely: max(1, e.groups*times-1), Lean: lean}, level)
}

// chance bends as the variance grows, which is an estimate; so that it is right on average, what the bend adds is taken off.
func (e expected) chance(margin float64) (float64, error) {
	var at [3]float64
	for i, variance := range []float64{1 - e.noise, 1, 1 + e.noise} {
		var err error
		if at[i], err = e.sees(margin, 1, variance, e.lean, Level); err != nil {
			return 0, err
		}
	}
	return min(max(2*at[1]-(at[0]+at[2])/2, 0), 1), nil
}

func (e expected) margin(chance float64) (float64, error) {
	return e.smallest(chance, Level, 1)
}

func (e expected) drop(chance, level float64) (float64, error) {
	return e.smallest(chance, level, -1)
}

func (e expected) times(margin, chance float64) (float64, error) {
	about := math.Pow(e.deviation*(z(Level)+z(1-chance))/margin, 2)
	return smallest(about, math.Inf(1), chance, func(times float64) (float64, error) { return e.sees(margin, times, 1, e.lean, Level) }), nil
}

// smallest gives the smallest difference, upwards or downwards, that other groups of the same kind will see with a
// chance. Deviation and skewness were estimated from these: how far that may lead astray is seen from groups drawn anew, and
// what it costs of the chance, to the second order, is added to it.
func (e expected) smallest(enough, level, up float64) (float64, error) {
	about := z(level) + z(1-enough)
	errors := func(lean, enough float64) float64 { // how many standard errors are seen with that chance
		return smallest(about, math.Inf(1), enough, func(x float64) (float64, error) { return e.sees(x*e.deviation, 1, 1, up*lean, level) })
	}
	drawn, err := e.others()
	if err != nil {
		return 0, err
	}
	var far float64
	for _, o := range drawn {
		far = max(far, math.Abs(o.lean-e.lean))
	}
	at, slope := errors(e.lean, enough), 0.0
	if far > 0 {
		slope = (errors(e.lean+far/2, enough) - errors(e.lean-far/2, enough)) / far
	}
	var bias, square float64
	for _, o := range drawn {
		off := o.deviation/e.deviation*(1+slope/at*(o.lean-e.lean)) - 1
		bias, square = bias+off/float64(len(drawn)), square+off*off/float64(len(drawn))
	}
	height := stats.NormalDensity(z(1 - enough))
	enough += height * at * (z(1-enough)*at*square/2 - bias)
	return e.deviation * errors(e.lean, min(enough, (1+power)/2)), nil
}

// others gives what groups would have estimated that are drawn from these.
func (e expected) others() ([]expected, error) {
	random := rand.New(rand.NewPCG(e.policy.Seed, 0xbb67ae8584caa73b))
	groups, list := make([]stats.Total, len(e.differences)), make([]expected, min(max(4_000_000/len(e.differences), 20), 200))
	for i := range list {
		for g := range groups {
			groups[g] = e.differences[random.IntN(len(groups))]
		}
		limits, err := stats.ClusterLimits(groups, Level)
		if err != nil {
			return nil, err
		}
		list[i].deviation = limits.Deviation
		if list[i].lean, err = stats.Lean(groups); err != nil {
			return nil, err
		}
	}
	return list, nil
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

// betted foresees bets by trying them out on groups drawn anew.
type betted struct {
	groups, turned []stats.Total
	about          float64 // standard error of the difference
	seed           uint64
	losing         *imagined // of right and wrong: how a drop would come
}

func (p Policy) betted(t *tally) (betted, error) {
	b := betted{groups: t.differences, turned: make([]stats.Total, len(t.differences)), about: 1 / float64(t.cases), seed: p.Seed}
	for i, d := range t.differences {
		b.turned[i] = stats.Total{Sum: -d.Sum, N: d.N}
	}
	if limits, err := stats.ClusterLimits(t.differences, Level); err == nil {
		b.about = max(b.about, limits.Deviation)
	}
	if !t.Binary() {
		return b, nil
	}
	losing, err := p.imagined(t)
	losing.p = func(drawn pairing) (float64, error) {
		return stats.BettingDrop(drawn.differences, -1, 1, Level, p.Seed)
	}
	b.losing = &losing
	return b, err
}

// again says how often a bet on so many groups is tried out.
func (b betted) again(groups int) stats.Resampling {
	return stats.Resampling{Rounds: min(max(4_000_000/groups, 40), 200), Seed: b.seed}
}

func (b betted) chance(margin float64) (float64, error) {
	bet := stats.Bet{Low: -1, High: 1, Floor: -margin}
	return stats.BettingPower(b.groups, bet, Level, b.again(len(b.groups)))
}

func (b betted) margin(chance float64) (float64, error) {
	return smallest(b.about*(z(Level)+z(1-chance)), 1, chance, func(margin float64) (float64, error) {
		bet := stats.Bet{Low: -1, High: 1, Floor: -margin, Others: true}
		return stats.BettingPower(b.groups, bet, Level, b.again(len(b.groups)))
	}), nil
}

func (b betted) times(margin, chance float64) (float64, error) {
	about := math.Pow(b.about*(z(Level)+z(1-chance))/margin, 2)
	return smallest(about, math.Inf(1), chance, func(times float64) (float64, error) {
		groups := repeated(b.groups, times)
		return stats.BettingPower(groups, stats.Bet{Low: -1, High: 1, Floor: -margin}, Level, b.again(len(groups)))
	}), nil
}

func (b betted) drop(chance, level float64) (float64, error) {
	if b.losing != nil {
		return b.losing.drop(chance, level)
	}
	return smallest(b.about*(z(level)+z(1-chance)), 1, chance, func(drop float64) (float64, error) {
		bet := stats.Bet{Low: -1, High: 1, Mean: drop, Others: true}
		return stats.BettingPower(b.turned, bet, level, b.again(len(b.turned)))
	}), nil
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
