package control_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func weekends(s *lifecycle.Service) {
	s.Changes = lifecycle.ChangePolicy{TimeZone: "Europe/Berlin", Freezes: []lifecycle.FreezeWindow{
		{Name: "weekend", Weekly: "Fri 12:00 to Mon 08:00", Levers: []lifecycle.Lever{lifecycle.WeightsLever}},
	}}
}

// friday is at noon in Berlin, when a weekend begins.
var friday = time.Date(2026, 6, 5, 10, 0, 0, 0, time.UTC)

func at(now time.Time) func(*control.Config) {
	return func(cfg *control.Config) { cfg.Now = func() time.Time { return now } }
}

func TestFreezesAreShown(t *testing.T) {
	w := newWorld(t, at(friday))
	w.apply(weekends)
	do(w, control.OpenFreeze, control.OpenFreezeInput{Service: svc, Name: "inc-7", Reason: "search is down"})
	do(w, control.OpenFreeze, control.OpenFreezeInput{Service: svc, Name: "inc-8", Reason: "over soon"})
	closed := do(w, control.CloseFreeze, control.CloseFreezeInput{Service: svc, Name: "inc-8"})
	require.Equal(t, "alice", closed.ClosedBy.Name)

	shown := do(w, control.Freezes, control.FreezesInput{Service: svc})
	require.Equal(t, "incident inc-7, window weekend", shown.Frozen.By)
	require.Len(t, shown.Incidents, 1)
	require.Len(t, shown.Windows, 1)
	require.Equal(t, time.Date(2026, 6, 12, 10, 0, 0, 0, time.UTC), shown.Next[0].From.UTC())
	require.Len(t, do(w, control.Freezes, control.FreezesInput{Service: svc, All: true}).Incidents, 2)
	status := do(w, control.Status, control.StatusInput{Service: svc})
	require.Equal(t, shown.Frozen, status.Frozen)
	require.Equal(t, shown.Next[0], *status.NextFreeze)

	refused(w, lifecycle.Invalid, control.OpenFreeze, control.OpenFreezeInput{Service: svc, Name: "inc-9"})
	refused(w, lifecycle.NotFound, control.Freezes, control.FreezesInput{Service: "nobody"})
}

func TestAPromotionOfWhatIsFrozenIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t, at(friday))
	_, candidate, claim := w.serve()
	require.Contains(t, refused(w, lifecycle.Unavailable, control.Promote, control.PromoteInput{Service: svc}), "no Temporal")
	w.apply(weekends)
	check := func(in control.CheckFreezeInput) *lifecycle.Frozen {
		in.Service = svc
		return do(w, control.CheckFreeze, in).Frozen
	}
	require.Equal(t, &lifecycle.Frozen{By: "window weekend", Until: time.Date(2026, 6, 8, 6, 0, 0, 0, time.UTC)}, utc(check(control.CheckFreezeInput{})))
	require.NotNil(t, check(control.CheckFreezeInput{Release: string(candidate)}), "release 2 has other weights")
	require.Nil(t, check(control.CheckFreezeInput{At: friday.Add(-time.Minute)}))
	require.NotNil(t, check(control.CheckFreezeInput{At: friday.Add(7 * 24 * time.Hour)}))

	_, err := control.Promote.Do(w.ctx, w.control, as(control.Operator), control.PromoteInput{Service: svc})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	require.Equal(t, map[string]string{"frozen_by": "window weekend", "until": "2026-06-08T06:00:00Z"}, control.AsProblem(err).Fields)
	message := refused(w, lifecycle.Unavailable, control.Promote, control.PromoteInput{Service: svc, Wait: true})
	require.Contains(t, message, "no Temporal", "who waits is let through to the run")
	w.canary(candidate, claim, 500)
	do(w, control.Rollback, control.RollbackInput{Service: svc, Reason: "rolling back is always allowed"})
}

func utc(f *lifecycle.Frozen) *lifecycle.Frozen {
	f.Until = f.Until.UTC()
	return f
}

func TestTheGlassIsBrokenForOneRun(t *testing.T) {
	w := newTemporalWorld(t)
	w.promote()
	var until time.Time
	require.Eventually(t, func() bool {
		state, err := control.BreakGlass.Do(w.ctx, w.control, as(control.Approver), control.BreakGlassInput{Service: svc, Reason: "answers are wrong now"})
		until = state.Glass
		return err == nil
	}, patience, 50*time.Millisecond)
	require.WithinDuration(t, time.Now().Add(time.Hour), until, time.Minute)
	refused(w, lifecycle.Invalid, control.BreakGlass, control.BreakGlassInput{Service: svc})
	refused(w, lifecycle.Invalid, control.BreakGlass, control.BreakGlassInput{Service: svc, Reason: "x", For: lifecycle.Duration(25 * time.Hour)})
	refused(w, lifecycle.NotFound, control.BreakGlass, control.BreakGlassInput{Service: "nobody", Reason: "x"})
	_, err := control.BreakGlass.Do(w.ctx, w.control, as(control.Operator), control.BreakGlassInput{Service: svc, Reason: "x"})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
}
