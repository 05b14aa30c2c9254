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
		"a second person":         {fourEyes: true, by: "alice", approver: "bob"},
		"who started it":          {fourEyes: true, by: "alice", approver: "alice", want: "a second person gives it"},
		"who started it, without": {by: "alice", approver: "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.startedBy(tc.by)
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

// startedBy lets it be proven who started the run.
func (w *world) startedBy(name string) {
	w.t.Helper()
	require.NoError(w.t, w.SetMemoOnStart(map[string]any{steps.StartedByMemo: lifecycle.Grant{Purpose: lifecycle.StartedBy, Approver: name}}))
	gives(w, steps.ProveStart, steps.StartProof{By: name})
}

// Where it is not proven who started the run, anybody may have, also who approves it: two persons are asked for.
func TestANameThatWasTypedIsNoSecondPerson(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(w *world) map[string]any{
		"nobody is named": func(*world) map[string]any { return map[string]any{"service": "docs"} },
		"somebody is":     func(*world) map[string]any { return map[string]any{"service": "docs", "by": "alice"} },
		"with another grant": func(w *world) map[string]any {
			w.startedBy("dora")
			return map[string]any{"service": "docs", "by": "alice"}
		},
		"with a bad grant": func(w *world) map[string]any {
			w.startedBy("alice")
			gives(w, steps.ProveStart, steps.StartProof{Why: "another run showed the grant before"})
			return map[string]any{"service": "docs", "by": "alice"}
		},
		"with no grant at all": func(w *world) map[string]any {
			require.NoError(w.t, w.SetMemoOnStart(map[string]any{steps.StartedByMemo: 7}))
			return map[string]any{"service": "docs", "by": "alice"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.service.Rollout.FourEyes = true
			w.service.Rollout.Steps[0].Approval = true
			approves := func(key, who string) *updated {
				g := w.grantFor(0)
				g.Approver = who
				return w.update(steps.ApproveUpdate, steps.Approval{Key: key, Grant: g.Sign(w.grant)})
			}
			var first, same, second *updated
			var between steps.State
			w.RegisterDelayedCallback(func() {
				first, same = approves("1", "bob"), approves("2", "bob")
			}, time.Minute)
			w.RegisterDelayedCallback(func() { between = w.state() }, 2*time.Minute)
			w.RegisterDelayedCallback(func() { second = approves("3", "carol") }, time.Hour)
			out, err := w.promote(start(w))
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutPromoted, out.Phase, out.Reason)
			require.True(t, first.accepted)
			require.True(t, between.Rollout.AwaitsApproval, "one is not enough")
			require.Contains(t, between.Reason, "bob gave the first of two")
			require.ErrorContains(t, same.rejected, "bob gave the first of two")
			require.True(t, second.accepted)
			require.Equal(t, []lifecycle.LedgerKind{lifecycle.Approved, lifecycle.Approved}, w.recorded())
			require.False(t, between.By.Proven())
			require.False(t, inputs(w, steps.StartRollout)[0].By.Proven())
		})
	}
}

func TestWhoStartedARunIsProvenByItsGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startedBy("alice")
	_, err := w.promote(map[string]any{"service": "docs", "by": "alice"})
	require.NoError(t, err)
	require.Equal(t, lifecycle.Actor{Name: "alice", Via: lifecycle.ViaGrant}, inputs(w, steps.Claim)[0].By)
	require.Equal(t, lifecycle.Actor{Name: "alice", Via: lifecycle.ViaGrant}, w.state().By)
	shown := inputs(w, steps.ProveStart)[0]
	require.Equal(t, lifecycle.StartedBy, shown.Grant.Purpose)
	require.Equal(t, lifecycle.DigestOf([]byte(`{"by":"alice","service":"docs"}`)), shown.Input)
	require.False(t, shown.Started.IsZero())
}

func TestWhoStepsInIsProvenByAGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service.Rollout.Steps[0].Approval = true
	refused := map[string]*updated{}
	var good *updated
	bad := map[string]func(g *lifecycle.Grant, i *steps.Intervention){
		"the grant is bob's": func(_ *lifecycle.Grant, i *steps.Intervention) { i.By = "carol" },
		"something else":     func(g *lifecycle.Grant, _ *steps.Intervention) { g.Purpose = steps.PauseUpdate },
		"is for something":   func(g *lifecycle.Grant, _ *steps.Intervention) { g.Nonce = "another" },
		"another run":        func(g *lifecycle.Grant, _ *steps.Intervention) { g.FirstRunID = "another" },
		"expired":            func(g *lifecycle.Grant, _ *steps.Intervention) { g.Expires = w.Now() },
	}
	sent := func(key string, spoil func(*lifecycle.Grant, *steps.Intervention)) *updated {
		g := w.grantFor(0)
		g.Purpose, g.Nonce, g.Release, g.Approver = steps.RejectUpdate, key, "", "bob"
		i := steps.Intervention{Key: key, By: "bob", Reason: "no"}
		spoil(&g, &i)
		g = g.Sign(w.grant)
		i.Grant = &g
		return w.update(steps.RejectUpdate, i)
	}
	w.RegisterDelayedCallback(func() {
		for want, spoil := range bad {
			refused[want] = sent("k", spoil)
		}
		good = sent("k", func(*lifecycle.Grant, *steps.Intervention) {})
	}, time.Minute)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.True(t, good.accepted)
	for want, u := range refused {
		require.ErrorContains(t, u.rejected, want)
	}
	require.Contains(t, out.Reason, "rejected by bob: no")
	require.Equal(t, lifecycle.Actor{Name: "bob", Via: lifecycle.ViaGrant}, inputs(w, steps.Record)[0].Entry.Actor)
}
