package stats

import "math"

// stakes is the number of constant bets in a ladder of stakes.
const stakes = 10

// boldest is the part of its money that the largest stake can lose on one value.
const boldest = 0.9

// Above is an e-process against "each value, which lies between 0 and 1, had a mean of at most its bar". The zero value
// has seen nothing and stands at 1. It is not safe for use by several goroutines.
//
// A gambler who stakes l on a value x multiplies money by 1+l·(x-bar), whose expectation is at most 1 where the value's
// mean, given those before, is at most the bar; no stake loses more than everything. The e-value is the mean over
// stakes l = 0.9/bar·2^(-k/2), k = 0 to 9: a fixed ladder, so it depends on the values only by what they are, and their
// order decides nothing but its peak. Nothing is assumed of the values' distribution.
// Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, Journal of the Royal
// Statistical Society B 86:1 (2024), arXiv 2010.09686: capital process (section 4), a mixture of constant bets as in
// their diversified Kelly; Ville's inequality for the level.
type Above struct {
	money [stakes]float64 // of each stake, as a part of what scale stands for; all 0: nothing was seen
	scale float64         // logarithm
	peak  float64
	count int64
}

// Observe adds a value between 0 and 1. bar is the mean that it has at most under the null, known before the value,
// strictly between 0 and 1; anything else is ErrInput and changes nothing.
func (a *Above) Observe(value, bar float64) error {
	if !inside(bar) || !(value >= 0 && value <= 1) {
		return bad("a value of %v held against a mean of %v, want one from 0 to 1 and a mean between", value, bar)
	}
	won, sum := boldest/bar*(value-bar), 0.0 // by the largest stake
	for k := range a.money {
		if a.count == 0 {
			a.money[k] = 1
		}
		a.money[k] *= 1 + won
		sum += a.money[k]
		won /= math.Sqrt2
	}
	a.count++
	if sum > 1e100 || sum < 1e-100 { // a stake that falls under what numbers hold is given up, which costs power only
		for k := range a.money {
			a.money[k] /= sum
		}
		a.scale += math.Log(sum)
	}
	if won > 0 { // only then it may be higher than ever
		a.peak = max(a.peak, a.Log())
	}
	return nil
}

// Log gives the natural logarithm of the e-value now; 0 before the first value.
func (a *Above) Log() float64 {
	if a.count == 0 {
		return 0
	}
	sum := 0.0
	for _, money := range a.money {
		sum += money
	}
	return a.scale + math.Log(sum/stakes)
}

// Peak gives the largest logarithm that the e-value ever had, at least 0; see [Excess.Peak].
func (a *Above) Peak() float64 { return a.peak }

// Trials gives the number of values.
func (a *Above) Trials() int64 { return a.count }
