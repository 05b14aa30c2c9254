package rollout

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

// Pair is what stable and the candidate made of one request, the first of its conversation that was copied and that
// nobody cancelled. Stable's answer is a user's, the candidate's nobody was shown.
type Pair struct {
	Stable, Candidate Answered
	Unkept            bool    // texts of it were not kept, so it is not scored
	Scored            *Scored // nil: it waits for its score, or needs none because an answer failed
}

// Answered is one side of a pair.
type Answered struct {
	Latency time.Duration
	Events  []string // metrics of which it had an event, without slowness
}

func (a Answered) had(metric string) bool { return slices.Contains(a.Events, metric) }

// Scored is a pair's scores, each between 0 and 1.
type Scored struct{ Stable, Candidate float64 }

// failed: an answer that did not come is the worst there is, against one that did. It needs no scorer.
const failed = "errors"

// Waits says whether the pair is to be scored.
func (p Pair) Waits() bool {
	return p.Scored == nil && !p.Unkept && !p.Stable.had(failed) && !p.Candidate.had(failed)
}

// difference is the candidate's score less stable's.
func (p Pair) difference() float64 {
	switch stable, candidate := p.Stable.had(failed), p.Candidate.had(failed); {
	case stable && candidate:
		return 0
	case candidate:
		return -1
	case stable:
		return 1
	}
	return p.Scored.Candidate - p.Scored.Stable
}

// JudgeShadow weighs the pairs of a rollout's shadow step, in the order in which their copies began. Looking again never
// costs a false alarm. Policy has its defaults and a shadow step; elapsed is of the step's time, without pauses.
//
// Harm is looked for in the mean difference of scores (more than Tolerated under stable) and, for every metric that
// answers show by themselves, among the pairs in which exactly one side had its event: whose was it? Between equals it
// is either's with the same chance. All that is watched shares the step's part of the level for rolling back evenly; the
// proof that the drop is under Margin has the level for promoting. A pair that waits for its score keeps all behind it
// from being weighed by score: which answers a judge does not read is no accident.
func JudgeShadow(pairs []Pair, policy lifecycle.RolloutPolicy, elapsed time.Duration) (lifecycle.ShadowVerdict, error) {
	if err := checkShadow(policy); err != nil {
		return lifecycle.ShadowVerdict{}, err
	}
	step, levels, watched := *policy.Shadow, policy.Levels.WithDefaults(), policy.Watched()
	out := lifecycle.ShadowVerdict{Decision: lifecycle.Hold, Pairs: int64(len(pairs))}
	level := levels.Harm * step.Weight / policy.Weights() / float64(len(watched))
	safe := !step.Required
	var harmed []string
	for _, name := range watched {
		var v lifecycle.MetricVerdict
		var err error
		if name == lifecycle.ScoreMetric {
			v, err = weighScores(pairs, step, level, levels.Promote, &out)
			safe = safe || v.Safe
		} else {
			v, err = weighPairs(pairs, metric(policy, name), level)
		}
		if err != nil {
			return lifecycle.ShadowVerdict{}, err
		}
		out.Metrics = append(out.Metrics, v)
		if v.Harmful {
			harmed = append(harmed, fmt.Sprintf("%s (the candidate's in %d pairs, stable's in %d%s)", v.Metric, v.CanaryEvents, v.StableEvents, oneIn(math.Log(v.Harm))))
		}
	}
	enough := out.Pairs
	if step.Scorer != nil {
		enough = out.Scored
	}
	switch {
	case len(harmed) > 0:
		out.Decision, out.Reason = lifecycle.RollBack, "worse than tolerated: "+strings.Join(harmed, ", ")
	case enough < step.MinPairs:
		out.Reason = fmt.Sprintf("%d of %d pairs of answers%s", enough, step.MinPairs, lacking(out, enough))
	case !safe:
		out.Reason = fmt.Sprintf("not proven yet that the score drops by less than %.4g: %+.3g in the mean of %d pairs", step.Margin, out.Difference, out.Scored)
	default:
		out.Decision, out.Reason = lifecycle.Promote, fmt.Sprintf("%d pairs of answers, no worse than tolerated", enough)
	}
	if bound := step.MaxTime.D(); out.Decision == lifecycle.Hold && elapsed >= bound {
		out.Reason = fmt.Sprintf("the shadow step's time of %v is over: %s", bound, out.Reason)
		if policy.AtBound == "roll-back" {
			out.Decision = lifecycle.RollBack
		}
	}
	return out, nil
}

// lacking says what became of pairs that are there and do not count.
func lacking(v lifecycle.ShadowVerdict, counted int64) string {
	var why []string
	if v.Unkept > 0 {
		why = append(why, fmt.Sprintf("%d without texts", v.Unkept))
	}
	if waits := v.Pairs - v.Unkept - counted; waits > 0 {
		why = append(why, fmt.Sprintf("%d wait for a score", waits))
	}
	if len(why) == 0 {
		return ""
	}
	return " (" + strings.Join(why, ", ") + ")"
}

func metric(p lifecycle.RolloutPolicy, name string) lifecycle.MetricPolicy {
	return p.Metrics[slices.IndexFunc(p.Metrics, func(m lifecycle.MetricPolicy) bool { return m.Name == name })]
}

// weighScores bets on the mean difference. Harm is read at its peak, safety as it stands, as the judge does.
func weighScores(pairs []Pair, step lifecycle.ShadowStep, level, promote float64, out *lifecycle.ShadowVerdict) (lifecycle.MetricVerdict, error) {
	v := lifecycle.MetricVerdict{Metric: lifecycle.ScoreMetric, Required: step.Required}
	var harm, safety stats.Above
	sum, waits := 0.0, false
	var differences []float64
	for i, p := range pairs {
		if p.Unkept {
			out.Unkept++
			continue
		}
		waits = waits || p.Waits()
		if waits {
			continue
		}
		d := p.difference()
		// A difference lies in -1 to 1; bets are on values from 0 to 1.
		err := harm.Observe((1-d)/2, (1+step.Tolerated)/2)
		if err == nil {
			err = safety.Observe((1+d)/2, (1-step.Margin)/2)
		}
		if err != nil {
			return v, lifecycle.Errorf(lifecycle.Invalid, "the scores of pair %d: %w", i, err)
		}
		sum += d
		differences = append(differences, d)
		out.Scored++
		if d < 0 {
			v.CanaryEvents++
		} else if d > 0 {
			v.StableEvents++
		}
	}
	if out.Scored > 0 {
		out.Difference = sum / float64(out.Scored)
	}
	v.Harm, v.Safety = value(harm.Peak()), value(safety.Log())
	v.Harmful = harm.Peak() > stats.LogLevel(level)
	v.Safe = safety.Log() > stats.LogLevel(promote)
	if out.Scored > 0 {
		out.Between = differenceBetween(differences, promote, level)
		if v.Harmful { // what is decided is exact
			out.Between.High = min(out.Between.High, -step.Tolerated)
		}
		if v.Safe {
			out.Between.Low = max(out.Between.Low, -step.Margin)
		}
	}
	return v, nil
}

// weighPairs asks of the pairs in which exactly one side had an event: whose was it?
func weighPairs(pairs []Pair, m lifecycle.MetricPolicy, level float64) (lifecycle.MetricVerdict, error) {
	v := lifecycle.MetricVerdict{Metric: m.Name, Safety: 1, Tolerated: m.Tolerated}
	slowness, err := NewSlowness(SlowQuantile)
	if err != nil {
		return v, err
	}
	harm, under, err := watchOdds(m.Tolerated, level, m.Tolerated, level)
	if err != nil {
		return v, err
	}
	for _, p := range pairs {
		candidate, stable := p.Candidate.had(m.Name), p.Stable.had(m.Name)
		if m.Name == "slow" { // the candidate first: both are held against the same quantile
			candidate = slowness.Observe(p.Candidate.Latency, true)
			stable = slowness.Observe(p.Stable.Latency, false)
		}
		if candidate == stable {
			continue
		}
		if candidate {
			v.CanaryEvents++
		} else {
			v.StableEvents++
		}
		if err := errors.Join(harm.Observe(0.5, candidate), under.Observe(0.5, candidate)); err != nil {
			return v, lifecycle.Errorf(lifecycle.Invalid, "an event of %s: %w", m.Name, err)
		}
	}
	v.Harm = value(harm.Peak())
	v.Harmful = harm.Peak() > stats.LogLevel(level)
	v.Ratio = between(harm, under, level, level)
	return v, nil
}

func checkShadow(p lifecycle.RolloutPolicy) error {
	if p.Shadow == nil {
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.shadow: there is none")
	}
	s := *p.Shadow
	switch {
	case len(p.Watched()) == 0:
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.shadow: nothing to watch")
	case s.MinPairs < 1:
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.shadow.min_pairs: give 1 or more")
	case s.Required && s.Scorer == nil:
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.shadow.required: give a scorer, which is what is proven by")
	case !(s.Tolerated >= 0 && s.Tolerated < 1) || !(s.Margin > 0 && s.Margin < 1) || !(s.Weight > 0) || math.IsInf(s.Weight, 1) || s.MaxTime <= 0:
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.shadow: tolerated %v, margin %v, weight %v, max_time %v", s.Tolerated, s.Margin, s.Weight, s.MaxTime)
	}
	for _, m := range p.Metrics {
		if !(m.Weight > 0) || math.IsInf(m.Weight, 1) || !(m.Tolerated >= 1) || math.IsInf(m.Tolerated, 1) {
			return lifecycle.Errorf(lifecycle.Invalid, "rollout.metrics (%s): weight %v, tolerated %v", m.Name, m.Weight, m.Tolerated)
		}
	}
	return nil
}
