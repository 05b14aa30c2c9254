package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Limits is an estimate of a mean with its limits, each one-sided at the level asked for, and the one-sided
// p-value of "the mean is at least zero" (small when a drop is proven).
type Limits struct {
	Mean   float64
	Low    float64
	High   float64
	Freely float64 // degrees of freedom
	PDrop  float64
}

// MeanLimits gives Student's limits for the mean of independent values; fewer than two are ErrInput. Values that
// are all equal give limits at that value: the caller decides how few are too few.
// Source: Student, Biometrika 6:1 (1908).
func MeanLimits(values []float64, alpha float64) (Limits, error) {
	clusters := make([][]float64, len(values))
	for i, v := range values {
		clusters[i] = []float64{v}
	}
	return ClusterLimits(clusters, alpha)
}

// ClusterLimits gives Student's limits for the mean over all values when values of a cluster depend on one
// another: the mean is a ratio of cluster totals, its error comes from the residual totals, with clusters - 1
// degrees of freedom. Empty clusters do not count; fewer than two are ErrInput.
// Source: Cochran, Sampling Techniques, 3rd edition (1977), section 2.11 (ratio estimate).
func ClusterLimits(clusters [][]float64, alpha float64) (Limits, error) {
	if !inside(alpha) {
		return Limits{}, bad("level %v", alpha)
	}
	sums, err := totals(clusters)
	if err != nil {
		return Limits{}, err
	}
	if len(sums) < 2 {
		return Limits{}, bad("%d clusters, want 2 or more", len(sums))
	}
	mean, deviation := ratio(sums)
	out := Limits{Mean: mean, Freely: float64(len(sums) - 1)}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: out.Freely}
	reach := t.Quantile(1-alpha) * deviation
	out.Low, out.High = mean-reach, mean+reach
	switch {
	case deviation > 0:
		out.PDrop = t.CDF(mean / deviation)
	case mean < 0:
		out.PDrop = 0
	default:
		out.PDrop = 1
	}
	return out, nil
}

type total struct{ sum, n float64 }

func totals(clusters [][]float64) ([]total, error) {
	sums := make([]total, 0, len(clusters))
	for _, cluster := range clusters {
		if len(cluster) == 0 {
			continue
		}
		t := total{n: float64(len(cluster))}
		for _, v := range cluster {
			t.sum += v
		}
		if !finite(t.sum) {
			return nil, bad("a value that is no number")
		}
		sums = append(sums, t)
	}
	return sums, nil
}

// ratio gives the mean over all values and its standard error from the clusters' residual totals.
func ratio(sums []total) (mean, deviation float64) {
	var sum, n float64
	for _, t := range sums {
		sum, n = sum+t.sum, n+t.n
	}
	mean = sum / n
	residuals := 0.0
	for _, t := range sums {
		d := t.sum - mean*t.n
		residuals += d * d
	}
	g := float64(len(sums))
	return mean, math.Sqrt(residuals*g/(g-1)) / n
}

// DesignEffect says by what factor the clusters widen the variance of the mean, against as many independent
// values: divide counts by it before a test for independent ones. It is at least 1 (clusters never count as more
// than independent), and 1 where all values are equal. Fewer than two clusters are ErrInput.
// Source: Rao and Scott, Biometrics 48:577 (1992).
func DesignEffect(clusters [][]float64) (float64, error) {
	sums, err := totals(clusters)
	if err != nil {
		return 0, err
	}
	if len(sums) < 2 {
		return 0, bad("%d clusters, want 2 or more", len(sums))
	}
	mean, deviation := ratio(sums)
	var squares, n float64
	for _, cluster := range clusters {
		for _, v := range cluster {
			squares += (v - mean) * (v - mean)
			n++
		}
	}
	if squares == 0 {
		return 1, nil
	}
	return max(1, deviation*deviation*n*n/squares), nil
}
