package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Total is a cluster of values that depend on one another: what limits of a mean need to know of it. The zero
// value is an empty cluster, which does not count.
type Total struct {
	Sum     float64 // of the values
	Squares float64 // of the values' squares; only DesignEffect reads it
	N       float64 // values
}

// Add puts a value into the cluster.
func (t *Total) Add(v float64) { t.AddTimes(v, 1) }

// AddTimes puts a value into the cluster so many times.
func (t *Total) AddTimes(v, times float64) {
	t.Sum += times * v
	t.Squares += times * v * v
	t.N += times
}

// TotalsOf sums up clusters of values.
func TotalsOf(clusters [][]float64) []Total {
	totals := make([]Total, len(clusters))
	for i, cluster := range clusters {
		for _, v := range cluster {
			totals[i].Add(v)
		}
	}
	return totals
}

// Limits is an estimate of a mean with its limits, each one-sided at the level asked for, and the one-sided
// p-value of "the mean is at least zero" (small when a drop is proven).
type Limits struct {
	Mean      float64
	Low       float64
	High      float64
	Freely    float64 // degrees of freedom
	Deviation float64 // standard error of the mean
	PDrop     float64
}

// MeanLimits gives Student's limits for the mean of independent values; fewer than two are ErrInput. Values that
// are all equal give limits at that value: the caller decides how few are too few.
// Source: Student, Biometrika 6:1 (1908).
func MeanLimits(values []float64, alpha float64) (Limits, error) {
	clusters := make([]Total, len(values))
	for i, v := range values {
		clusters[i].Add(v)
	}
	return ClusterLimits(clusters, alpha)
}

// ClusterLimits gives Student's limits for the mean over all values when values of a cluster depend on one
// another: the mean is a ratio of cluster totals, its error comes from the residual totals, with clusters - 1
// degrees of freedom. Empty clusters do not count; fewer than two are ErrInput.
// Source: Cochran, Sampling Techniques, 3rd edition (1977), section 2.11 (ratio estimate).
func ClusterLimits(clusters []Total, alpha float64) (Limits, error) {
	if !inside(alpha) {
		return Limits{}, bad("level %v", alpha)
	}
	sums, err := filled(clusters)
	if err != nil {
		return Limits{}, err
	}
	mean, deviation := ratio(sums)
	out := Limits{Mean: mean, Deviation: deviation, Freely: float64(len(sums) - 1)}
	reach := studentReach(alpha, out.Freely) * deviation
	out.Low, out.High = mean-reach, mean+reach
	out.PDrop = pDrop(mean, deviation, out.Freely)
	return out, nil
}

// ClusterDrop gives the p-value of [ClusterLimits] alone, without limits, which take longer.
func ClusterDrop(clusters []Total) (float64, error) {
	sums, err := filled(clusters)
	if err != nil {
		return 0, err
	}
	mean, deviation := ratio(sums)
	return pDrop(mean, deviation, float64(len(sums)-1)), nil
}

// pDrop gives Student's p-value of "the mean is at least zero".
func pDrop(mean, deviation, freely float64) float64 {
	if deviation > 0 {
		return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freely}.CDF(mean / deviation)
	}
	return truth(mean >= 0)
}

// studentReach gives how many standard errors Student's limit at level alpha lies from the mean. It solves for what
// distuv.StudentsT.Quantile gives, faster: by Newton's steps from the expansion by Cornish and Fisher.
// Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
func studentReach(alpha, freely float64) float64 {
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freely}
	if freely < 5 || alpha < 1e-9 {
		return t.Quantile(1 - alpha)
	}
	x := distuv.UnitNormal.Quantile(1 - alpha)
	x2 := x * x
	reach := x * (1 + (x2+1)/(4*freely) + ((5*x2+16)*x2+3)/(96*freely*freely))
	for range 10 {
		step := (t.Survival(reach) - alpha) / t.Prob(reach)
		if reach += step; math.Abs(step) < 1e-10*math.Abs(reach) {
			return reach
		}
	}
	return t.Quantile(1 - alpha)
}

// filled gives the clusters that hold values; fewer than two, or numbers that cannot be, are ErrInput.
func filled(clusters []Total) ([]Total, error) {
	sums := clusters
	for _, t := range clusters {
		if !finite(t.Sum+t.Squares+t.N) || t.N < 0 || t.Squares < 0 {
			return nil, bad("a value that is no number")
		}
	}
	if slices.ContainsFunc(clusters, empty) {
		sums = slices.DeleteFunc(slices.Clone(clusters), empty)
	}
	if len(sums) < 2 {
		return nil, bad("%d clusters, want 2 or more", len(sums))
	}
	return sums, nil
}

func empty(t Total) bool { return t.N == 0 }

// ratio gives the mean over all values and its standard error from the clusters' residual totals.
func ratio(sums []Total) (mean, deviation float64) {
	var sum, n float64
	for _, t := range sums {
		sum, n = sum+t.Sum, n+t.N
	}
	mean = sum / n
	residuals := 0.0
	for _, t := range sums {
		d := t.Sum - mean*t.N
		residuals += d * d
	}
	g := float64(len(sums))
	return mean, math.Sqrt(residuals*g/(g-1)) / n
}

// DesignEffect says by what factor the clusters widen the variance of the mean, against as many independent
// values: divide counts by it before a test for independent ones. It is at least 1 (clusters never count as more
// than independent), and 1 where all values are equal. Fewer than two clusters are ErrInput.
// Source: Rao and Scott, Biometrics 48:577 (1992).
func DesignEffect(clusters []Total) (float64, error) {
	sums, err := filled(clusters)
	if err != nil {
		return 0, err
	}
	mean, deviation := ratio(sums)
	var squares, n float64
	for _, t := range sums {
		squares, n = squares+t.Squares, n+t.N
	}
	squares -= mean * mean * n
	if squares <= 1e-12*n { // all equal, but for rounding
		return 1, nil
	}
	return max(1, deviation*deviation*n*n/squares), nil
}

// VarianceNoise gives the standard error of the variance of clusters' mean, as a part of it: how well limits know how
// wide they ought to be. It is 0 where all values are equal.
func VarianceNoise(clusters []Total) (float64, error) {
	sums, err := filled(clusters)
	if err != nil {
		return 0, err
	}
	mean, _ := ratio(sums)
	var squares, fourths float64
	for _, t := range sums {
		d := (t.Sum - mean*t.N) * (t.Sum - mean*t.N)
		squares += d
		fourths += d * d
	}
	if squares == 0 || fourths == 0 {
		return 0, nil
	}
	return math.Sqrt(max(0, fourths/squares/squares-1/float64(len(sums)))), nil
}
