package stats

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// Pairs counts n pairs of yes and no: Better where only the first said yes, Worse where only the second did. The
// rest agree. Counts may be fractions, see [DesignEffect].
type Pairs struct{ Better, Worse, N float64 }

// Difference gives the first's proportion minus the second's; 0 without pairs.
func (p Pairs) Difference() float64 {
	if p.N == 0 {
		return 0
	}
	return (p.Better - p.Worse) / p.N
}

// Over divides all counts by a design effect.
func (p Pairs) Over(effect float64) Pairs {
	return Pairs{p.Better / effect, p.Worse / effect, p.N / effect}
}

func (p Pairs) check() error {
	// Division by a design effect leaves sums a rounding above n.
	if !finite(p.Better, p.Worse, p.N) || p.Better < 0 || p.Worse < 0 || p.N <= 0 || p.Better+p.Worse > p.N*(1+1e-9) {
		return bad("%v better and %v worse of %v pairs", p.Better, p.Worse, p.N)
	}
	return nil
}

// TangoScore gives the score statistic for the hypothesis that the difference is delta, from -1 to 1 exclusive:
// approximately standard normal under it, large when the true difference is larger. With no discordant pair and
// delta 0 it is 0.
// Source: Tango, Statistics in Medicine 17:891 (1998).
func TangoScore(p Pairs, delta float64) (float64, error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	if !(delta > -1 && delta < 1) {
		return 0, bad("difference %v, want one between -1 and 1", delta)
	}
	return tango(p, delta), nil
}

func tango(p Pairs, delta float64) float64 {
	// The restricted likelihood's maximum is the larger root of a q² + b q + c for the second cell.
	a := 2 * p.N
	b := -p.Better - p.Worse + (2*p.N-p.Better+p.Worse)*delta
	c := -p.Worse * delta * (1 - delta)
	q := (math.Sqrt(max(0, b*b-4*a*c)) - b) / (2 * a)
	variance := p.N * (2*max(0, q) + delta*(1-delta))
	distance := p.Better - p.Worse - p.N*delta
	if variance <= 0 {
		if math.Abs(distance) < 1e-12 {
			return 0
		}
		return math.Copysign(math.Inf(1), distance)
	}
	return distance / math.Sqrt(variance)
}

// TangoLower gives the lower limit of the difference at one-sided level alpha: every smaller difference is
// rejected by Tango's score test.
func TangoLower(p Pairs, alpha float64) (float64, error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	if !(inside(alpha) && alpha < 0.5) {
		return 0, bad("level %v, want one between 0 and 0.5", alpha)
	}
	z := distuv.UnitNormal.Quantile(1 - alpha)
	return bisect(-1, p.Difference(), func(d float64) bool { return d == -1 || tango(p, d) > z }), nil
}

// TangoUpper is TangoLower for the other side.
func TangoUpper(p Pairs, alpha float64) (float64, error) {
	low, err := TangoLower(Pairs{Better: p.Worse, Worse: p.Better, N: p.N}, alpha)
	return -low, err
}

// McNemar gives the exact one-sided p-value of "worse is no more likely than better": the chance of at least as
// many worse among the discordant pairs when both are equally likely. Without discordant pairs it is 1. Counts that
// are fractions use the continuous form of the binomial tail, the regularised incomplete beta function.
// Source: McNemar, Psychometrika 12:153 (1947), in its exact conditional form.
func McNemar(p Pairs) (float64, error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	if p.Worse == 0 {
		return 1, nil
	}
	return mathext.RegIncBeta(p.Worse, p.Better+1, 0.5), nil
}

// Holm adjusts p-values for having asked len(p) questions: rejecting those at most alpha keeps the chance of any
// false rejection at most alpha, however they depend on one another. The order is that of p.
// Source: Holm, Scandinavian Journal of Statistics 6:65 (1979).
func Holm(p []float64) ([]float64, error) {
	order := make([]int, len(p))
	for i, v := range p {
		if !(v >= 0 && v <= 1) {
			return nil, bad("p-value %v at %d", v, i)
		}
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return p[order[i]] < p[order[j]] })
	adjusted, largest := make([]float64, len(p)), 0.0
	for rank, i := range order {
		largest = max(largest, min(1, float64(len(p)-rank)*p[i]))
		adjusted[i] = largest
	}
	return adjusted, nil
}

// BinomialLimits gives the limits of Clopper and Pearson, each at one-sided level alpha: exact, so rather too
// wide than too narrow.
// Source: Clopper and Pearson, Biometrika 26:404 (1934).
func BinomialLimits(hits, trials int64, alpha float64) (low, high float64, err error) {
	if hits < 0 || trials < hits || trials == 0 || !inside(alpha) {
		return 0, 0, bad("%d hits of %d trials at level %v", hits, trials, alpha)
	}
	h, n := float64(hits), float64(trials)
	high = 1
	if hits > 0 {
		low = mathext.InvRegIncBeta(h, n-h+1, alpha)
	}
	if hits < trials {
		high = mathext.InvRegIncBeta(h+1, n-h, 1-alpha)
	}
	return low, high, nil
}
