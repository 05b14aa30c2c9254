package evaluation

import (
	"math"

	"github.com/refitml/refit/internal/stats"
)

// pairing is what right and wrong answers are compared by.
type pairing struct {
	differences []stats.Total // candidate minus baseline, a group each
	before      []stats.Total // the baseline's scores, likewise
	byGroups    bool          // limits by the groups' own spread are taken beside those by counts
}

func (t *tally) pairing() pairing {
	return pairing{differences: t.differences, before: t.before, byGroups: t.grouped() || t.samples > 1}
}

// weighing is a pairing summed up, as its groups count.
type weighing struct {
	pairing
	counts    stats.Pairs
	effect    float64 // design effect: cases that count as one independent case
	effective stats.Pairs
}

func (p pairing) weigh() (weighing, error) {
	w := weighing{pairing: p, counts: countsOf(p.differences), effect: 1}
	var err error
	if p.byGroups {
		w.effect, err = p.effect()
	}
	w.effective = w.counts.Over(w.effect)
	return w, err
}

// countsOf gives how many cases only the candidate and only the baseline got right. Where cases were asked repeatedly
// they are the counts of whole cases that have the same mean and the same sum of squares as the mean differences.
func countsOf(differences []stats.Total) stats.Pairs {
	var sum, squares, n float64
	for _, d := range differences {
		sum, squares, n = sum+d.Sum, squares+d.Squares, n+d.N
	}
	squares = max(squares, math.Abs(sum))
	return stats.Pairs{Better: (squares + sum) / 2, Worse: (squares - sum) / 2, N: n}
}

// enoughDiffering is from how many differing groups their own design effect is trusted.
const enoughDiffering = 15

// effect gives the design effect of the differences. Where too few groups differ to tell how cases hang together, a drop
// may come in whole groups, of which the sample shows none, and a group counts as one case. Where none differs at all it is
// that of the baseline's scores.
func (p pairing) effect() (float64, error) {
	effect, err := stats.DesignEffect(p.differences)
	differing := p.differing()
	switch {
	case err != nil || differing >= enoughDiffering:
		return effect, err
	case differing > 0:
		return max(effect, p.whole()), nil
	}
	own, err := stats.DesignEffect(p.before)
	return max(effect, own), err
}

// differing is how many groups differ.
func (p pairing) differing() (many int) {
	for _, d := range p.differences {
		if d.Sum != 0 || d.Squares != 0 {
			many++
		}
	}
	return many
}

// whole is the design effect where a group counts as one case.
func (p pairing) whole() float64 {
	var n, squares float64
	for _, d := range p.differences {
		n, squares = n+d.N, squares+d.N*d.N
	}
	return squares / n
}

// limits gives the limits of the difference, each one-sided at Level. Tango's score test knows nothing of how few
// the groups are, nor of answers that are right now and then: its limits are taken at the level of t, and those by t over
// groups beside them.
func (w weighing) limits() (low, high float64, err error) {
	level := Level
	if w.byGroups {
		if level, err = stats.FewerDegrees(Level, w.freely()); err != nil {
			return 0, 0, err
		}
	}
	if low, err = stats.TangoLower(w.effective, level); err != nil {
		return 0, 0, err
	}
	if high, err = stats.TangoUpper(w.effective, level); err != nil {
		return 0, 0, err
	}
	if !w.spread() {
		return low, high, nil
	}
	limits, err := stats.ClusterLimits(w.differences, Level)
	return min(low, limits.Low), max(high, limits.High), err
}

// drop gives the p-value of "no drop at all".
func (w weighing) drop() (float64, error) {
	p, err := stats.McNemar(w.effective)
	if err != nil || !w.spread() {
		return p, err
	}
	q, err := stats.ClusterDrop(w.differences)
	return max(p, q), err
}

// spread says whether the groups' own spread says something.
func (w weighing) spread() bool { return w.byGroups && w.counts.Better+w.counts.Worse > 0 }

// freely gives the degrees of freedom of the design effect: groups - 1, and fewer where a few groups make up most of it.
func (p pairing) freely() float64 {
	freely := float64(len(p.differences) - 1)
	if noise, err := stats.VarianceNoise(p.differences); err == nil && noise > 0 {
		freely = min(freely, 2/(noise*noise))
	}
	return max(1, freely)
}

// rightWrong compares scores of 0 or 1.
func (t *tally) rightWrong() (sight, error) {
	s := sight{method: byTango}
	w, err := t.pairing().weigh()
	if err != nil {
		return s, err
	}
	if w.byGroups {
		s.method = byGroups
	}
	s.effect = w.effect
	if s.low, s.high, err = w.limits(); err != nil {
		return s, err
	}
	s.drop, err = w.drop()
	return s, err
}
