package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

// What a plan is made of.
const (
	leastSeen    = time.Hour // less of traffic says nothing about a day
	leastTalks   = 100       // fewer conversations say nothing about how often something happens
	mostObserved = 200_000   // observations after which a proof counts as impossible
)

// Plan says what each step of a rollout will need at the traffic that was seen, for a candidate that is exactly as good as
// stable: the conversations on the canary after which the judge's own e-processes, fed with events at their seen rate and
// nothing left to chance, pass their bars. By then more than half of such rollouts have ended (a test holds the numbers
// against simulated ones), and one in ten needs about twice as many. Days are at the full share, which exposure nearly reaches, so they are a lower bound. Policy has its
// defaults filled in. Slowness has the rate of its quantile on either side.
func Plan(policy lifecycle.RolloutPolicy, seen lifecycle.TrafficSeen) (lifecycle.RolloutPlan, error) {
	out := lifecycle.RolloutPlan{}
	out.PerDay, out.Basis = perDay(seen)
	if policy.Shadow != nil {
		if err := checkShadow(policy); err != nil {
			return out, err
		}
		shadow := planShadow(*policy.Shadow, out.PerDay)
		out.Shadow = &shadow
	}
	for i := range policy.Steps {
		if err := check(Evidence{}, Watch{Policy: policy, Step: i}); err != nil {
			return out, err
		}
		out.Steps = append(out.Steps, planStep(policy, policy.Steps[i], seen, out.PerDay))
	}
	return out.Described(), nil
}

func perDay(seen lifecycle.TrafficSeen) (float64, string) {
	switch span := seen.Seen.D(); {
	case seen.Conversations == 0:
		return 0, "no traffic was captured lately, so how long steps take is not known"
	case span < leastSeen:
		return 0, fmt.Sprintf("traffic was captured for %s only, so how long steps take is not known", span.Round(time.Minute))
	default:
		rate := float64(seen.Conversations) / span.Hours() * 24
		basis := fmt.Sprintf("%.0f conversations a day in the last %.1f days", rate, span.Hours()/24)
		if seen.OneIn > 1 {
			basis = fmt.Sprintf("about %s (one in %d was counted)", basis, seen.OneIn)
		}
		return rate, basis
	}
}

func planStep(policy lifecycle.RolloutPolicy, step lifecycle.StepPolicy, seen lifecycle.TrafficSeen, perDay float64) lifecycle.StepPlan {
	out := lifecycle.StepPlan{Share: step.Share, Bound: step.MaxTime, Canary: step.MinConversations, Why: "min_conversations"}
	known := perDay > 0 && seen.Stable >= leastTalks
	if !known {
		out.Why += "; what metrics need is not known"
	}
	width := bandWidth(step.Share, policy.Exposure.Band)
	for _, m := range policy.Metrics {
		if !m.Required || !known {
			continue
		}
		rate := float64(seen.Events[m.Name]) / float64(seen.Stable)
		if m.Name == "slow" {
			rate = 1 - SlowQuantile
		}
		need, ok := needed(m, step.Margin, rate, width, policy.Levels.Promote)
		switch {
		case !ok && rate == 0:
			out.Canary, out.Why, out.Late = 0, fmt.Sprintf("none of %d conversations had an event of %s, which its proof rests on; give it a floor", seen.Stable, m.Name), true
			return out
		case !ok:
			out.Canary, out.Why, out.Late = 0, fmt.Sprintf("%s at a rate of %.3g cannot be proven to be under %.4g times stable", m.Name, rate, step.Margin), true
			return out
		case need > out.Canary:
			out.Canary, out.Why = need, fmt.Sprintf("%s at a rate of %.3g under %.4g times stable", m.Name, rate, step.Margin)
		}
	}
	if perDay > 0 {
		out.Days = float64(out.Canary) / (perDay * step.Share.Fraction())
		out.Late = out.Days*24 > step.MaxTime.D().Hours()
	}
	return out
}

// planShadow: what a proof by scores needs depends on how they spread, which nobody knows before. Copies that the budget
// has no room for make it longer.
func planShadow(step lifecycle.ShadowStep, perDay float64) lifecycle.StepPlan {
	out := lifecycle.StepPlan{Share: step.Share, Bound: step.MaxTime, Canary: step.MinPairs, Why: "min_pairs"}
	if step.Required {
		out.Why += "; what the proof needs is not known"
	}
	if perDay > 0 {
		out.Days = float64(out.Canary) / (perDay * step.Share.Fraction())
		out.Late = out.Days*24 > step.MaxTime.D().Hours()
	}
	return out
}

// needed gives the conversations on the canary after which a metric counts as safe: by who served its events, or by the
// canary's rate against the floor, whichever is sooner. false where neither comes to an end.
func needed(m lifecycle.MetricPolicy, margin, rate, width, promote float64) (int64, bool) {
	if m.Floor > 0 {
		promote /= 2 // as the judge does where there are two ways
	}
	bar := stats.LogLevel(promote)
	least := math.Inf(1)
	if events, ok := proves(tilt(width, margin), width, bar); ok && rate > 0 {
		least = float64(events) / rate * width
	}
	if m.Floor > 0 {
		if conversations, ok := proves(m.Floor, rate, bar); ok {
			least = min(least, float64(conversations))
		}
	}
	return int64(math.Ceil(least)), !math.IsInf(least, 1)
}

// proves gives after how many trials, of which hits of a rate are spread evenly, it is proven that hits have less than a
// chance.
func proves(chance, rate, bar float64) (int64, bool) {
	var proof stats.Deficit
	due := 0.5
	for proof.Trials() < mostObserved {
		due += rate
		hit := due >= 1
		if hit {
			due--
		}
		if proof.Observe(chance, hit) != nil {
			return 0, false
		}
		if proof.Log() > bar {
			return proof.Trials(), true
		}
	}
	return 0, false
}
