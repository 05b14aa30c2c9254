package evaluation

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/refitml/refit/internal/stats"
)

// imagined foresees gates of right and wrong answers by drawing them and judging each as a real one is judged.
//
// The chance that an unchanged candidate passes takes the groups as they are, and draws only which side of a group is the
// candidate's: where candidate and baseline are alike, either is as likely. So it is the chance of a pass given how much
// differs, and nothing is estimated: its mean over gates is the chance of a pass, however few the groups are and however
// few cases differ.
// Source: the randomisation test, Fisher, The Design of Experiments (1935), section 21.
//
// A drop or a margin is met by another gate, of other answers: what differs there is drawn anew from the groups that were
// seen. How much differs was only estimated, and an estimate that is too small promises too much: each gate that is
// drawn is measured by what another draw would have estimated, and the promise by what was estimated. Where nothing was
// seen to differ it is seldom true that nothing does: half a group on average differs besides (the prior of Jeffreys), drawn
// by its part in the variance, because that is what few groups may not have shown. As no difference is larger than 1,
// Fisher's z of it is what is measured, which is the difference itself where it is small.
// Source: prediction limits by the studentised bootstrap, on a scale that keeps to its range, Davison and Hinkley, Bootstrap
// Methods and their Application (1997), sections 2.4, 3.9 and 5.2.2.
type imagined struct {
	weighing
	policy   Policy
	p        func(pairing) (float64, error) // p-value of "no drop at all"
	weight   []float64                      // of the first groups in the variance, summed up
	changing []float64                      // as in tally
}

func (p Policy) imagined(t *tally) (imagined, error) {
	w, err := t.pairing().weigh()
	i := imagined{weighing: w, policy: p, p: dropOf, changing: t.changing}
	var squares float64
	for _, d := range t.differences {
		squares += d.Sum * d.Sum
		i.weight = append(i.weight, squares)
	}
	return i, err
}

// dropOf gives the p-value of "no drop at all".
func dropOf(p pairing) (float64, error) {
	w, err := p.weigh()
	if err != nil {
		return 0, err
	}
	return w.drop()
}

// imagining is how often gates are drawn: as the policy says, less often where the groups are very many and seldom
// surprise.
func (i imagined) imagining(groups int) int {
	rounds := cmp.Or(i.policy.Resamples, usualImagined)
	return min(rounds, max(most/groups, 40))
}

const (
	usualImagined = 1000
	most          = 6_000_000 // groups drawn in all
)

func (i imagined) chance(margin float64) (float64, error) {
	if margin >= 1 {
		return 1, nil
	}
	if !i.byGroups {
		return stats.TangoSwapped(i.counts, margin, Level)
	}
	random, drawn := i.random(), i.drawing(len(i.differences))
	passed, rounds := 0, i.imagining(len(i.differences))
	for range rounds {
		copy(drawn.differences, i.differences)
		copy(drawn.before, i.before)
		drawn.swap(random)
		low, err := drawn.low()
		if err != nil {
			return 0, err
		}
		if low > -margin {
			passed++
		}
	}
	return float64(passed) / float64(rounds), nil
}

func (i imagined) margin(chance float64) (float64, error) {
	return i.clears(chance, len(i.differences), true)
}

// clears gives the smallest margin that so many groups clear with a chance: other groups, or those that were seen.
func (i imagined) clears(chance float64, groups int, others bool) (float64, error) {
	random, drawn := i.random(), i.drawing(groups)
	margins := make([]float64, i.imagining(groups))
	for at := range margins {
		i.redraw(drawn, random)
		low, err := drawn.low()
		if err != nil {
			return 0, err
		}
		margins[at] = -low
		if others {
			margins[at] = i.elsewhere(margins[at], random)
		}
	}
	margin := max(0, quantile(margins, chance)) + beyond // it is cleared by what lies inside
	if margin >= 1 {
		return math.NaN(), nil
	}
	return margin, nil
}

// quantile sorts a list and gives what so much of it, and of one more, is at most.
func quantile(list []float64, part float64) float64 {
	slices.Sort(list)
	return list[min(len(list), int(math.Ceil(float64(len(list)+1)*part)))-1]
}

// elsewhere draws what a difference that other groups needed comes to where the deviation is what was seen; +Inf where it
// is out of reach.
func (i imagined) elsewhere(difference float64, random *rand.Rand) float64 {
	mistaken := i.mistaken(random)
	if difference >= 1 {
		return math.Inf(1)
	}
	return math.Tanh(math.Atanh(difference) * mistaken)
}

// mistaken draws by what factor the deviation of what was seen is larger than that of other groups of the same kind.
func (i imagined) mistaken(random *rand.Rand) float64 {
	var seen, other moments
	for _, d := range i.differences {
		seen.add(d)
		other.add(i.differences[random.IntN(len(i.differences))])
	}
	for _, d := range i.more(random) {
		other.add(d)
	}
	return math.Sqrt(seen.variance() / other.variance())
}

// moments are sums over groups that let their variance be estimated.
type moments struct{ squares, fourths float64 }

func (m *moments) add(d stats.Total) {
	square := d.Sum * d.Sum
	m.squares, m.fourths = m.squares+square, m.fourths+square*square
}

// variance counts what was not seen with what it is on average: a group by its part in the variance, or one case.
func (m moments) variance() float64 {
	if m.squares == 0 {
		return unseen
	}
	return m.squares + unseen*m.fourths/m.squares
}

// unseen is how many groups differ besides those that were seen to; more draws them.
const unseen = 0.5

func (i imagined) more(random *rand.Rand) (groups []stats.Total) {
	all := i.weight[len(i.weight)-1]
	for wait := random.ExpFloat64(); wait < unseen; wait += random.ExpFloat64() {
		one := stats.Total{Sum: 1, Squares: 1}
		if all > 0 {
			at, _ := slices.BinarySearch(i.weight, all*random.Float64())
			one = i.differences[min(at, len(i.weight)-1)]
		}
		groups = append(groups, one)
	}
	return groups
}

func (i imagined) times(margin, chance float64) (float64, error) {
	groups, times := float64(len(i.differences)), 1.0
	if !i.byGroups {
		rate := (i.counts.Better + i.counts.Worse + 0.5) / (i.counts.N + 1)
		about := rate / i.counts.N * math.Pow((z(Level)+z(1-chance))/margin, 2)
		return smallest(about, math.Inf(1), chance, func(times float64) (float64, error) {
			return stats.TangoPower(stats.Comparison{N: max(1, i.counts.N*times), Rate: rate}, margin, Level)
		}), nil
	}
	const closer, fewest, most = 3, 15, 1_000_000 // limits narrow with the root of the groups, nearly
	for range closer {
		cleared, err := i.clears(chance, int(min(max(groups*times, fewest), most)), false)
		if err != nil || !finite(cleared) {
			return math.NaN(), err
		}
		times *= math.Pow(cleared/margin, 2)
	}
	return times, nil
}

// beyond is more than rounding leaves, and nothing to anybody.
const beyond = 1e-9

func (i imagined) drop(chance, level float64) (float64, error) {
	random, drawn := i.random(), i.drawing(len(i.differences))
	drops := make([]float64, i.imagining(len(i.differences)))
	f, clumps := falling{random: random, cases: i.counts.N, about: 1}, i.clumps()
	for _, g := range i.differences {
		f.widest = max(f.widest, g.N)
	}
	for at := range drops {
		i.redraw(drawn, random)
		f.clump = clumps.draw(random)
		drop, err := f.sink(drawn, level)
		if err != nil {
			return 0, err
		}
		drops[at] = i.elsewhere(drop, random)
	}
	return quantile(drops, chance), nil
}

func (i imagined) random() *rand.Rand {
	return rand.New(rand.NewPCG(i.policy.Seed, 0x6a09e667f3bcc909))
}

// drawing is a place to draw gates of so many groups in.
func (i imagined) drawing(groups int) drawn {
	return drawn{pairing{differences: make([]stats.Total, groups), before: make([]stats.Total, groups), byGroups: i.byGroups}, i.p}
}

// drawn is a gate that is imagined.
type drawn struct {
	pairing
	p func(pairing) (float64, error)
}

// swap draws which side of each group is the candidate's.
func (d drawn) swap(random *rand.Rand) {
	bits := uint64(0)
	for g := range d.differences {
		if g%64 == 0 {
			bits = random.Uint64()
		}
		if bits>>(g%64)&1 == 1 {
			d.differences[g].Sum = -d.differences[g].Sum
		}
	}
}

// redraw draws a gate of an unchanged candidate from the groups that were seen.
func (i imagined) redraw(d drawn, random *rand.Rand) {
	for g := range d.differences {
		from := random.IntN(len(i.differences))
		d.differences[g], d.before[g] = i.differences[from], i.before[from]
	}
	for _, m := range i.more(random) {
		g := &d.differences[random.IntN(len(d.differences))]
		g.Sum, g.Squares = math.Copysign(min(math.Abs(m.Sum), g.N), m.Sum), min(m.Squares, g.N)
	}
	d.swap(random)
}

// low gives the lower limit.
func (d drawn) low() (float64, error) {
	w, err := d.weigh()
	if err != nil {
		return 0, err
	}
	low, _, err := w.limits()
	return low, err
}

// names says whether a drop is proven at a level.
func (d drawn) names(level float64) (bool, error) {
	p, err := d.p(d.pairing)
	return p <= level, err
}

// lose lets the candidate lose so many cases of a group, whose answers were alike; false where it holds not as many.
func (d drawn) lose(group int, cases float64) bool {
	g := &d.differences[group]
	if g.Squares+cases > g.N+beyond {
		return false
	}
	g.Sum, g.Squares = g.Sum-cases, g.Squares+cases
	return true
}

// lost is some cases of a group that the candidate lost, and how large the drop had to be for that.
type lost struct {
	group       int
	cases, drop float64
}

// falling is a gate whose candidate loses one clump of cases after the other.
type falling struct {
	drawn
	random *rand.Rand
	clump  float64 // cases that are lost together, on average
	cases  float64 // in all
	widest float64 // cases of the largest group
	about  int     // losses that proved the drop in the gate before
	plan   []lost
	done   int  // of the plan
	ended  bool // there is no more to lose
}

// sink lets the candidate of a gate lose cases until the drop is proven, and gives how large a drop that took, to a
// hundredth; +Inf where no drop is enough. Cases are lost in clumps, as those hang together that differ anyway.
func (f *falling) sink(d drawn, level float64) (float64, error) {
	f.drawn, f.plan, f.done, f.ended = d, f.plan[:0], 0, false
	var failed error
	enough := func(losses int) bool {
		if !f.to(losses) {
			return true
		}
		named, err := f.names(level)
		failed = cmp.Or(failed, err)
		return named || err != nil
	}
	low, high := 0, f.about
	for !enough(high) {
		low, high = high, high+high/4+1
	}
	for step := high/4 + 1; low == 0 && high > step; step *= 2 {
		if at := high - step; enough(at) {
			high = at
		} else {
			low = at
		}
	}
	for high-low > 1+high/100 {
		if middle := (low + high) / 2; enough(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	if high > len(f.plan) {
		return math.Inf(1), failed
	}
	f.about = high
	return f.plan[high-1].drop, failed
}

// to goes to so many losses, back or forth; false where there are not as many.
func (f *falling) to(losses int) bool {
	for ; f.done < min(losses, len(f.plan)); f.done++ {
		f.lose(f.plan[f.done].group, f.plan[f.done].cases)
	}
	for f.done < losses {
		if f.ended = f.ended || !f.loseMore(); f.ended {
			return false
		}
	}
	for ; f.done > losses; f.done-- {
		f.lose(f.plan[f.done-1].group, -f.plan[f.done-1].cases)
	}
	return true
}

// loseMore draws what is lost next: some cases of a group, each case as likely; false where none can be found.
func (f *falling) loseMore() bool {
	const tries = 200
	whole, part := math.Modf(f.clump)
	if f.random.Float64() < part {
		whole++
	}
	for range tries {
		group := f.random.IntN(len(f.differences))
		n := f.differences[group].N
		cases := min(whole, n)
		if f.random.Float64()*f.widest >= n || !f.lose(group, cases) {
			continue
		}
		drop := f.random.ExpFloat64() * cases / f.cases
		if f.done > 0 {
			drop += f.plan[f.done-1].drop
		}
		f.plan = append(f.plan, lost{group, cases, drop})
		f.done++
		return true
	}
	return false
}
