package registry_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestAFreezeIsOpenedOnceAndClosedOnce(t *testing.T) {
	s := newStage(t)
	before := len(s.kinds())
	asked := lifecycle.Freeze{
		Service: svc, Name: "inc-7", Reason: "search is down", Levers: []lifecycle.Lever{lifecycle.WeightsLever}, OpenedBy: alice,
	}
	opened, err := s.Registry.OpenFreeze(s.ctx, asked)
	require.NoError(t, err)
	require.Equal(t, asked.Levers, opened.Levers)
	require.True(t, opened.ClosedAt.IsZero())
	again, err := s.Registry.OpenFreeze(s.ctx, asked)
	require.NoError(t, err)
	require.Equal(t, opened, again)
	other := asked
	other.Reason = "another one"
	_, err = s.Registry.OpenFreeze(s.ctx, other)
	requireKind(t, lifecycle.Conflict, err)
	require.ErrorContains(t, err, "open already, by alice")

	open, err := s.Registry.Freezes(s.ctx, svc, false)
	require.NoError(t, err)
	require.Equal(t, []lifecycle.Freeze{opened}, open)
	bob := lifecycle.Actor{Name: "bob", Via: "cli"}
	closed, err := s.Registry.CloseFreeze(s.ctx, svc, "inc-7", bob, "it is up")
	require.NoError(t, err)
	require.Equal(t, &bob, closed.ClosedBy)
	stays, err := s.Registry.CloseFreeze(s.ctx, svc, "inc-7", alice, "once more")
	require.NoError(t, err)
	require.Equal(t, closed, stays)
	open, err = s.Registry.Freezes(s.ctx, svc, false)
	require.NoError(t, err)
	require.Empty(t, open)
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.FreezeOpened, lifecycle.FreezeClosed}, s.kinds()[before:])

	_, err = s.Registry.OpenFreeze(s.ctx, other)
	require.NoError(t, err, "a name may come again")
	all, err := s.Registry.Freezes(s.ctx, svc, true)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "another one", all[0].Reason)

	_, err = s.Registry.CloseFreeze(s.ctx, svc, "inc-8", alice, "")
	requireKind(t, lifecycle.NotFound, err)
	_, err = s.Registry.OpenFreeze(s.ctx, lifecycle.Freeze{Service: "nobody", Name: "inc-7", Reason: "x", OpenedBy: alice})
	requireKind(t, lifecycle.NotFound, err)
	require.Error(t, s.as(s.AppURL, `UPDATE freezes SET closed_at = now()`), "freezes change through functions only")
}

func TestAFreezeThatEndedByItselfMakesRoom(t *testing.T) {
	s := newStage(t)
	over := lifecycle.Freeze{Service: svc, Name: "inc-7", Reason: "search is down", OpenedBy: alice, EndsAt: time.Now().Add(-time.Minute)}
	_, err := s.Registry.OpenFreeze(s.ctx, over)
	require.NoError(t, err)
	open, err := s.Registry.Freezes(s.ctx, svc, false)
	require.NoError(t, err)
	require.Empty(t, open)
	next := over
	next.Reason, next.EndsAt = "again", time.Time{}
	_, err = s.Registry.OpenFreeze(s.ctx, next)
	require.NoError(t, err)
	all, err := s.Registry.Freezes(s.ctx, svc, true)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.WithinDuration(t, over.EndsAt, all[1].ClosedAt, time.Millisecond)
}
