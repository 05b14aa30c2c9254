package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestWhoStartedAPromotionMayNotApproveItWhereThePolicySaysSo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fourEyes     bool
		by, approver string
		want         string // empty: it is approved
	}{
		"a second person":                 {fourEyes: true, by: "alice", approver: "bob"},
		"who started it":                  {fourEyes: true, by: "alice", approver: "alice", want: "a second person gives it"},
		"who started it, without":         {by: "alice", approver: "alice"},
		"somebody, where nobody is known": {fourEyes: true, approver: "bob", want: "is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.service.Rollout.FourEyes = tc.fourEyes
			w.service.Rollout.Steps[0].Approval = true
			var u *updated
			w.RegisterDelayedCallback(func() {
				g := w.grantFor(0)
				g.Approver, g.Reason = tc.approver, "looks well"
				u = w.update(steps.ApproveUpdate, steps.Approval{Key: "n", Grant: g.Sign(w.grant)})
			}, time.Minute)
			w.RegisterDelayedCallback(func() { w.update(steps.RejectUpdate, by("carol", "k")) }, time.Hour)
			out, err := w.promote(map[string]any{"service": "docs", "by": tc.by})
			require.NoError(t, err)
			if tc.want == "" {
				require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
				require.Equal(t, "step 1: looks well", inputs(w, steps.Record)[0].Entry.Reason)
				return
			}
			require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
			require.ErrorContains(t, u.rejected, tc.want)
			require.Equal(t, lifecycle.Refused, steps.KindOf(u.rejected))
		})
	}
}
