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

// Conversation is what the judge must know of a conversation.
type Conversation struct {
	Step       int     // in which its first request came
	Coin       bool    // it tossed; only then it is compared
	Propensity float64 // chance of the canary that the toss had, in (0, 1); not read without Coin
	Canary     bool    // the side of its first answer, also if it was moved later
	// Open says that some who tossed before it may be missing, because their first answer is not known yet.
	// So it is for all behind it.
	Open bool
	// Events holds the metrics of which the conversation had an event, with the place of its first event in the order
	// of arrival, which may be a time in any unit. It is nil for nearly all.
	Events map[string]int64
	// When it tossed and when its first answer was whole, in Unix microseconds; read where Evidence.Now is set.
	Started, Answered int64
}

// Evidence is what a rollout showed so far.
type Evidence struct {
	Conversations []Conversation // of all steps so far, in the order of their first requests
	Collected     []string       // metrics whose events are being collected; others are missing, not zero
	// Overrun is by how many requests the canary went over the exposure bound, beyond those in flight; see Served.
	Overrun float64
	// Now is when one looks, in Unix microseconds, as are Events then: an event may wait a little for those of others whose
	// answers come later. 0: the order of arrival is all that is known, and every event is weighed.
	Now int64
}

// Watch says under which policy the evidence is weighed. Policy has its defaults filled in.
type Watch struct {
	Policy  lifecycle.RolloutPolicy
	Step    int           // index into Policy.Steps
	Elapsed time.Duration // of the step's time, without freezes and pauses
}

// Judge weighs the evidence of a rollout for its current step. It changes nothing, and looking again never costs a
// false alarm. Faults in the input are errors of kind Invalid, never a verdict.
//
// Harm and share are weighed over the whole rollout; what lets the step end, over the step's own conversations.
// Time alone never promotes: when it is over, Reason says so and the decision stays hold, or becomes rolling back
// where the policy says roll-back.
func Judge(e Evidence, w Watch) (lifecycle.StepVerdict, error) {
	if err := check(e, w); err != nil {
		return lifecycle.StepVerdict{}, err
	}
	step, levels := w.Policy.Steps[w.Step], w.Policy.Levels.WithDefaults()
	out := lifecycle.StepVerdict{Decision: lifecycle.Hold}
	known := int64(0) // conversations on the canary that the share test sees
	for _, c := range e.Conversations {
		if c.Step != w.Step || !c.Coin {
			continue
		}
		out.Conversations++
		if c.Canary {
			out.Canary++
			if !c.Open {
				known++
			}
		}
	}
	share, odds, err := Overexposure(e.Conversations, levels.Share)
	if err != nil {
		return lifecycle.StepVerdict{}, err
	}
	out.Odds = odds
	weights := w.Policy.Weights()
	var harmed, unproven, missing []string
	for _, m := range w.Policy.Metrics {
		v, err := weigh(e, m, w.Step, step.Margin, lifecycle.Levels{Harm: levels.Harm * m.Weight / weights, Promote: levels.Promote})
		if err != nil {
			return lifecycle.StepVerdict{}, err
		}
		collected := slices.Contains(e.Collected, m.Name)
		v.Safe = v.Safe && collected
		out.Metrics = append(out.Metrics, v)
		switch {
		case v.Harmful:
			harmed = append(harmed, describe(v))
		case m.Required && !collected:
			missing = append(missing, m.Name)
		case m.Required && !v.Safe:
			unproven = append(unproven, m.Name)
		}
	}
	switch enough := out.Canary >= step.MinConversations; {
	case e.Overrun > 0:
		out.Decision, out.Invalid = lifecycle.RollBack, true
		out.Reason = fmt.Sprintf("the canary was served %.4g requests over its bound", e.Overrun)
	case share > stats.LogLevel(levels.Share):
		out.Decision, out.Invalid = lifecycle.RollBack, true
		out.Reason = "more conversations went to the canary than were allowed" + oneIn(share)
	case len(harmed) > 0:
		out.Decision, out.Reason = lifecycle.RollBack, "worse than tolerated: "+strings.Join(harmed, ", ")
	case len(missing) > 0:
		out.Reason = "no data on " + strings.Join(missing, ", ")
	case enough && known < step.MinConversations:
		out.Reason = fmt.Sprintf("%d of %d conversations on the canary; of the others a gateway may know more soon", known, step.MinConversations)
	case !enough:
		out.Reason = fmt.Sprintf("%d of %d conversations on the canary", out.Canary, step.MinConversations)
	case len(unproven) > 0:
		out.Reason = fmt.Sprintf("not proven yet to be under %.4g times stable: %s", step.Margin, strings.Join(unproven, ", "))
	default:
		out.Decision = lifecycle.Promote
		out.Reason = fmt.Sprintf("%d conversations on the canary, every required metric under its margin", out.Canary)
	}
	if bound := time.Duration(step.MaxTime); out.Decision == lifecycle.Hold && bound > 0 && w.Elapsed >= bound {
		out.Reason = fmt.Sprintf("the step's time of %v is over: %s", bound, out.Reason)
		if w.Policy.AtBound == "roll-back" {
			out.Decision = lifecycle.RollBack
		}
	}
	return out, nil
}

func check(e Evidence, w Watch) error {
	switch {
	case w.Step < 0 || w.Step >= len(w.Policy.Steps):
		return lifecycle.Errorf(lifecycle.Invalid, "step %d of a rollout with %d steps", w.Step, len(w.Policy.Steps))
	case w.Policy.Steps[w.Step].MinConversations < 1:
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.steps[%d].min_conversations: give 1 or more", w.Step)
	case !(w.Policy.Steps[w.Step].Margin > 1):
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.steps[%d].margin: %v; give more than 1", w.Step, w.Policy.Steps[w.Step].Margin)
	case len(w.Policy.Metrics) == 0:
		return lifecycle.Errorf(lifecycle.Invalid, "rollout.metrics: nothing to judge by")
	case math.IsNaN(e.Overrun):
		return lifecycle.Errorf(lifecycle.Invalid, "the canary's overrun is not a number")
	}
	for i, m := range w.Policy.Metrics {
		if !(m.Weight > 0) || math.IsInf(m.Weight, 1) || !(m.Tolerated >= 1) || math.IsInf(m.Tolerated, 1) || !(m.Floor >= 0 && m.Floor < 1) {
			return lifecycle.Errorf(lifecycle.Invalid,
				"rollout.metrics[%d] (%s): weight %v, tolerated %v, floor %v; give a weight over 0, 1 or more, 0 to below 1",
				i, m.Name, m.Weight, m.Tolerated, m.Floor)
		}
	}
	return nil
}

// Overexposure gives the logarithm of the largest e-value ever seen against "no conversation went to the canary with
// more than its propensity", one observation a conversation that tossed, in order of first requests, and between which
// the odds to be served the canary lie, as a multiple of those that were allowed. A service whose
// traffic somebody else splits gives each conversation the allowed share as its propensity. Passing stats.LogLevel of
// the level, which is Levels.Share, means that more was served than allowed; so does a low limit of 1 or more. Conversations
// that are open are left out: of those that tossed last, the ones whose side answers faster are known first.
func Overexposure(conversations []Conversation, level float64) (float64, lifecycle.Interval, error) {
	lower, upper, err := watchOdds(1, level, 1, level)
	if err != nil {
		return 0, lifecycle.Interval{}, err
	}
	for i, c := range conversations {
		if c.Open {
			break
		}
		if !c.Coin {
			continue
		}
		if err := errors.Join(lower.Observe(c.Propensity, c.Canary), upper.Observe(c.Propensity, c.Canary)); err != nil {
			return 0, lifecycle.Interval{}, lifecycle.Errorf(lifecycle.Invalid, "conversation %d: %w", i, err)
		}
	}
	return lower.Peak(), between(lower, upper, level, level), nil
}

// weigh asks among a metric's events: who served them? Of whoever had an event the odds to be on the canary are the risk
// ratio times those of the propensity.
func weigh(e Evidence, m lifecycle.MetricPolicy, step int, margin float64, levels lifecycle.Levels) (lifecycle.MetricVerdict, error) {
	out := lifecycle.MetricVerdict{Metric: m.Name, Required: m.Required, Tolerated: m.Tolerated, Margin: margin, Floor: m.Floor}
	var canary, stable side
	for i := range e.Conversations {
		c := &e.Conversations[i]
		if !c.Coin {
			continue
		}
		_, had := c.Events[m.Name]
		switch {
		case c.Step != step:
		case c.Canary:
			canary.count(had)
		default:
			stable.count(had)
		}
	}
	// Two ways to be safe are two chances to be wrong: each gets half of the level where there are two.
	level := levels.Promote
	if m.Floor > 0 {
		level /= 2
	}
	harm, safety, err := watchOdds(m.Tolerated, levels.Harm, margin, level)
	if err != nil {
		return out, err
	}
	for _, event := range e.arrivals(m.Name) {
		if event.c.Canary {
			out.CanaryEvents++
		} else {
			out.StableEvents++
		}
		err := harm.Observe(event.c.Propensity, event.c.Canary)
		if err == nil && event.c.Step == step {
			err = safety.Observe(event.c.Propensity, event.c.Canary)
		}
		if err != nil {
			return out, lifecycle.Errorf(lifecycle.Invalid, "an event of %s: %w", m.Name, err)
		}
	}
	// Safety is read as it stands, not at its peak: who was safe once must still be.
	safe := safety.Log()
	if m.Floor > 0 {
		under, err := stats.RateDeficit(m.Floor, canary.events, canary.conversations)
		if err != nil {
			return out, lifecycle.Errorf(lifecycle.Invalid, "floor of %s: %w", m.Name, err)
		}
		safe = max(safe, under)
	}
	out.Harm, out.Safety = value(harm.Peak()), value(safe)
	out.Harmful = harm.Peak() > stats.LogLevel(levels.Harm)
	out.Safe = safe > stats.LogLevel(level)
	out.Ratio = between(harm, safety, levels.Harm, level)
	out.CanaryRate, err = canary.rate(level)
	if err == nil {
		out.StableRate, err = stable.rate(level)
	}
	return out, err
}

// tilt gives the chance that an event's conversation is on the canary when the canary's risk is ratio times stable's.
func tilt(p, ratio float64) float64 { return p * ratio / (1 - p + p*ratio) }

// value gives the e-value for its logarithm, kept finite because JSON has no infinity.
func value(log float64) float64 { return min(math.Exp(log), math.MaxFloat64) }

func describe(v lifecycle.MetricVerdict) string {
	return fmt.Sprintf("%s (%d on the canary, %d on stable%s)", v.Metric, v.CanaryEvents, v.StableEvents, oneIn(math.Log(v.Harm)))
}

// oneIn says how unlikely a logarithm of an e-value is by chance.
func oneIn(log float64) string { return fmt.Sprintf(", by chance at most 1 in %.3g", value(log)) }
