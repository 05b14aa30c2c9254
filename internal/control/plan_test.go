package control_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// converse captures n conversations on stable over the last two days, one in twenty with an error.
func (w *world) converse(n int) {
	w.t.Helper()
	captured, err := capture.Open(w.ctx, capture.Config{URL: w.AppURL})
	require.NoError(w.t, err)
	defer captured.Close()
	var batch []lifecycle.Interaction
	for i := range n {
		outcome := "ok"
		if i%20 == 0 {
			outcome = "error"
		}
		batch = append(batch, lifecycle.Interaction{
			ID: fmt.Sprintf("i-%d", i), Service: svc, Conversation: fmt.Sprintf("c-%d", i), Endpoint: "chat", Outcome: outcome,
			Started: time.Now().Add(-48*time.Hour + time.Duration(i)*48*time.Hour/time.Duration(n)),
		})
	}
	require.NoError(w.t, captured.AddInteractions(w.ctx, batch))
}

func TestTheRolloutIsPlannedBeforeItStarts(t *testing.T) {
	w := newWorld(t)
	w.apply()
	require.Nil(t, do(w, control.Promote, control.PromoteInput{Service: svc, DryRun: true}).Plan, "a first release has no steps")
	_, candidate, _ := w.serve()
	dry := control.PromoteInput{Service: svc, DryRun: true}
	unknown := do(w, control.Promote, dry)
	require.Equal(t, candidate, unknown.Release)
	require.Empty(t, unknown.Refused, "unknown is not zero")
	require.Contains(t, unknown.Plan.Basis, "not known")

	w.apply(func(s *lifecycle.Service) {
		s.Rollout.Steps = []lifecycle.StepPolicy{
			{Share: 100, MinConversations: 50, MaxTime: lifecycle.Duration(time.Hour)}, {Share: 5000, MinConversations: 50, MaxTime: lifecycle.Duration(24 * time.Hour)},
		}
		s.Rollout.Metrics = []lifecycle.MetricPolicy{{Name: "errors", Required: true, Floor: 0.5}}
	})
	w.converse(400)
	late := do(w, control.Promote, dry)
	require.InDelta(t, 200, late.Plan.PerDay, 5)
	require.True(t, late.Plan.Steps[0].Late)
	require.InDelta(t, 25, late.Plan.Steps[0].Days, 1)
	require.False(t, late.Plan.Steps[1].Late)
	require.Contains(t, late.Refused, "--accept-late")

	message := refused(w, lifecycle.Refused, control.Promote, control.PromoteInput{Service: svc})
	require.Contains(t, message, "step 1 at 1%")
	message = refused(w, lifecycle.Unavailable, control.Promote, control.PromoteInput{Service: svc, Late: true})
	require.Contains(t, message, "no Temporal", "what is accepted is let through to the run")
}
