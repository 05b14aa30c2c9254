package stats

import "math"

// rungs is the number of odds ratios in a ladder: 2^(1/2), 2, ..., 2^4, or their inverses.
const rungs = 8

// Excess is an e-process against "each hit had at most its stated probability". The zero value has seen nothing
// and stands at 1. It is not safe for use by several goroutines.
//
// For the odds ratio r, a trial of probability p multiplies by r^hit/(1-p+p·r), whose expectation is 1 at p and
// smaller below it; the e-value is the mean over r = 2^(k/2), k = 1 to 8. Kept as logarithms, so that millions of
// trials neither overflow nor vanish.
// Sources: Robbins, Annals of Mathematical Statistics 41:1397 (1970), mixtures of likelihood ratios; Lindon and
// Malek, arXiv 2011.03567 (2022), for counts under a stated split; Ville's inequality for the level.
type Excess struct{ ladder }

// Observe adds a trial. p is the probability of a hit under the null, known before the trial, strictly between
// 0 and 1; anything else is ErrInput and changes nothing.
func (e *Excess) Observe(p float64, hit bool) error { return e.observe(p, hit, 1) }

// Deficit is the e-process against "each hit had at least its stated probability": Excess with the odds ratios
// 2^(-k/2). The zero value has seen nothing and stands at 1.
type Deficit struct{ ladder }

// Observe adds a trial; see [Excess.Observe].
func (d *Deficit) Observe(p float64, hit bool) error { return d.observe(p, hit, -1) }

type ladder struct {
	logs  [rungs]float64
	peak  float64
	count int64
}

func (l *ladder) observe(p float64, hit bool, sign float64) error {
	if !inside(p) {
		return bad("probability %v of a trial, want one between 0 and 1", p)
	}
	for k := range l.logs {
		lr := sign * float64(k+1) / 2 * math.Ln2
		// log(1-p+p·r) as log1p(p·(r-1)): exact for small p.
		l.logs[k] -= math.Log1p(p * math.Expm1(lr))
		if hit {
			l.logs[k] += lr
		}
	}
	l.count++
	l.peak = max(l.peak, l.Log())
	return nil
}

// Log gives the natural logarithm of the e-value now; 0 before the first trial.
func (l *ladder) Log() float64 { return logMean(l.logs) }

// logMean gives the logarithm of the mean of what the logarithms stand for.
func logMean(logs [rungs]float64) float64 {
	largest := logs[0]
	for _, v := range logs[1:] {
		largest = max(largest, v)
	}
	sum := 0.0
	for _, v := range logs {
		sum += math.Exp(v - largest)
	}
	return largest + math.Log(sum/rungs)
}

// Peak gives the largest logarithm that the e-value ever had, at least 0. Rejecting when it passes
// log(1/alpha) keeps alpha however often one looked.
func (l *ladder) Peak() float64 { return l.peak }

// Trials gives the number of observations.
func (l *ladder) Trials() int64 { return l.count }

// LogLevel gives log(1/alpha), the bar for the logarithm of an e-value. alpha outside of 0 and 1 gives +Inf, which
// nothing passes.
func LogLevel(alpha float64) float64 {
	if !inside(alpha) {
		return math.Inf(1)
	}
	return -math.Log(alpha)
}

// ProportionSequence gives the limits of a confidence sequence for a proportion after trials independent trials
// with hits hits: over all sample sizes at once they hold the true proportion with probability at least 1-alpha,
// both sides together. No trials give 0 and 1.
//
// It inverts the e-value Beta(hits+1/2, misses+1/2)/Beta(1/2, 1/2) divided by the likelihood at the proportion,
// a mixture with Jeffreys' weights. Source: Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon, Annals of
// Statistics 49:1055 (2021).
func ProportionSequence(hits, trials int64, alpha float64) (low, high float64, err error) {
	if hits < 0 || trials < hits || !inside(alpha) {
		return 0, 0, bad("%d hits of %d trials at level %v", hits, trials, alpha)
	}
	if trials == 0 {
		return 0, 1, nil
	}
	h, m := float64(hits), float64(trials-hits)
	mixed := lbeta(h+0.5, m+0.5) - lbeta(0.5, 0.5) - LogLevel(alpha)
	outside := func(p float64) bool { return mixed > xlogy(h, p)+xlogy(m, 1-p) }
	best := h / float64(trials)
	if hits > 0 {
		low = bisect(0, best, outside)
	}
	high = 1
	if hits < trials {
		high = 1 - bisect(0, 1-best, func(q float64) bool { return outside(1 - q) })
	}
	return low, high, nil
}

// bisect gives the x nearest to high at which outside still holds, where outside holds at low, does not at high, and
// changes once: the limit is on the safe side. low may be over high.
func bisect(low, high float64, outside func(float64) bool) float64 {
	for range 200 {
		middle := low + (high-low)/2
		if middle == low || middle == high {
			break
		}
		if outside(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

func lbeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// xlogy is x·log(y) with 0·log(0) = 0.
func xlogy(x, y float64) float64 {
	if x == 0 {
		return 0
	}
	return x * math.Log(y)
}
