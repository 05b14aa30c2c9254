package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

var latePlan = lifecycle.RolloutPlan{PerDay: 1000, Basis: "1000 conversations a day in the last 7.0 days", Steps: []lifecycle.StepPlan{
	{Share: 500, Canary: 500, Days: 10, Bound: lifecycle.Duration(24 * time.Hour), Why: "min_conversations", Late: true},
	{Share: 5000, Canary: 50, Days: 0.1, Bound: lifecycle.Duration(24 * time.Hour), Why: "min_conversations"},
}}.Described()

func TestAPlanThatCannotEndInTimeIsRefusedUnlessItIsAccepted(t *testing.T) {
	t.Parallel()
	for accepted, want := range map[bool]lifecycle.Kind{false: lifecycle.Refused, true: ""} {
		w := newWorld(t)
		gives(w, steps.PlanRollout, latePlan)
		out, err := w.promote(map[string]any{"service": "docs", "accept_late": accepted})
		require.Equal(t, want, steps.KindOf(err))
		require.Equal(t, []steps.PlanRolloutInput{{Service: "docs", Policy: w.service.Rollout}}, inputs(w, steps.PlanRollout))
		require.Equal(t, latePlan.Lines(), w.state().Plan)
		require.Contains(t, w.details(), "step 1 at 5%: 500 conversations on the canary (min_conversations), about 10.0 days of 24h0m0s - too late")
		if accepted {
			require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
			require.Empty(t, w.recorded())
			continue
		}
		require.ErrorContains(t, err, "--accept-late")
		require.Empty(t, inputs(w, steps.LoadRelease))
		require.Equal(t, []lifecycle.LedgerKind{lifecycle.ChangeRefused}, w.recorded())
	}
}

func TestAFirstReleaseHasNoPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Baseline, w.plan.Verdict.Baseline = "", ""
	_, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Empty(t, inputs(w, steps.PlanRollout))
}
