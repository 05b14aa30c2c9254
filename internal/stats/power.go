package stats

import (
	"math"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// Comparison says how pairs of yes and no would come out: N of them, each discordant with probability Rate,
// and the first's proportion lower by Drop. Rate is at least as large as Drop.
type Comparison struct{ N, Rate, Drop float64 }

func (c Comparison) check(alpha float64) error {
	if !finite(c.N, c.Rate, c.Drop) || c.N < 1 || c.Rate < 0 || c.Rate > 1 || math.Abs(c.Drop) > c.Rate || !(inside(alpha) && alpha < 0.5) {
		return bad("%v pairs, discordant with probability %v, a drop of %v, level %v", c.N, c.Rate, c.Drop, alpha)
	}
	return nil
}

// TangoPower gives the probability that [TangoLower] will lie above -margin: the sum over all outcomes of N pairs,
// N rounded. With a drop of margin it is the level that the test really has.
func TangoPower(c Comparison, margin, alpha float64) (float64, error) {
	if err := c.check(alpha); err != nil {
		return 0, err
	}
	if !inside(margin) {
		return 0, bad("margin %v, want one between 0 and 1", margin)
	}
	n, z := math.Round(c.N), distuv.UnitNormal.Quantile(1-alpha)
	return c.over(func(k int) float64 { return atLeast(fewestBetter(n, k, margin, z), k, c.better()) }), nil
}

// TangoSwapped gives the probability that [TangoLower] would lie above -margin if each discordant pair were as likely
// better as worse: the sum over all outcomes. Counts are whole numbers. Of pairs whose two sides are alike it is, given
// how many differ, the chance that they come out so, and its mean over such pairs is the chance itself.
func TangoSwapped(p Pairs, margin, alpha float64) (float64, error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	if !inside(margin) || !(inside(alpha) && alpha < 0.5) {
		return 0, bad("margin %v and level %v, want both between 0 and 1", margin, alpha)
	}
	z, k := distuv.UnitNormal.Quantile(1-alpha), int(math.Round(p.Better+p.Worse))
	return atLeast(fewestBetter(p.N, k, margin, z), k, 0.5), nil
}

// fewestBetter gives how many of k discordant of n pairs must be better for Tango's score to pass z at -margin.
func fewestBetter(n float64, k int, margin, z float64) int {
	return search(k, func(better int) bool {
		return tango(Pairs{Better: float64(better), Worse: float64(k - better), N: n}, -margin) > z
	})
}

// better gives the part of discordant pairs of which the first is right.
func (c Comparison) better() float64 {
	if c.Rate == 0 {
		return 0.5
	}
	return (1 - c.Drop/c.Rate) / 2
}

// over gives the mean of f over the number of discordant pairs. Where that number may be one of very many, every
// so many are looked at: f changes little from one to the next.
func (c Comparison) over(f func(k int) float64) float64 {
	const looks, reach = 60, 6
	n := math.Round(c.N)
	mean, deviation := n*c.Rate, math.Sqrt(n*c.Rate*(1-c.Rate))
	low := max(0, math.Floor(mean-reach*deviation))
	high := min(n, math.Ceil(mean+reach*deviation+reach))
	stride := max(1, math.Ceil((high-low)/looks))
	var sum, weight float64
	count := distuv.Binomial{N: n, P: c.Rate}
	for k := low; k <= high; k += stride {
		w := 1.0
		if c.Rate > 0 && c.Rate < 1 {
			w = count.Prob(k)
		} else if k != mean {
			continue
		}
		sum, weight = sum+w*f(int(k)), weight+w
	}
	return sum / weight
}

// search gives the smallest of 0 to k at which holds, which changes once, is true; k+1 where it never is.
func search(k int, holds func(int) bool) int {
	low, high := 0, k+1
	for low < high {
		middle := (low + high) / 2
		if holds(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// atLeast gives the probability of at least x hits in n trials.
func atLeast(x, n int, p float64) float64 {
	switch {
	case x <= 0:
		return 1
	case x > n || p <= 0:
		return 0
	case p >= 1:
		return 1
	}
	return mathext.RegIncBeta(float64(x), float64(n-x+1), p)
}

// Studied is what [ClusterLimits] sees: an effect of so many standard errors, with degrees of freedom. Lean is the
// skewness of the mean: where low values lie further out than high ones it is negative, and a limit is seldom
// where the normal approximation has it, because what lowers the mean widens the limit.
type Studied struct{ Effect, Freely, Lean float64 }

// StudentPower gives the probability that a one-sided t test at level alpha sees the effect.
// Source: the noncentral t distribution; the correlation of mean and variance by Hall, The Bootstrap and Edgeworth
// Expansion (1992), section 2.6.
func StudentPower(s Studied, alpha float64) (float64, error) {
	if !finite(s.Effect, s.Freely, s.Lean) || s.Freely < 1 || !(inside(alpha) && alpha < 0.5) {
		return 0, bad("an effect of %v standard errors with %v degrees of freedom and skewness %v at level %v", s.Effect, s.Freely, s.Lean, alpha)
	}
	bar := studentReach(alpha, s.Freely)
	beyond := (s.Effect - bar) / math.Sqrt(min(max(1-s.Lean*bar, 0.25), 4))
	effect := bar + leant(beyond, s.Lean)
	if s.Freely > manyFreely {
		return distuv.UnitNormal.CDF(effect - bar), nil
	}
	if effect-bar > 10 {
		return 1, nil
	}
	return 1 - distuv.NoncentralT{Nu: s.Freely, Mu: effect}.CDF(bar), nil
}

// leant gives the normal quantile of the probability that something of deviation 1 and skewness lean lies above -x. Where
// the expansion would turn, further out than anything is looked for, it stays.
// Source: the first term of Edgeworth's expansion, Hall (1992), section 2.5, as one of the quantile.
func leant(x, lean float64) float64 {
	if turn := 3 / math.Abs(lean); math.Abs(x) > turn {
		x = math.Copysign(turn, x)
	}
	return x + lean/6*(x*x-1)
}

// Lean gives the skewness of clusters' mean, as [Studied] wants it.
func Lean(clusters []Total) (float64, error) {
	sums, err := filled(clusters)
	if err != nil {
		return 0, err
	}
	return 6 * acceleration(sums), nil
}

// FewerDegrees gives the level at which a test by the normal distribution is as strict as one by t at alpha.
func FewerDegrees(alpha, freely float64) (float64, error) {
	if !(inside(alpha) && alpha < 0.5) || !(freely >= 1) {
		return 0, bad("level %v with %v degrees of freedom", alpha, freely)
	}
	return distuv.UnitNormal.Survival(studentReach(alpha, freely)), nil
}

// manyFreely is from how many degrees of freedom t is normal for any purpose here.
const manyFreely = 5000

// Smallest gives the smallest x between low and high at which holds is true, to one part in 1,000; it
// changes once. high where it never does.
func Smallest(low, high float64, holds func(float64) bool) float64 {
	for high-low > 1e-3*high {
		middle := low + (high-low)/2
		if holds(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// NormalQuantile gives the number under which a standard normal draw lies with probability p.
func NormalQuantile(p float64) float64 { return distuv.UnitNormal.Quantile(p) }

// NormalDensity gives the standard normal's density.
func NormalDensity(x float64) float64 { return distuv.UnitNormal.Prob(x) }
