package stats

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Agreed is a measure of agreement with its limits, each at the one-sided level that was asked for.
type Agreed struct{ Value, Low, High float64 }

// RawAgreement is how often two raters say the same, with the limits of Clopper and Pearson. independent is how many of
// the items are independent of one another, at most all of them: of items that hang together the limits know that they are fewer.
func RawAgreement(a, b []float64, independent int, alpha float64) (Agreed, error) {
	if err := rated(a, b, independent, 1, alpha); err != nil {
		return Agreed{}, err
	}
	share := same(a, b)
	hits := share * float64(independent)
	low, _, err := BinomialLimits(int64(math.Floor(hits+1e-9)), int64(independent), alpha)
	if err != nil {
		return Agreed{}, err
	}
	_, high, err := BinomialLimits(int64(math.Ceil(hits-1e-9)), int64(independent), alpha)
	return Agreed{share, low, high}, err
}

// CohenKappa is agreement beyond chance between two raters that put items into categories, each value being one. Its limits
// are those of the raw agreement, with the agreement by chance taken as known, as Cohen's standard error takes it; unlike
// that error they say something where the raters never differ. Raters of whom each knows one category, the same one, give
// ErrInput: there kappa is not defined.
// Source: Cohen, Educational and Psychological Measurement 20:37 (1960).
func CohenKappa(a, b []float64, independent int, alpha float64) (Agreed, error) {
	raw, err := RawAgreement(a, b, independent, alpha)
	if err != nil {
		return Agreed{}, err
	}
	chance, n := 0.0, float64(len(a))
	first, second := tallied(a), tallied(b)
	for category, count := range first {
		chance += count / n * second[category] / n
	}
	if chance >= 1 {
		return Agreed{}, bad("both raters know one category only")
	}
	beyond := func(share float64) float64 { return (share - chance) / (1 - chance) }
	return Agreed{beyond(raw.Value), beyond(raw.Low), beyond(raw.High)}, nil
}

// Spearman is the correlation of ranks, ties in the middle of their ranks, with limits by Fisher's z and the standard error
// of Bonett and Wright, which is good for correlations up to 0.95. A rater who says the same of every item gives ErrInput,
// and so do fewer than 4 independent items.
// Source: Bonett and Wright, Psychometrika 65:23 (2000).
func Spearman(a, b []float64, independent int, alpha float64) (Agreed, error) {
	if err := rated(a, b, independent, 4, alpha); err != nil {
		return Agreed{}, err
	}
	rho := stat.Correlation(ranks(a), ranks(b), nil)
	if !finite(rho) {
		return Agreed{}, bad("a rater says the same of every item")
	}
	return byFisher(rho, math.Sqrt((1+rho*rho/2)/float64(independent-3)), alpha), nil
}

// KendallTau is tau-b: pairs of items that two raters order alike less those that they order otherwise, corrected for ties,
// with limits by Fisher's z and the error that Fieller, Hartley and Pearson found. ErrInput as Spearman, with 5 items.
// Source: Kendall, Biometrika 33:239 (1945); Fieller, Hartley and Pearson, Biometrika 44:470 (1957).
func KendallTau(a, b []float64, independent int, alpha float64) (Agreed, error) {
	if err := rated(a, b, independent, 5, alpha); err != nil {
		return Agreed{}, err
	}
	var alike, tiedA, tiedB, pairs float64
	for i := range a {
		for j := range i {
			x, y := cmp.Compare(a[i], a[j]), cmp.Compare(b[i], b[j])
			alike += float64(x * y)
			tiedA += truth(x == 0)
			tiedB += truth(y == 0)
			pairs++
		}
	}
	tau := alike / math.Sqrt((pairs-tiedA)*(pairs-tiedB))
	if !finite(tau) {
		return Agreed{}, bad("a rater says the same of every item")
	}
	return byFisher(tau, math.Sqrt(0.437/float64(independent-4)), alpha), nil
}

func byFisher(r, deviation, alpha float64) Agreed {
	const most = 1 - 1e-12 // beyond it z has no end
	z, reach := math.Atanh(min(max(r, -most), most)), NormalQuantile(1-alpha)*deviation
	return Agreed{r, min(r, math.Tanh(z-reach)), max(r, math.Tanh(z+reach))}
}

func rated(a, b []float64, independent, least int, alpha float64) error {
	if len(a) != len(b) || independent < least || independent > len(a) || !inside(alpha) || !finite(a...) || !finite(b...) {
		return bad("%d and %d ratings, %d independent, at level %v", len(a), len(b), independent, alpha)
	}
	return nil
}

func same(a, b []float64) float64 {
	n := 0.0
	for i := range a {
		n += truth(a[i] == b[i])
	}
	return n / float64(len(a))
}

func tallied(values []float64) map[float64]float64 {
	count := map[float64]float64{}
	for _, v := range values {
		count[v]++
	}
	return count
}

// ranks gives each value its rank from 1, equal values the mean of theirs.
func ranks(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	out := make([]float64, len(values))
	for i, v := range values {
		first, _ := slices.BinarySearch(sorted, v)
		last := first
		for last < len(sorted) && sorted[last] == v {
			last++
		}
		out[i] = float64(first+1+last) / 2
	}
	return out
}
