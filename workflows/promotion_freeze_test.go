package workflows

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

var weekend = lifecycle.Frozen{By: "window weekend", Until: time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)}

// frozenAt lets the calendar hold what is asked at some of its calls, counted from 1.
func (w *world) frozenAt(calls ...int) {
	on(w, steps.CheckFreeze, func(context.Context, steps.FreezeInput) (steps.FreezeResult, error) {
		n := len(inputs(w, steps.CheckFreeze))
		for _, call := range calls {
			if n == call {
				return steps.FreezeResult{Frozen: &weekend}, nil
			}
		}
		return steps.FreezeResult{}, nil
	})
}

// thawsWhen lets a freeze last until the function that it gives is called.
func (w *world) thawsWhen() (thaw func()) {
	over := make(chan struct{})
	on(w, steps.AwaitThaw, func(ctx context.Context, _ steps.FreezeInput) (steps.FreezeResult, error) {
		select {
		case <-over:
			return steps.FreezeResult{}, nil
		case <-ctx.Done():
			return steps.FreezeResult{}, ctx.Err()
		}
	})
	return func() { close(over) }
}

func waiting() map[string]any { return map[string]any{"service": "docs", "wait": true, "by": "alice"} }

func TestAPromotionDoesNotBeginInAFreeze(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.frozenAt(1)
	_, err := w.promote(onlyService())
	require.Equal(t, lifecycle.Refused, steps.KindOf(err))
	require.ErrorContains(t, err, "frozen by window weekend until 2026-03-02 07:00Z")
	require.Equal(t, []steps.FreezeInput{{Service: "docs", Release: candidate, Baseline: stable}}, inputs(w, steps.CheckFreeze))
	require.Empty(t, inputs(w, steps.LoadRelease))
	require.Equal(t, []string{"ReleaseClaim"}, w.wayOut())
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.ChangeRefused}, w.recorded(), "also a schedule's start can be seen")
	require.Equal(t, "failed", w.state().Phase)
}

func TestAPromotionWaitsForTheEndOfAFreezeWhereItIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.frozenAt(1)
	var frozen steps.State
	on(w, steps.AwaitThaw, func(context.Context, steps.FreezeInput) (steps.FreezeResult, error) {
		frozen = w.stateMeanwhile()
		return steps.FreezeResult{}, nil
	})
	out, err := w.promote(waiting())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, "frozen", frozen.Phase)
	require.Equal(t, weekend, *frozen.Frozen)
	require.Len(t, inputs(w, steps.PlanEvaluation), 2, "after a wait it is planned anew")
	require.Nil(t, w.state().Frozen)
}

// stateMeanwhile is the state while a step runs.
func (w *world) stateMeanwhile() steps.State {
	seen := make(chan steps.State, 1)
	w.RegisterDelayedCallback(func() { seen <- w.state() }, 0)
	return <-seen
}

func TestAnAbortEndsAPromotionThatWaitsInAFreeze(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.frozenAt(1)
	on(w, steps.AwaitThaw, func(ctx context.Context, _ steps.FreezeInput) (steps.FreezeResult, error) {
		return steps.FreezeResult{}, w.untilCanceled(ctx, func() { w.update(steps.AbortUpdate, by("alice", "k")) })
	})
	out, err := w.promote(waiting())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
	require.Contains(t, out.Reason, "aborted by said to be alice (not proven)")
	require.Empty(t, inputs(w, steps.StartRollout))
}

// Calls of the calendar: at the start, before each of two shares, before it is made stable.
func TestAFreezeHoldsTheShareAndDoesNotLetItGrow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ call, shares int }{"before the next share": {3, 1}, "before it is made stable": {4, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.frozenAt(tc.call)
			thaw := w.thawsWhen()
			on(w, steps.HoldStep, func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
				if !in.Paused {
					return ends(steps.HoldEnough), nil
				}
				require.Len(t, w.shares(), tc.shares)
				require.Empty(t, w.wayOut())
				return steps.HoldResult{}, w.untilCanceled(ctx, thaw)
			})
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
			require.Contains(t, w.holdsPaused(), true)
			require.Len(t, inputs(w, steps.CheckFreeze), 5, "after the freeze it is asked once more")
		})
	}
}

// A freeze that begins between the look at the calendar and the change is seen by the change itself.
func TestAFreezeHoldsTheChangeThatIsBeingMade(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		share, stable int // the call that it holds; 0: none
		shares        []lifecycle.BasisPoints
		paused        []bool
	}{
		"the first share":    {1, 0, []lifecycle.BasisPoints{500, 500, 5000}, []bool{false, false}},
		"the next share":     {2, 0, []lifecycle.BasisPoints{500, 5000, 5000}, []bool{false, true, false}},
		"the stable pointer": {0, 1, []lifecycle.BasisPoints{500, 5000}, []bool{false, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			held := func(call, at int) *lifecycle.Frozen {
				if call == at {
					return &weekend
				}
				return nil
			}
			on(w, steps.SetShare, func(context.Context, steps.ShareInput) (steps.ShareResult, error) {
				return steps.ShareResult{Frozen: held(len(inputs(w, steps.SetShare)), tc.share)}, nil
			})
			on(w, steps.MakeStable, func(context.Context, steps.EndInput) (steps.EndResult, error) {
				return steps.EndResult{Frozen: held(len(inputs(w, steps.MakeStable)), tc.stable)}, nil
			})
			thaw := w.thawsWhen()
			holding := func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
				if !in.Paused {
					return ends(steps.HoldEnough), nil
				}
				require.Equal(t, weekend, *w.state().Frozen)
				return steps.HoldResult{}, w.untilCanceled(ctx, thaw)
			}
			on(w, steps.HoldStep, holding)
			if tc.share == 1 { // nothing is held yet
				gives(w, steps.AwaitThaw, steps.FreezeResult{})
			}
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutPromoted, out.Phase, out.Reason)
			require.Equal(t, tc.shares, w.shares())
			require.Equal(t, tc.paused, w.holdsPaused())
			require.Len(t, inputs(w, steps.AwaitThaw), 1)
			asked := &steps.FreezeInput{Service: "docs", Release: candidate, Baseline: stable}
			require.Equal(t, asked, inputs(w, steps.SetShare)[0].Freezes)
			require.Equal(t, asked, inputs(w, steps.MakeStable)[0].Freezes)
		})
	}
}

func holdsFrozen(context.Context) (steps.HoldResult, error) {
	held := ends(steps.HoldFrozen)
	held.Frozen = &weekend
	return held, nil
}

func TestAFreezeInTheMiddleOfAStepStopsItsClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	thaw := w.thawsWhen()
	var frozen steps.State
	w.holds(holdsFrozen, w.during(func() { frozen = w.state(); thaw() }), enough)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, weekend, *frozen.Frozen)
	require.False(t, frozen.Rollout.Paused, "nobody paused it")
	require.Equal(t, []bool{false, true, false, false}, w.holdsPaused())
	holds := inputs(w, steps.HoldStep)
	require.Equal(t, holds[1].Elapsed, holds[2].Elapsed, "the step's clock stands in a freeze")
	require.Equal(t, &steps.FreezeInput{Service: "docs", Release: candidate, Baseline: stable}, holds[0].Freezes)
	require.Len(t, out.Steps, 2)
}

func TestAPauseWithinAFreezeOutlastsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	thaw := w.thawsWhen()
	w.holds(holdsFrozen,
		w.during(func() { w.update(steps.PauseUpdate, by("alice", "p")) }),
		w.during(thaw),
		w.during(func() { w.update(steps.ResumeUpdate, by("alice", "r")) }),
		enough)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, []bool{false, true, true, true, false, false}, w.holdsPaused())
}

func TestHarmRollsBackInAFreezeToo(t *testing.T) {
	t.Parallel()
	harm := func(context.Context) (steps.HoldResult, error) { return ends(steps.HoldHarm), nil }
	for name, tc := range map[string]struct {
		change   func(w *world)
		recorded int
	}{
		"in the middle of a step": {func(w *world) { w.holds(holdsFrozen, harm) }, 1},
		"between steps":           {func(w *world) { w.frozenAt(3); w.holds(enough, harm) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.thawsWhen()
			tc.change(w)
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
			require.Contains(t, out.Reason, "because of harm")
			require.Len(t, out.Steps, tc.recorded)
			require.Equal(t, []string{"RollBack", "ReleaseClaim"}, w.wayOut())
		})
	}
}

func TestWithoutAnAnswerOfTheCalendarNothingChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	on(w, steps.CheckFreeze, func(context.Context, steps.FreezeInput) (steps.FreezeResult, error) {
		if len(inputs(w, steps.CheckFreeze)) < 3 {
			return steps.FreezeResult{}, nil
		}
		return steps.FreezeResult{}, lifecycle.Errorf(lifecycle.Corrupt, "the declaration cannot be read")
	})
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
	require.Contains(t, out.Reason, "cannot be read")
	require.Len(t, w.shares(), 1)
}

// glass is a good grant that breaks the glass; each test spoils what it is about.
func (w *world) glass() lifecycle.Grant {
	g := w.grantFor(0)
	g.Purpose, g.Reason = lifecycle.BreakGlass, "answers are wrong now"
	return g
}

func TestTheGlassIsBrokenByASecondPersonWithAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startedBy("alice")
	w.frozenAt(1, 2, 3, 4, 5)
	bad := map[string]struct {
		spoil func(*lifecycle.Grant)
		want  string
	}{
		"by who started it": {func(g *lifecycle.Grant) { g.Approver = "alice" }, "second person"},
		"without a reason":  {func(g *lifecycle.Grant) { g.Reason = "" }, "reason"},
		"with an approval":  {func(g *lifecycle.Grant) { g.Purpose = "" }, "something else"},
		"of another run":    {func(g *lifecycle.Grant) { g.FirstRunID = "x" }, "another run"},
		"for two days":      {func(g *lifecycle.Grant) { g.Expires = w.Now().Add(48 * time.Hour) }, "at most 24h"},
		"too late":          {func(g *lifecycle.Grant) { g.Expires = w.Now() }, "expired"},
	}
	refused := map[string]*updated{}
	var unkeyed, good, again *updated
	on(w, steps.AwaitThaw, func(ctx context.Context, _ steps.FreezeInput) (steps.FreezeResult, error) {
		return steps.FreezeResult{}, w.untilCanceled(ctx, func() {
			for name, tc := range bad {
				g := w.glass()
				tc.spoil(&g)
				refused[name] = w.update(steps.BreakGlassUpdate, steps.Approval{Key: name, Grant: g.Sign(w.grant)})
			}
			g := w.glass().Sign(w.grant)
			unkeyed = w.update(steps.BreakGlassUpdate, steps.Approval{Grant: g})
			good = w.update(steps.BreakGlassUpdate, steps.Approval{Key: "n", Grant: g})
			again = w.update(steps.BreakGlassUpdate, steps.Approval{Key: "n", Grant: g})
		})
	})
	out, err := w.promote(waiting())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	for name, tc := range bad {
		require.ErrorContains(t, refused[name].rejected, tc.want, name)
		require.Equal(t, lifecycle.Refused, steps.KindOf(refused[name].rejected), name)
	}
	require.Equal(t, lifecycle.Invalid, steps.KindOf(unkeyed.rejected))
	require.True(t, good.accepted)
	require.True(t, again.accepted)
	require.Len(t, inputs(w, steps.CheckFreeze), 1, "the calendar is not asked while the glass is broken")
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.GlassBroken}, w.recorded())
	entry := inputs(w, steps.Record)[0].Entry
	require.Equal(t, "bob", entry.Actor.Name)
	require.Equal(t, "answers are wrong now", entry.Reason)
	require.NotEmpty(t, entry.Evidence)
	for _, hold := range inputs(w, steps.HoldStep) {
		require.False(t, hold.Glass.IsZero(), "a hold knows until when the glass is broken")
	}
}

// Who started the run may be anybody where that is not proven: two persons break the glass.
func TestTwoPersonsBreakTheGlassOfARunThatAnybodyMayHaveStarted(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]map[string]any{
		"nobody is named": {"service": "docs", "wait": true}, "somebody is said to have": {"service": "docs", "wait": true, "by": "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.frozenAt(1)
			breaks := func(key, who string) *updated {
				g := w.glass()
				g.Approver = who
				return w.update(steps.BreakGlassUpdate, steps.Approval{Key: key, Grant: g.Sign(w.grant)})
			}
			var one, same, other *updated
			on(w, steps.AwaitThaw, func(ctx context.Context, _ steps.FreezeInput) (steps.FreezeResult, error) {
				return steps.FreezeResult{}, w.untilCanceled(ctx, func() {
					one, same, other = breaks("1", "bob"), breaks("2", "bob"), breaks("3", "carol")
				})
			})
			out, err := w.promote(in)
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutPromoted, out.Phase, out.Reason)
			require.True(t, one.accepted)
			require.True(t, other.accepted)
			require.ErrorContains(t, same.rejected, "bob gave the first of two")
			require.Equal(t, []lifecycle.LedgerKind{lifecycle.GlassBroken, lifecycle.GlassBroken}, w.recorded())
			reasons := []string{inputs(w, steps.Record)[0].Entry.Reason, inputs(w, steps.Record)[1].Entry.Reason} // in any order
			require.ElementsMatch(t, []string{"answers are wrong now", "answers are wrong now" + firstOfTwo}, reasons)
		})
	}
}

func TestABrokenGlassIsWholeAgainWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		approved time.Duration
		waits    int
	}{"in time": {5 * time.Minute, 0}, "too late": {time.Hour, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.startedBy("alice")
			w.frozenAt(2)
			w.service.Rollout.Steps[0].Approval = true
			w.RegisterDelayedCallback(func() {
				g := w.glass()
				g.Expires = w.Now().Add(10 * time.Minute)
				w.update(steps.BreakGlassUpdate, steps.Approval{Key: "n", Grant: g.Sign(w.grant)})
			}, time.Minute)
			w.RegisterDelayedCallback(func() {
				w.update(steps.ApproveUpdate, steps.Approval{Key: "n", Grant: w.grantFor(0).Sign(w.grant)})
			}, tc.approved)
			out, err := w.promote(map[string]string{"service": "docs", "by": "alice"})
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
			require.Len(t, inputs(w, steps.AwaitThaw), tc.waits)
		})
	}
}

func TestAFirstReleaseWaitsForAFreezeToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Baseline, w.plan.Verdict.Baseline = "", ""
	w.frozenAt(2)
	on(w, steps.AwaitThaw, func(context.Context, steps.FreezeInput) (steps.FreezeResult, error) {
		require.Empty(t, inputs(w, steps.FirstStable))
		return steps.FreezeResult{}, nil
	})
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Len(t, inputs(w, steps.AwaitThaw), 1)
}
