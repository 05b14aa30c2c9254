package stats

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Resampling sets up a bootstrap. The zero value works.
type Resampling struct {
	Rounds int    // default 2,000
	Seed   uint64 // equal seeds give equal limits
}

// usualRounds is the default of Resampling.
const usualRounds = 2000

// Interval is a bootstrap's one-sided limits, both ways of reading them.
type Interval struct {
	Mean                        float64
	PercentileLow, PercentileUp float64
	Low, High                   float64 // bias-corrected and accelerated (BCa)
	PDrop                       float64 // one-sided p-value of "the mean is at least zero": the level at which High is zero
}

// Bootstrap resamples whole clusters of values (paired differences, for example) and gives limits of the mean over
// all values, each one-sided at alpha. Empty clusters do not count; fewer than two are ErrInput. Where all
// clusters are alike the limits are the mean.
// Sources: Efron, JASA 82:171 (1987) for BCa, acceleration from the jackknife over clusters; Davison and Hinkley,
// Bootstrap Methods and their Application (1997), section 3.8, for clusters.
func Bootstrap(clusters []Total, alpha float64, r Resampling) (Interval, error) {
	if !(inside(alpha) && alpha < 0.5) || r.Rounds < 0 {
		return Interval{}, bad("level %v with %d rounds", alpha, r.Rounds)
	}
	sums, err := filled(clusters)
	if err != nil {
		return Interval{}, err
	}
	if r.Rounds == 0 {
		r.Rounds = usualRounds
	}
	mean, _ := ratio(sums)
	means := resample(sums, r)
	slices.Sort(means)
	out := Interval{Mean: mean, PercentileLow: quantile(means, alpha), PercentileUp: quantile(means, 1-alpha)}
	if means[0] == means[len(means)-1] {
		out.Low, out.High = mean, mean
		if mean >= 0 {
			out.PDrop = 1
		}
		return out, nil
	}
	bias, acceleration := bias(means, mean), acceleration(sums)
	out.Low = quantile(means, corrected(alpha, bias, acceleration))
	out.High = quantile(means, corrected(1-alpha, bias, acceleration))
	out.PDrop = drop(means, bias, acceleration)
	return out, nil
}

func resample(sums []Total, r Resampling) []float64 {
	random := rand.New(rand.NewPCG(r.Seed, 0x9e3779b97f4a7c15))
	means := make([]float64, r.Rounds)
	for i := range means {
		var sum, n float64
		for range sums {
			t := sums[random.IntN(len(sums))]
			sum, n = sum+t.Sum, n+t.N
		}
		means[i] = sum / n
	}
	return means
}

// bias is the normal quantile of the part of resampled means below the mean; ties count half. It is kept finite
// where all lie on one side.
func bias(sorted []float64, mean float64) float64 {
	below, _ := slices.BinarySearch(sorted, mean)
	above := below
	for above < len(sorted) && sorted[above] == mean {
		above++
	}
	rounds := float64(len(sorted))
	part := (float64(below) + float64(above)) / 2 / rounds
	return distuv.UnitNormal.Quantile(min(max(part, 0.5/rounds), 1-0.5/rounds))
}

// acceleration is a sixth of the skewness of the jackknife over clusters.
func acceleration(sums []Total) float64 {
	var sum, n float64
	for _, t := range sums {
		sum, n = sum+t.Sum, n+t.N
	}
	left, centre := make([]float64, len(sums)), 0.0
	for i, t := range sums {
		left[i] = (sum - t.Sum) / (n - t.N)
		centre += left[i] / float64(len(sums))
	}
	var squares, cubes float64
	for _, v := range left {
		d := centre - v
		squares += d * d
		cubes += d * d * d
	}
	if squares == 0 {
		return 0
	}
	return cubes / (6 * math.Pow(squares, 1.5))
}

// corrected is BCa's level for a level.
func corrected(level, bias, acceleration float64) float64 {
	z := bias + distuv.UnitNormal.Quantile(level)
	return distuv.UnitNormal.CDF(bias + z/(1-acceleration*z))
}

// drop gives the level at which BCa's upper limit is zero; 0 where every resampled mean lies below zero.
func drop(sorted []float64, bias, acceleration float64) float64 {
	below, _ := slices.BinarySearch(sorted, 0)
	switch below {
	case len(sorted):
		return 0
	case 0:
		return 1
	}
	y := distuv.UnitNormal.Quantile(float64(below)/float64(len(sorted))) - bias
	if 1+acceleration*y <= 0 {
		return 1
	}
	return distuv.UnitNormal.Survival(y/(1+acceleration*y) - bias)
}

// quantile interpolates between order statistics (Hyndman and Fan's type 7).
func quantile(sorted []float64, level float64) float64 {
	at := level * float64(len(sorted)-1)
	i := int(at)
	if i >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// ExtraReach says by how many standard errors the lower one of [Bootstrap]'s BCa limit and Student's limit lies
// below Student's on average: skewness moves the BCa limit, and so does chance, both in the values and in the draws.
// lean is the mean's skewness, see [Lean].
// Source: the second-order expansion of the BCa limit, Hall, The Bootstrap and Edgeworth Expansion (1992), section 3.10.
func ExtraReach(clusters, lean, alpha float64, r Resampling) (float64, error) {
	if !(inside(alpha) && alpha < 0.5) || r.Rounds < 0 || !finite(clusters, lean) || clusters < 2 {
		return 0, bad("%v clusters with skewness %v at level %v with %d rounds", clusters, lean, alpha, r.Rounds)
	}
	if r.Rounds == 0 {
		r.Rounds = usualRounds
	}
	bar := distuv.UnitNormal.Quantile(1 - alpha)
	turn := (2*bar*bar + 1) / 6
	expected := bar - turn*lean - studentReach(alpha, clusters-1)
	height, middle := distuv.UnitNormal.Prob(bar), distuv.UnitNormal.Prob(0)
	draws := (alpha*(1-alpha)/(height*height) + 1/(middle*middle) - 2*alpha/(height*middle)) / float64(r.Rounds)
	values := turn * math.Sqrt(6) / clusters
	spread := math.Sqrt(draws + values*values)
	at := expected / spread
	return expected*distuv.UnitNormal.CDF(at) + spread*distuv.UnitNormal.Prob(at), nil
}
