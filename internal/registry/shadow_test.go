package registry_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

func (s *stage) shadow(share lifecycle.BasisPoints) registry.ShadowChange {
	return registry.ShadowChange{Service: svc, Fence: s.claim.Fence, Rollout: s.claim.Owner.FirstRunID, Share: share, By: alice, Reason: "shadow step"}
}

// open opens the rollout, without a share.
func (s *stage) open() {
	s.t.Helper()
	require.NoError(s.t, s.Registry.StartRollout(s.ctx, registry.RolloutStart{
		Service: svc, Fence: s.claim.Fence, ID: s.claim.Owner.FirstRunID, Release: s.canary, Owner: s.claim.Owner, By: alice,
	}))
}

func TestAShadowStepComesBeforeTheFirstShareAndEndsWithIt(t *testing.T) {
	s := newStage(t)
	_, err := s.Registry.SetShadow(s.ctx, s.shadow(1000))
	requireKind(t, lifecycle.Fenced, err) // no rollout is in flight
	s.open()
	route, err := s.Registry.SetShadow(s.ctx, s.shadow(1000))
	require.NoError(t, err)
	require.EqualValues(t, 1000, route.Shadow)
	require.Equal(t, lifecycle.ShadowIndex, route.Step)
	require.Zero(t, route.Share)
	again, err := s.Registry.SetShadow(s.ctx, s.shadow(1000))
	require.NoError(t, err)
	require.Equal(t, route, again, "the same again is not news")
	require.Equal(t, route, s.route())
	for _, wrong := range []lifecycle.BasisPoints{-1, 10_001} {
		_, err := s.Registry.SetShadow(s.ctx, s.shadow(wrong))
		requireKind(t, lifecycle.Invalid, err)
	}

	record := lifecycle.ShadowRecord{Share: 1000, Verdict: lifecycle.ShadowVerdict{Decision: lifecycle.Promote, Reason: "100 pairs", Pairs: 100, Scored: 90, Difference: 0.01}}
	for range 2 {
		require.NoError(t, s.Registry.RecordShadow(s.ctx, svc, s.claim.Fence, s.claim.Owner.FirstRunID, record))
	}
	off, err := s.Registry.SetShadow(s.ctx, s.shadow(0))
	require.NoError(t, err)
	require.Zero(t, off.Shadow)
	require.Greater(t, off.Generation, route.Generation)

	_, err = s.Registry.SetShadow(s.ctx, s.shadow(500))
	require.NoError(t, err)
	shared, err := s.Registry.SetShare(s.ctx, s.share(0, 500))
	require.NoError(t, err)
	require.Zero(t, shared.Shadow, "users' requests and copies never meet on the canary")
	require.Zero(t, shared.Step)
	_, err = s.Registry.SetShadow(s.ctx, s.shadow(500))
	requireKind(t, lifecycle.Conflict, err)
	rollout, err := s.Registry.Rollout(s.ctx, s.claim.Owner.FirstRunID)
	require.NoError(t, err)
	require.Equal(t, &record, rollout.Shadow)
	require.Empty(t, rollout.Steps)
	kinds := s.kinds()
	count := func(kind lifecycle.LedgerKind) (n int) {
		for _, k := range kinds {
			if k == kind {
				n++
			}
		}
		return n
	}
	require.Equal(t, 3, count(lifecycle.ShadowChanged))
	require.Equal(t, 1, count(lifecycle.ShadowJudged))
}

func TestARollbackEndsAShadowStepAndNoLateOneTakesEffect(t *testing.T) {
	s := newStage(t)
	s.open()
	_, err := s.Registry.SetShadow(s.ctx, s.shadow(1000))
	require.NoError(t, err)
	route, _, err := s.Registry.RollBack(s.ctx, registry.Rollback{Service: svc, By: alice, Reason: "enough seen"})
	require.NoError(t, err)
	require.Zero(t, route.Shadow)
	require.Empty(t, route.Canary)
	require.Equal(t, s.stable, route.Stable, "nothing that served is taken back")
	_, err = s.Registry.SetShadow(s.ctx, s.shadow(1000))
	requireKind(t, lifecycle.Fenced, err)
	requireKind(t, lifecycle.Fenced, s.Registry.RecordShadow(s.ctx, svc, s.claim.Fence, s.claim.Owner.FirstRunID, lifecycle.ShadowRecord{}))
}
