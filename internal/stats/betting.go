package stats

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Bounded is what betting says of a mean: a lower limit, an upper limit, each exact at the one-sided level asked
// for, and the p-value of "the mean is at least zero".
type Bounded struct{ Mean, Low, High, PDrop float64 }

// Betting gives limits of the mean over all values that lie between low and high, from clusters of values. It
// assumes nothing of their distribution: clusters are independent draws and values lie within their bounds, that is
// all; a limit misses with probability at most alpha for every number of clusters, two and more.
//
// For each possible mean m a gambler bets, cluster by cluster, that values lie above it; a cluster wins or loses its
// total minus m times its number of values, as a part of the largest cluster, so that the bet is on the mean over
// all values (where all clusters are of one size it is a bet on cluster means). The stake is set before the cluster
// is seen, from the spread of those before it. Where m is the mean the gambler's money passes 1/alpha at any time
// with probability at most alpha; the limit is the smallest m at which it never did. The order of the clusters is
// drawn by the seed, as it must not depend on their values.
// Source: Waudby-Smith and Ramdas, Journal of the Royal Statistical Society B 86:1 (2024), arXiv 2010.09686,
// one-sided capital with predictable plug-in bets (equation 26), stakes at most half of what could be lost.
func Betting(clusters []Total, low, high, alpha float64, seed uint64) (Bounded, error) {
	if !(inside(alpha) && alpha < 0.5) || !finite(low, high) || low >= high {
		return Bounded{}, bad("values from %v to %v at level %v", low, high, alpha)
	}
	sums, err := filled(clusters)
	if err != nil {
		return Bounded{}, err
	}
	up, down, err := wagersOn(sums, low, high, alpha, rand.New(rand.NewPCG(seed, betOrder)))
	if err != nil {
		return Bounded{}, err
	}
	span := high - low
	mean, _ := ratio(sums)
	out := Bounded{Mean: mean}
	bar := LogLevel(alpha)
	beaten := func(wagers []wager) func(float64) bool {
		return func(m float64) bool { return m == 0 || capital(wagers, m) >= bar }
	}
	at := (mean - low) / span
	out.Low = low + span*bisect(0, min(max(at, 0), 1), beaten(up))
	out.High = high - span*bisect(0, min(max(1-at, 0), 1), beaten(down))
	out.PDrop = betOnDrop(down, high/span)
	return out, nil
}

// BettingDrop gives the p-value of [Betting] alone, without limits, which take longer.
func BettingDrop(clusters []Total, low, high, alpha float64, seed uint64) (float64, error) {
	if !(inside(alpha) && alpha < 0.5) || !finite(low, high) || low >= high {
		return 0, bad("values from %v to %v at level %v", low, high, alpha)
	}
	sums, err := filled(clusters)
	if err != nil {
		return 0, err
	}
	_, down, err := wagersOn(sums, low, high, alpha, rand.New(rand.NewPCG(seed, betOrder)))
	return betOnDrop(down, high/(high-low)), err
}

// betOnDrop gives the p-value of a mean of at least zero, which lies so far under the upper bound, in parts of the span.
func betOnDrop(down []wager, zero float64) float64 {
	if zero > 0 && zero <= 1 {
		return min(1, math.Exp(-capital(down, zero)))
	}
	return 1
}

// betOrder sets apart the draw of the clusters' order from other uses of a seed.
const betOrder = 0x2545f4914f6cdd1d

// wager is one cluster: what it won of what it could have, and the stake on it, set from the clusters before.
type wager struct{ won, size, stake float64 }

// wagersOn gives the clusters in a drawn order, for a gambler who bets on high values and for one who bets on low ones.
func wagersOn(sums []Total, low, high, alpha float64, random *rand.Rand) (up, down []wager, err error) {
	const rounding = 1e-9
	span, largest := high-low, 0.0
	for _, t := range sums {
		if t.Sum < (low-rounding)*t.N || t.Sum > (high+rounding)*t.N {
			return nil, nil, bad("a cluster of %v values with the sum %v, of values from %v to %v", t.N, t.Sum, low, high)
		}
		largest = max(largest, t.N)
	}
	up, down = make([]wager, len(sums)), make([]wager, len(sums))
	for to, from := range random.Perm(len(sums)) {
		t := sums[from]
		size := t.N / largest
		won := min(max((t.Sum-low*t.N)/(span*largest), 0), size)
		up[to], down[to] = wager{won: won, size: size}, wager{won: size - won, size: size}
	}
	stake(up, alpha)
	stake(down, alpha)
	return up, down, nil
}

// stake sets the stakes: what would be best for a mean that is off by as much as the spread so far lets expect.
func stake(wagers []wager, alpha float64) {
	won, size, squares := 0.5, 1.0, 0.25 // a first guess: the middle, with the largest spread
	for i := range wagers {
		w := &wagers[i]
		variance := squares / float64(i+1)
		w.stake = math.Sqrt(2 * LogLevel(alpha) / (variance * float64(len(wagers))))
		won, size = won+w.won, size+w.size
		d := w.won - won/size*w.size
		squares += d * d
	}
}

// capital gives the logarithm of the most money that a gambler against the mean m, in (0, 1], ever had; at least 0.
func capital(wagers []wager, m float64) float64 {
	const most = 0.5 // of what a cluster can lose
	money, peak := 0.0, 0.0
	for _, w := range wagers {
		money += math.Log1p(min(w.stake, most/m) * (w.won - m*w.size))
		peak = max(peak, money)
	}
	return peak
}

// Bet says what is tried out: values lie between Low and High, their mean over all clusters is Mean, and it is to be proven
// that it lies above Floor.
type Bet struct {
	Low, High, Mean, Floor float64
	// Others draws clusters each time from some that are drawn first, so that it counts, too, what the clusters at hand
	// do not show of those that they come from: as for other clusters of the same kind.
	Others bool
}

// BettingPower gives the probability that [Betting] would prove it, at level alpha, if the clusters' deviations from
// their mean were as they are: by drawing as many clusters anew, so many times. What a shift carries over a bound counts
// as at it.
func BettingPower(clusters []Total, b Bet, alpha float64, r Resampling) (float64, error) {
	if !(inside(alpha) && alpha < 0.5) || !finite(b.Low, b.High, b.Mean, b.Floor) || b.Low >= b.High || r.Rounds < 1 {
		return 0, bad("values from %v to %v around %v, floor %v, level %v", b.Low, b.High, b.Mean, b.Floor, alpha)
	}
	sums, err := filled(clusters)
	if err != nil {
		return 0, err
	}
	if b.Floor < b.Low || b.Floor >= b.High {
		return truth(b.Floor < b.Low), nil
	}
	is, _ := ratio(sums)
	random := rand.New(rand.NewPCG(r.Seed, 0x9e3779b97f4a7c15))
	at, bar, proven := (b.Floor-b.Low)/(b.High-b.Low), LogLevel(alpha), 0
	largest := slices.MaxFunc(sums, func(a, b Total) int { return cmp.Compare(a.N, b.N) }).N
	drawn, from := make([]wager, len(sums)), slices.Clone(sums) // at random, so in a random order, too
	for range r.Rounds {
		if b.Others {
			for i := range from {
				from[i] = sums[random.IntN(len(sums))]
			}
		}
		for i := range drawn {
			t := from[random.IntN(len(from))]
			size := t.N / largest
			won := (t.Sum + (b.Mean-is-b.Low)*t.N) / ((b.High - b.Low) * largest)
			drawn[i] = wager{won: min(max(won, 0), size), size: size}
		}
		stake(drawn, alpha)
		if at == 0 || capital(drawn, at) >= bar {
			proven++
		}
	}
	return float64(proven) / float64(r.Rounds), nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
