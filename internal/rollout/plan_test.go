package rollout

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func planned(t *testing.T, steps []lifecycle.StepPolicy, metrics []lifecycle.MetricPolicy, seen lifecycle.TrafficSeen) lifecycle.RolloutPlan {
	t.Helper()
	policy := lifecycle.Service{Rollout: lifecycle.RolloutPolicy{Steps: steps, Metrics: metrics}}.WithDefaults().Rollout
	plan, err := Plan(policy, seen)
	require.NoError(t, err)
	return plan
}

// week is a week of traffic with errors at a rate of one in so many.
func week(conversations, errors int64) lifecycle.TrafficSeen {
	return lifecycle.TrafficSeen{Seen: lifecycle.Duration(7 * 24 * time.Hour), Conversations: conversations, Stable: conversations, Events: map[string]int64{"errors": errors}}
}

// The plan's numbers are those after which half of simulated rollouts, judged by the judge itself, ended.
func TestThePlanIsWhatSimulatedRolloutsNeed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		step    lifecycle.StepPolicy
		metrics []lifecycle.MetricPolicy
		rate    float64
	}{
		"by who served, at 5%":     {lifecycle.StepPolicy{Share: 500, Margin: 3}, []lifecycle.MetricPolicy{{Name: "errors", Required: true}}, 0.05},
		"by who served, at 25%":    {lifecycle.StepPolicy{Share: 2500, Margin: 2}, []lifecycle.MetricPolicy{{Name: "errors", Required: true}}, 0.04},
		"by who served, at 50%":    {lifecycle.StepPolicy{Share: 5000, Margin: 1.5}, []lifecycle.MetricPolicy{{Name: "errors", Required: true}}, 0.3},
		"by a floor, at 1%":        {lifecycle.StepPolicy{Share: 100, Margin: 5}, []lifecycle.MetricPolicy{{Name: "errors", Required: true, Floor: 0.1}}, 0.01},
		"by a floor, at 25%":       {lifecycle.StepPolicy{Share: 2500, Margin: 2}, []lifecycle.MetricPolicy{{Name: "errors", Required: true, Floor: 0.05}}, 0.02},
		"by a floor without event": {lifecycle.StepPolicy{Share: 2500, Margin: 2}, []lifecycle.MetricPolicy{{Name: "errors", Required: true, Floor: 0.02}}, 0},
		"as many as are asked for": {lifecycle.StepPolicy{Share: 2500, Margin: 2, MinConversations: 400}, []lifecycle.MetricPolicy{{Name: "errors", Required: true, Floor: 0.1}}, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const talks = 1_000_000
			plan := planned(t, []lifecycle.StepPolicy{tc.step}, tc.metrics, week(talks, int64(tc.rate*talks)))
			needed := plan.Steps[0].Canary
			policy := lifecycle.Service{Rollout: lifecycle.RolloutPolicy{Steps: []lifecycle.StepPolicy{tc.step}, Metrics: tc.metrics}}.WithDefaults().Rollout
			var ends []int64
			for seed := range sized(21, 301) {
				ends = append(ends, simulatedEnd(t, policy, tc.rate, uint64(seed), needed))
			}
			slices.Sort(ends)
			median := float64(ends[len(ends)/2])
			t.Logf("planned %d, median %.0f, 90%% of rollouts within %d", needed, median, ends[len(ends)*9/10])
			require.InDelta(t, 1, median/float64(needed), float64(sized(50, 35))/100)
		})
	}
}

// simulatedEnd gives how many conversations the canary had when the judge let a step end whose release is as good as
// stable. It looks about every twenty-fifth of what was planned.
func simulatedEnd(t *testing.T, policy lifecycle.RolloutPolicy, rate float64, seed uint64, planned int64) int64 {
	random := rand.New(rand.NewPCG(seed, 7))
	width := bandWidth(policy.Steps[0].Share, policy.Exposure.Band)
	var e Evidence
	e.Collected = []string{"errors"}
	canary := int64(0)
	for next := planned / 25; ; {
		c := Conversation{Coin: true, Propensity: width, Canary: random.Float64() < width}
		if random.Float64() < rate {
			c.Events = map[string]int64{"errors": int64(len(e.Conversations))}
		}
		e.Conversations = append(e.Conversations, c)
		if !c.Canary {
			continue
		}
		canary++
		if canary < next {
			continue
		}
		next = canary + max(1, planned/25)
		verdict, err := Judge(e, Watch{Policy: policy})
		require.NoError(t, err)
		if verdict.Decision != lifecycle.Hold {
			return canary
		}
		if canary > 20*planned {
			return canary
		}
	}
}

func TestAPlanThatCannotEndInTimeIsRefused(t *testing.T) {
	t.Parallel()
	floor := []lifecycle.MetricPolicy{{Name: "errors", Required: true, Floor: 0.2}}
	steps := []lifecycle.StepPolicy{
		{Share: 100, MinConversations: 50, MaxTime: lifecycle.Duration(24 * time.Hour)},
		{Share: 5000, MinConversations: 50, MaxTime: lifecycle.Duration(24 * time.Hour)},
	}
	plan := planned(t, steps, floor, week(70_000, 700))
	require.NoError(t, plan.Err(), "10,000 a day give 100 on the canary")
	require.InDelta(t, 0.5, plan.Steps[0].Days, 0.01)
	days, known := plan.Days()
	require.True(t, known)
	require.InDelta(t, 0.51, days, 0.01)

	late := planned(t, steps, floor, week(7_000, 70))
	require.True(t, lifecycle.Is(late.Err(), lifecycle.Refused))
	require.ErrorContains(t, late.Err(), "step 1 at 1%: 50 conversations on the canary (min_conversations), about 5.0 days of 24h0m0s")
	require.ErrorContains(t, late.Err(), "1000 conversations a day")
	require.False(t, late.Steps[1].Late)
}

func TestUnknownIsNotZero(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]lifecycle.TrafficSeen{
		"nothing":     {},
		"ten minutes": {Seen: lifecycle.Duration(10 * time.Minute), Conversations: 500, Stable: 500},
	} {
		plan := planned(t, nil, nil, seen)
		require.NoError(t, plan.Err(), name)
		_, known := plan.Days()
		require.False(t, known, name)
		require.Contains(t, plan.Basis, "not known", name)
		require.Equal(t, int64(50), plan.Steps[0].Canary, name)
		require.Contains(t, plan.Steps[0].Why, "not known", name)
	}
	few := planned(t, nil, nil, week(99, 0))
	require.Contains(t, few.Steps[0].Why, "not known", "99 conversations say little about errors")
}

func TestWhatCannotBeProvenIsSaid(t *testing.T) {
	t.Parallel()
	required := []lifecycle.MetricPolicy{{Name: "errors", Required: true}}
	plan := planned(t, nil, required, week(1_000_000, 0))
	require.ErrorContains(t, plan.Err(), "give it a floor")
	narrow := planned(t, []lifecycle.StepPolicy{{Share: 500, Margin: 1.01}}, required, week(1_000_000, 50_000))
	require.ErrorContains(t, narrow.Err(), "cannot be proven")
	require.NoError(t, planned(t, nil, []lifecycle.MetricPolicy{{Name: "errors"}}, week(1_000_000, 0)).Err(), "what is advisory proves nothing")
	slow := planned(t, []lifecycle.StepPolicy{{Share: 500, Margin: 3}}, []lifecycle.MetricPolicy{{Name: "slow", Required: true}}, week(1_000_000, 0))
	require.NoError(t, slow.Err(), "one in twenty is slow on either side")
	require.Contains(t, slow.Steps[0].Why, "slow at a rate of 0.05")
}
