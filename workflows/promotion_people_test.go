package workflows

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func by(who, key string) steps.Intervention {
	return steps.Intervention{Key: key, By: who, Reason: "a bad feeling"}
}

func (w *world) recorded() (out []lifecycle.LedgerKind) {
	for _, in := range inputs(w, steps.Record) {
		out = append(out, in.Entry.Kind)
	}
	return out
}

// holds lets each hold do something else; the last goes on for all that follow.
func (w *world) holds(each ...func(ctx context.Context) (steps.HoldResult, error)) {
	on(w, steps.HoldStep, func(ctx context.Context, _ steps.HoldInput) (steps.HoldResult, error) {
		n := len(inputs(w, steps.HoldStep))
		return each[min(n, len(each))-1](ctx)
	})
}

func enough(context.Context) (steps.HoldResult, error) { return ends(steps.HoldEnough), nil }

// during is a hold that goes on until the workflow ends it; meanwhile a person steps in.
func (w *world) during(meanwhile func()) func(context.Context) (steps.HoldResult, error) {
	return func(ctx context.Context) (steps.HoldResult, error) {
		return steps.HoldResult{}, w.untilCanceled(ctx, meanwhile)
	}
}

func TestAnAbortGivesAllTrafficBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var u *updated
	w.holds(w.during(func() { u = w.update(steps.AbortUpdate, by("alice", "k")) }))
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
	require.Contains(t, out.Reason, "aborted by said to be alice (not proven): a bad feeling")
	require.Equal(t, []string{"RollBack", "ReleaseClaim"}, w.wayOut())
	require.True(t, u.accepted)
	require.NoError(t, u.failed)
	require.Equal(t, "docs", u.state.Service, "an Update answers with the state")
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.Rejected}, w.recorded())
	entry := inputs(w, steps.Record)[0].Entry
	require.Equal(t, lifecycle.Actor{Name: "alice", Via: "update"}, entry.Actor)
	require.Equal(t, string(candidate), entry.Subject)
}

func TestAnAbortBeforeTheFirstStepEndsTheRun(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world, abort func()){
		"while the release is evaluated": func(w *world, abort func()) {
			w.plan.Verdict = nil
			w.taken(steps.EvaluationWorkflowID("docs", candidate, stable, suite))
			on(w, steps.AwaitVerdict, func(ctx context.Context, _ steps.SharedInput) (lifecycle.Verdict, error) {
				return lifecycle.Verdict{}, w.untilCanceled(ctx, abort)
			})
		},
		"while it is loaded": func(w *world, abort func()) {
			on(w, steps.LoadRelease, func(ctx context.Context, _ steps.LoadInput) (steps.LoadResult, error) {
				return steps.LoadResult{}, w.untilCanceled(ctx, abort)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var paused, aborted *updated
			change(w, func() {
				paused = w.update(steps.PauseUpdate, by("alice", "k"))
				aborted = w.update(steps.AbortUpdate, by("alice", "k"))
			})
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, lifecycle.Refused, steps.KindOf(paused.rejected), "there is no step to hold")
			require.True(t, aborted.accepted)
			require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
			require.Contains(t, out.Reason, "aborted by said to be alice (not proven)")
			require.Empty(t, inputs(w, steps.StartRollout))
			require.Equal(t, []string{"ReleaseClaim"}, w.wayOut())
			require.Equal(t, "stopped", w.state().Phase)
		})
	}
}

func TestAnAbortBetweenStepsIsInTime(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]int{"before the next share": 0, "before it is made stable": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			on(w, steps.RecordStep, w.interveneAt(step, steps.AbortUpdate))
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
			require.Contains(t, out.Reason, "aborted by said to be alice (not proven)")
			require.Len(t, w.shares(), step+1)
			require.Equal(t, []string{"RollBack", "ReleaseClaim"}, w.wayOut())
		})
	}
}

// interveneAt lets a person step in while a step of the rollout is recorded: the record is written only
// once the workflow has answered.
func (w *world) interveneAt(step int, action string) func(context.Context, steps.StepInput) (steps.None, error) {
	return func(_ context.Context, in steps.StepInput) (steps.None, error) {
		if in.Record.Index != step {
			return steps.None{}, nil
		}
		answered := make(chan struct{})
		w.RegisterDelayedCallback(func() {
			w.update(action, by("alice", "k"))
			w.RegisterDelayedCallback(func() { close(answered) }, 0)
		}, 0)
		<-answered
		return steps.None{}, nil
	}
}

func TestAPauseHoldsTheShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var paused steps.State
	w.holds(
		w.during(func() { w.update(steps.PauseUpdate, by("alice", "p")) }),
		w.during(func() { paused = w.state(); w.update(steps.ResumeUpdate, by("alice", "r")) }),
		enough,
	)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.True(t, paused.Rollout.Paused)
	require.Equal(t, []bool{false, true, false, false}, w.holdsPaused(), "held, held paused, held again, second step")
	require.ElementsMatch(t, []lifecycle.LedgerKind{lifecycle.Paused, lifecycle.Resumed}, w.recorded(), "a busy machine may begin the second first")
	holds := inputs(w, steps.HoldStep)
	require.Equal(t, holds[1].Elapsed, holds[2].Elapsed, "the step's clock stands in a pause")
	require.Zero(t, holds[3].Elapsed, "each step has a clock of its own")
}

func TestAPauseBetweenStepsHoldsWhatServes(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]int{"before the next share": 0, "before it is made stable": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			on(w, steps.RecordStep, w.interveneAt(step, steps.PauseUpdate))
			on(w, steps.HoldStep, func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
				if !in.Paused {
					return ends(steps.HoldEnough), nil
				}
				require.Len(t, w.shares(), step+1)
				require.Empty(t, w.wayOut())
				return steps.HoldResult{}, w.untilCanceled(ctx, func() { w.update(steps.ResumeUpdate, by("alice", "r")) })
			})
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
			require.Contains(t, w.holdsPaused(), true)
		})
	}
}

func TestHarmRollsBackInAPauseToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.holds(
		w.during(func() { w.update(steps.PauseUpdate, by("alice", "p")) }),
		func(context.Context) (steps.HoldResult, error) { return ends(steps.HoldHarm), nil },
	)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
	require.Contains(t, out.Reason, "because of harm")
}

func TestWhileItWaitsForAPersonTheShareIsWatched(t *testing.T) {
	t.Parallel()
	for reason, tc := range map[steps.HoldReason]struct {
		phase lifecycle.RolloutPhase
		out   []string
	}{
		steps.HoldHarm:    {lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}},
		steps.HoldInvalid: {lifecycle.RolloutInvalid, []string{"RollBack", "ReleaseClaim"}},
		steps.HoldFenced:  {lifecycle.RolloutRolledBack, []string{"ReleaseClaim"}},
	} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.service.Rollout.Steps[1].Approval = true
			w.holds(enough, func(context.Context) (steps.HoldResult, error) { return ends(reason), nil })
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, tc.phase, out.Phase)
			require.Contains(t, out.Reason, "because of "+string(reason))
			require.Equal(t, tc.out, w.wayOut())
		})
	}
}

// grantFor is a good grant for a step; each test spoils what it is about.
func (w *world) grantFor(step int) lifecycle.Grant {
	owner := inputs(w, steps.Claim)[0].Owner
	return lifecycle.Grant{
		WorkflowID: owner.WorkflowID, FirstRunID: owner.FirstRunID, Step: step, Release: candidate,
		Approver: "bob", Expires: w.Now().Add(time.Hour), Nonce: "n",
	}
}

func TestAStepWaitsForAGoodGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, stranger, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	bad := map[string]struct {
		spoil func(*lifecycle.Grant)
		key   ed25519.PrivateKey
		want  string
	}{
		"forged":             {func(*lifecycle.Grant) {}, stranger, "signature does not match"},
		"expired":            {func(g *lifecycle.Grant) { g.Expires = w.Now() }, w.grant, "expired"},
		"for another step":   {func(g *lifecycle.Grant) { g.Step = 1 }, w.grant, "step 1"},
		"for another run":    {func(g *lifecycle.Grant) { g.FirstRunID = "x" }, w.grant, "another run"},
		"of another release": {func(g *lifecycle.Grant) { g.Release = stable }, w.grant, stable.Short()},
		"of nobody":          {func(g *lifecycle.Grant) { g.Approver = "" }, w.grant, "approver"},
	}
	refused := map[string]*updated{}
	var waiting steps.State
	var changed, unkeyed, good, again, late *updated
	w.RegisterDelayedCallback(func() {
		waiting = w.state()
		for name, tc := range bad {
			g := w.grantFor(0)
			tc.spoil(&g)
			refused[name] = w.update(steps.ApproveUpdate, steps.Approval{Key: name, Grant: g.Sign(tc.key)})
		}
		g := w.grantFor(0).Sign(w.grant)
		unkeyed = w.update(steps.ApproveUpdate, steps.Approval{Grant: g})
		g.Approver = "mallory"
		changed = w.update(steps.ApproveUpdate, steps.Approval{Key: "n", Grant: g})
	}, time.Minute)
	w.RegisterDelayedCallback(func() {
		approval := steps.Approval{Key: "n", Grant: w.grantFor(0).Sign(w.grant)}
		good = w.update(steps.ApproveUpdate, approval)
		again = w.update(steps.ApproveUpdate, approval)
		approval.Key = "m"
		late = w.update(steps.ApproveUpdate, approval)
	}, 2*time.Minute)
	w.service.Rollout.Steps[0].Approval = true

	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.True(t, waiting.Rollout.AwaitsApproval)
	require.Equal(t, "waiting for approval", waiting.Phase)
	for name, tc := range bad {
		require.ErrorContains(t, refused[name].rejected, tc.want, name)
		require.Equal(t, lifecycle.Refused, steps.KindOf(refused[name].rejected), name)
	}
	require.ErrorContains(t, changed.rejected, "signature does not match")
	require.Equal(t, lifecycle.Invalid, steps.KindOf(unkeyed.rejected))
	require.True(t, good.accepted)
	require.True(t, again.accepted, "repeated with its key an approval is answered again")
	require.ErrorContains(t, late.rejected, "does not wait")
	w.requireOneGrantRecorded(t)
}

func (w *world) requireOneGrantRecorded(t *testing.T) {
	t.Helper()
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.Approved}, w.recorded())
	in := inputs(w, steps.Record)[0]
	require.Equal(t, "bob", in.Entry.Actor.Name)
	require.True(t, strings.HasPrefix(in.Key, inputs(w, steps.Claim)[0].Owner.FirstRunID+"/"), "keys of other runs are other keys: %s", in.Key)
	var kept lifecycle.Grant
	require.NoError(t, json.Unmarshal(in.Entry.Evidence, &kept))
	owner := inputs(w, steps.Claim)[0].Owner
	require.NoError(t, kept.Verify(w.grant.Public().(ed25519.PublicKey), owner, 0, candidate, kept.Expires.Add(-time.Second)),
		"the ledger keeps a grant that can be checked")
}

func TestEveryStepIsApprovedWhereTheInputSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	approve := func(step int, key string) {
		g := w.grantFor(step)
		g.Nonce = key
		require.NotNil(t, w.update(steps.ApproveUpdate, steps.Approval{Key: key, Grant: g.Sign(w.grant)}))
	}
	w.RegisterDelayedCallback(func() { approve(0, "a") }, time.Minute)
	w.holds(enough, w.during(func() { approve(1, "b") }), enough)
	out, err := w.promote(map[string]any{"service": "docs", "approval": true})
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, []bool{false, true, false}, w.holdsPaused(), "the share of step one is held while step two waits")
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.Approved, lifecycle.Approved}, w.recorded())
}

func TestTheFirstReleaseIsApprovedWhereTheInputSaysSo(t *testing.T) {
	t.Parallel()
	for action, first := range map[string]int{steps.ApproveUpdate: 1, steps.RejectUpdate: 0} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.plan.Baseline, w.plan.Verdict.Baseline = "", ""
			w.RegisterDelayedCallback(func() {
				require.Empty(t, inputs(w, steps.FirstStable))
				if action == steps.RejectUpdate {
					w.update(action, by("bob", "k"))
					return
				}
				w.update(action, steps.Approval{Key: "n", Grant: w.grantFor(0).Sign(w.grant)})
			}, time.Minute)
			out, err := w.promote(map[string]any{"service": "docs", "approval": true})
			require.NoError(t, err)
			require.Equal(t, first == 1, out.Phase == lifecycle.RolloutPromoted)
			require.Len(t, inputs(w, steps.FirstStable), first)
			require.Equal(t, []string{"ReleaseClaim"}, w.wayOut())
		})
	}
}

func TestAnApprovedStepWaitsForTheEndOfAPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service.Rollout.Steps[0].Approval = true
	var between []lifecycle.BasisPoints
	w.RegisterDelayedCallback(func() {
		w.update(steps.PauseUpdate, by("alice", "p"))
		w.update(steps.ApproveUpdate, steps.Approval{Key: "n", Grant: w.grantFor(0).Sign(w.grant)})
	}, time.Minute)
	w.RegisterDelayedCallback(func() {
		between = w.shares()
		w.update(steps.ResumeUpdate, by("alice", "r"))
	}, time.Hour)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Empty(t, between)
	require.Len(t, w.shares(), 2)
}

func TestAStepIsRejected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service.Rollout.Steps[0].Approval = true
	var u *updated
	w.RegisterDelayedCallback(func() { u = w.update(steps.RejectUpdate, by("bob", "k")) }, time.Minute)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.True(t, u.accepted)
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
	require.Contains(t, out.Reason, "step 1 not begun: rejected by said to be bob (not proven): a bad feeling")
	require.Empty(t, w.shares())
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.Rejected}, w.recorded())
	require.Equal(t, []string{"RollBack", "ReleaseClaim"}, w.wayOut())
}

func TestInterventionsAreDoneOnceAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var first, again, other *updated
	w.holds(w.during(func() {
		first = w.update(steps.PauseUpdate, by("alice", "k"))
		again = w.update(steps.PauseUpdate, by("alice", "k"))
		other = w.update(steps.AbortUpdate, by("alice", "k"))
	}))
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	for _, u := range []*updated{first, again, other} {
		require.True(t, u.accepted)
		require.NoError(t, u.failed)
	}
	require.ElementsMatch(t, []lifecycle.LedgerKind{lifecycle.Paused, lifecycle.Rejected}, w.recorded())
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase, "another action with the same key is another intervention")
	require.NotEqual(t, inputs(w, steps.Record)[0].Key, inputs(w, steps.Record)[1].Key)
}

func TestInterventionsThatCannotBeMeantAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var got []*updated
	tries := []struct {
		action   string
		argument any
		kind     lifecycle.Kind
	}{
		{steps.AbortUpdate, steps.Intervention{By: "alice"}, lifecycle.Invalid},
		{steps.AbortUpdate, steps.Intervention{Key: "k"}, lifecycle.Invalid},
		{steps.AbortUpdate, steps.Intervention{Key: strings.Repeat("k", 129), By: "alice"}, lifecycle.Invalid},
		{steps.AbortUpdate, steps.Intervention{Key: "k", By: "alice", Reason: strings.Repeat("r", 2001)}, lifecycle.Invalid},
		{steps.ResumeUpdate, by("alice", "k"), lifecycle.Refused}, // it is not paused
		{steps.RejectUpdate, by("alice", "k"), lifecycle.Refused}, // nothing waits
		{steps.ApproveUpdate, steps.Approval{Key: "k"}, lifecycle.Refused},
	}
	w.holds(w.during(func() {
		for _, try := range tries {
			got = append(got, w.update(try.action, try.argument))
		}
		w.CancelWorkflow()
	}))
	require.Error(t, w.start(steps.PromoteRelease, onlyService()))
	for i, try := range tries {
		require.Equal(t, try.kind, steps.KindOf(got[i].rejected), "%s %v", try.action, try.argument)
		require.False(t, got[i].accepted)
	}
	require.Empty(t, w.recorded())
}

func TestOnTheWayOutNobodyStepsIn(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world, late func()){
		"to stable": func(w *world, late func()) {
			on(w, steps.MakeStable, func(context.Context, steps.EndInput) (steps.EndResult, error) {
				late()
				return steps.EndResult{}, nil
			})
		},
		"back": func(w *world, late func()) {
			gives(w, steps.HoldStep, ends(steps.HoldHarm))
			on(w, steps.RollBack, func(context.Context, steps.EndInput) (steps.EndResult, error) {
				late()
				return steps.EndResult{}, nil
			})
		},
		"after a refused gate": func(w *world, late func()) {
			w.plan.Verdict.Outcome = lifecycle.RegressOutcome
			on(w, steps.ReleaseClaim, func(context.Context, steps.ReleaseClaimInput) (steps.None, error) {
				late()
				return steps.None{}, nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var aborted, paused *updated
			end(w, func() {
				answered := make(chan struct{})
				w.RegisterDelayedCallback(func() {
					aborted, paused = w.update(steps.AbortUpdate, by("alice", "a")), w.update(steps.PauseUpdate, by("alice", "p"))
					w.RegisterDelayedCallback(func() { close(answered) }, 0)
				}, 0)
				<-answered
			})
			_ = w.start(steps.PromoteRelease, onlyService())
			require.Equal(t, lifecycle.Refused, steps.KindOf(aborted.rejected))
			require.Equal(t, lifecycle.Refused, steps.KindOf(paused.rejected))
			require.Empty(t, w.recorded())
		})
	}
}

func TestARunEndsOnlyWhenItsUpdatesAreAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	written := make(chan struct{})
	var u *updated
	on(w, steps.Record, func(context.Context, steps.RecordInput) (steps.None, error) {
		<-written
		return steps.None{}, nil
	})
	on(w, steps.ReleaseClaim, func(context.Context, steps.ReleaseClaimInput) (steps.None, error) {
		close(written)
		return steps.None{}, nil
	})
	w.holds(w.during(func() { u = w.update(steps.AbortUpdate, by("alice", "k")) }))
	_, err := w.promote(onlyService())
	require.NoError(t, err)
	require.NoError(t, u.failed)
	require.Equal(t, "docs", u.state.Service)
}
