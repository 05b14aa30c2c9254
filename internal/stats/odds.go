package stats

import "math"

// A lattice holds the ladder's bets against every odds ratio on it: the ratios lie 2^(1/32) apart, 2.2%, from 2^-8 to
// 2^8 times an anchor, and because the ladder's rungs are whole steps of it, a bet against one is a quotient of the
// likelihoods of two.
const (
	fine   = 16        // steps of the lattice between two rungs of the ladder
	reach  = 16 * fine // steps from the anchor to the outermost ratio that can be a limit
	limits = 2*reach + 1
	points = limits + rungs*fine
)

// lattice is what LowerOdds and UpperOdds share. Its memory does not grow. Steps are counted in the direction of the
// ladder: upwards from small ratios (sign 1), or downwards from large ones (sign -1); so bets against ratios that are
// further on are never larger, because the likelihood's logarithm is concave in the logarithm of the ratio.
type lattice struct {
	sign         float64
	anchor, bar  float64
	trials, hits int64

	p       float64         // of the newest trials
	pending int64           // of them are not in sums yet
	each    [points]float64 // log(1-p+p·ratio) of one of them
	sums    [points]float64 // the same, of all before them
}

func newLattice(sign, anchor, alpha float64) (lattice, error) {
	if !(anchor > 0) || !finite(anchor) || !inside(alpha) {
		return lattice{}, bad("anchor %v at level %v, want one over 0 and a level between 0 and 1", anchor, alpha)
	}
	return lattice{sign: sign, anchor: anchor, bar: LogLevel(alpha)}, nil
}

// ratio gives the odds ratio at a step.
func (l *lattice) ratio(step int) float64 {
	return l.anchor * math.Exp2(l.sign*float64(step-reach)/(2*fine))
}

func (l *lattice) observe(p float64, hit bool) error {
	if !inside(p) {
		return bad("probability %v of a trial, want one between 0 and 1", p)
	}
	if p != l.p {
		l.flush()
		l.p = p
		for i := range l.each {
			l.each[i] = math.Log1p(p * (l.ratio(i) - 1))
		}
	}
	l.trials++
	l.pending++
	if hit {
		l.hits++
	}
	return nil
}

func (l *lattice) flush() {
	if l.pending == 0 {
		return
	}
	n := float64(l.pending)
	for i := range l.sums {
		l.sums[i] += n * l.each[i]
	}
	l.pending = 0
}

// against gives the logarithm of the e-value against the ratio at a step: the mean over the ladder's rungs of how much
// likelier the trials are when the ratio is a rung further on. Everything is flushed.
func (l *lattice) against(step int) float64 {
	var logs [rungs]float64
	for k := range logs {
		gain := l.sign * float64(k+1) / 2 * math.Ln2 * float64(l.hits)
		logs[k] = gain - (l.sums[step+(k+1)*fine] - l.sums[step])
	}
	return logMean(logs)
}

// Trials gives the number of observations.
func (l *lattice) Trials() int64 { return l.trials }

// LowerOdds is [Excess] against every odds ratio at once. Each trial has a probability p of a hit, known before it, and
// an unknown odds ratio, the same for all trials, moves it to p·ratio/(1-p+p·ratio). The e-process at the anchor is
// Excess with the moved probabilities, and Limit is the largest ratio of a lattice, on which the anchor lies, that was ever
// rejected: with probability at least 1-alpha the true ratio is over it at every look. So it is at or over the anchor if and only if the
// anchor was rejected. It is not safe for use by several goroutines; memory does not grow with trials.
// Sources: those of Excess; confidence sequences as what a test does not reject: Darling and Robbins, PNAS 58:66 (1967);
// Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 49:1055 (2021).
type LowerOdds struct {
	lattice
	peak float64
	low  int // the last step that was rejected; -1: none
}

// NewLowerOdds watches with the anchor, over 0, on its lattice. An alpha outside of 0 and 1 is ErrInput.
func NewLowerOdds(anchor, alpha float64) (*LowerOdds, error) {
	l, err := newLattice(1, anchor, alpha)
	return &LowerOdds{lattice: l, low: -1}, err
}

// Observe adds a trial; see [Excess.Observe].
func (l *LowerOdds) Observe(p float64, hit bool) error {
	if err := l.observe(p, hit); err != nil || !hit {
		return err // without a hit no bet gains
	}
	l.flush()
	l.peak = max(l.peak, l.against(reach))
	if l.peak > l.bar {
		l.low = max(l.low, reach)
	}
	for l.low+1 < limits && l.against(l.low+1) > l.bar {
		l.low++
	}
	return nil
}

// Peak gives the largest logarithm that the e-value against the anchor ever had, at least 0.
func (l *LowerOdds) Peak() float64 { return l.peak }

// Limit gives the ratio that the true one is over; 0 where none on the lattice was rejected yet.
func (l *LowerOdds) Limit() float64 {
	if l.low < 0 {
		return 0
	}
	return l.ratio(l.low)
}

// UpperOdds is the other side of [LowerOdds]: [Deficit] against every odds ratio. Limit is the smallest ratio that is
// rejected now: it may grow again, and over all looks at once the true ratio is under it with probability at least
// 1-alpha. So it is at or under the anchor if and only if the e-value at the anchor passes 1/alpha now.
type UpperOdds struct{ lattice }

// NewUpperOdds watches with the anchor, over 0, on its lattice. An alpha outside of 0 and 1 is ErrInput.
func NewUpperOdds(anchor, alpha float64) (*UpperOdds, error) {
	l, err := newLattice(-1, anchor, alpha)
	return &UpperOdds{l}, err
}

// Observe adds a trial; see [Excess.Observe].
func (u *UpperOdds) Observe(p float64, hit bool) error { return u.observe(p, hit) }

// Log gives the logarithm of the e-value against the anchor now; 0 before the first trial.
func (u *UpperOdds) Log() float64 {
	u.flush()
	return u.against(reach)
}

// Limit gives the ratio that the true one is under; +Inf where none on the lattice is rejected.
func (u *UpperOdds) Limit() float64 {
	u.flush()
	low, high := -1, limits // rejected, not rejected
	if u.against(reach) > u.bar {
		low = reach
	} else {
		high = reach
	}
	for high-low > 1 {
		if middle := (low + high) / 2; u.against(middle) > u.bar {
			low = middle
		} else {
			high = middle
		}
	}
	if low < 0 {
		return math.Inf(1)
	}
	return u.ratio(low)
}

// RateLimits gives limits of a confidence sequence for the rate of hits of trials that all have the same one: what [Excess]
// rejects now lies under low, what [Deficit] rejects over high, each at alpha. Over all sample sizes at once the rate is over low
// with probability at least 1-alpha, and under high likewise. No trials give 0 and 1.
func RateLimits(hits, trials int64, alpha float64) (low, high float64, err error) {
	if hits < 0 || trials < hits || !inside(alpha) {
		return 0, 0, bad("%d hits of %d trials at level %v", hits, trials, alpha)
	}
	h, n, bar := float64(hits), float64(trials), LogLevel(alpha)
	over := func(p float64) bool { return betsOnRate(h, n, p, 1) > bar }
	under := func(p float64) bool { return betsOnRate(h, n, p, -1) > bar }
	high = 1
	if over(0) {
		low = bisect(0, 1, over)
	}
	if under(1) {
		high = bisect(1, 0, under)
	}
	return low, high, nil
}

// RateDeficit gives the logarithm of [Deficit]'s e-value against a rate, after trials that all had it as their
// probability. It passes the bar of a level if and only if the high limit of [RateLimits] is at or under the rate.
func RateDeficit(rate float64, hits, trials int64) (float64, error) {
	if hits < 0 || trials < hits || !inside(rate) {
		return 0, bad("%d hits of %d trials against a rate of %v", hits, trials, rate)
	}
	return betsOnRate(float64(hits), float64(trials), rate, -1), nil
}

func betsOnRate(hits, trials, p, sign float64) float64 {
	var logs [rungs]float64
	for k := range logs {
		lr := sign * float64(k+1) / 2 * math.Ln2
		logs[k] = hits*lr - trials*math.Log1p(p*math.Expm1(lr))
	}
	return logMean(logs)
}
