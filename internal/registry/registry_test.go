package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

const svc = "docs"

var alice = lifecycle.Actor{Name: "alice", Via: "cli"}

func owner(n int) lifecycle.Owner {
	return lifecycle.Owner{Namespace: "refit", WorkflowID: fmt.Sprintf("promote/%d", n), FirstRunID: fmt.Sprintf("run-%d", n)}
}

// stage is a service with two releases, the first one stable, and a promotion claim.
type stage struct {
	registrytest.Database
	ctx    context.Context
	t      *testing.T
	stable lifecycle.Digest
	canary lifecycle.Digest
	claim  lifecycle.Claim
}

func newStage(t *testing.T) *stage {
	t.Parallel()
	s := &stage{Database: registrytest.New(t), ctx: t.Context(), t: t}
	_, err := s.Registry.ApplyService(s.ctx, registrytest.Service(svc), alice)
	require.NoError(t, err)
	s.stable, err = s.Registry.AddRelease(s.ctx, registrytest.Release(svc, 1), alice)
	require.NoError(t, err)
	s.canary, err = s.Registry.AddRelease(s.ctx, registrytest.Release(svc, 2), alice)
	require.NoError(t, err)
	s.claim, err = s.Registry.TakeClaim(s.ctx, svc, lifecycle.PromotionLoop, owner(1), alice)
	require.NoError(t, err)
	_, err = s.Registry.SetFirstStable(s.ctx, registry.FirstStable{Service: svc, Fence: s.claim.Fence, Release: s.stable, By: alice})
	require.NoError(t, err)
	return s
}

// rollOut brings the canary to a share.
func (s *stage) rollOut(share lifecycle.BasisPoints) lifecycle.Route {
	s.t.Helper()
	require.NoError(s.t, s.Registry.StartRollout(s.ctx, registry.RolloutStart{
		Service: svc, Fence: s.claim.Fence, ID: s.claim.Owner.FirstRunID, Release: s.canary, Owner: s.claim.Owner, By: alice,
	}))
	route, err := s.Registry.SetShare(s.ctx, s.share(0, share))
	require.NoError(s.t, err)
	return route
}

func (s *stage) share(step int, share lifecycle.BasisPoints) registry.ShareChange {
	return registry.ShareChange{
		Service: svc, Fence: s.claim.Fence, Rollout: s.claim.Owner.FirstRunID, Step: step, Share: share, By: alice, Reason: "next step",
	}
}

func (s *stage) route() lifecycle.Route {
	s.t.Helper()
	route, err := s.Registry.Route(s.ctx, svc)
	require.NoError(s.t, err)
	return route
}

func (s *stage) kinds() []lifecycle.LedgerKind {
	s.t.Helper()
	entries, err := s.Registry.Ledger(s.ctx, registry.LedgerQuery{Service: svc, Limit: 1000})
	require.NoError(s.t, err)
	var kinds []lifecycle.LedgerKind
	for i, e := range entries {
		require.EqualValues(s.t, i+1, e.Sequence, "the ledger has a gap")
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func requireKind(t *testing.T, kind lifecycle.Kind, err error) {
	t.Helper()
	require.Equal(t, kind, lifecycle.KindOf(err), "%v", err)
}

func TestEveryAppliedVersionIsKept(t *testing.T) {
	t.Parallel()
	d := registrytest.New(t)
	ctx := t.Context()
	service := registrytest.Service(svc)
	_, err := d.Registry.Service(ctx, svc)
	requireKind(t, lifecycle.NotFound, err)

	first, err := d.Registry.ApplyService(ctx, service, alice)
	require.NoError(t, err)
	require.Equal(t, 1, first.Version)
	require.True(t, first.Changed)
	again, err := d.Registry.ApplyService(ctx, service, lifecycle.Actor{Name: "bob"})
	require.NoError(t, err)
	require.Equal(t, 1, again.Version)
	require.False(t, again.Changed)
	require.Equal(t, alice, again.AppliedBy)

	changed := service
	changed.Description = "second"
	second, err := d.Registry.ApplyService(ctx, changed, alice)
	require.NoError(t, err)
	require.Equal(t, 2, second.Version)
	back, err := d.Registry.ApplyService(ctx, service, alice)
	require.NoError(t, err)
	require.Equal(t, 3, back.Version, "going back is a version too")

	stored, err := d.Registry.Service(ctx, svc)
	require.NoError(t, err)
	require.Equal(t, back.Digest, stored.Digest())
	require.Equal(t, first.Digest, back.Digest)
	require.NotEqual(t, first.Digest, second.Digest)
	list, err := d.Registry.Services(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	route, err := d.Registry.Route(ctx, svc)
	require.NoError(t, err)
	require.Empty(t, route.Stable)
}

func TestReleaseIsFoundByItsBeginning(t *testing.T) {
	s := newStage(t)
	id, release, err := s.Registry.Release(s.ctx, svc, string(s.stable[:10]))
	require.NoError(t, err)
	require.Equal(t, s.stable, id)
	require.Equal(t, registrytest.Release(svc, 1), release)

	again, err := s.Registry.AddRelease(s.ctx, registrytest.Release(svc, 1), lifecycle.Actor{Name: "bob"})
	require.NoError(t, err)
	require.Equal(t, s.stable, again)

	for n := 3; n < 40; n++ { // more than 16 releases: some two share their first digit
		_, err := s.Registry.AddRelease(s.ctx, registrytest.Release(svc, n), alice)
		require.NoError(t, err)
	}
	list, err := s.Registry.Releases(s.ctx, svc, 100)
	require.NoError(t, err)
	require.Len(t, list, 39)
	require.Equal(t, registrytest.Release(svc, 39), list[0].Release, "newest first")
	ambiguous := 0
	for _, digit := range "0123456789abcdef" {
		if _, _, err := s.Registry.Release(s.ctx, svc, string(digit)); lifecycle.Is(err, lifecycle.Invalid) {
			ambiguous++
		}
	}
	require.Positive(t, ambiguous)
	_, _, err = s.Registry.Release(s.ctx, svc, "%")
	requireKind(t, lifecycle.Invalid, err)
	_, _, err = s.Registry.Release(s.ctx, svc, "0000000000000000")
	requireKind(t, lifecycle.NotFound, err)
	_, err = s.Registry.AddRelease(s.ctx, registrytest.Release("unknown", 1), alice)
	requireKind(t, lifecycle.NotFound, err)
}

func TestArtifactsAndTheirLineage(t *testing.T) {
	s := newStage(t)
	dataset := lifecycle.Artifact{ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: lifecycle.DigestOf([]byte("d"))}, Service: svc, MadeBy: alice}
	base := lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: lifecycle.DigestOf([]byte("m"))}, Service: svc,
		Size: 5, Files: 3, Parents: []lifecycle.Digest{dataset.Digest}, Labels: map[string]string{"stage": "base"}, MadeBy: alice,
	}
	tuned := base
	tuned.Digest, tuned.Parents, tuned.Labels = lifecycle.DigestOf([]byte("t")), []lifecycle.Digest{base.Digest, dataset.Digest}, map[string]string{"stage": "tuned"}
	for _, a := range []lifecycle.Artifact{dataset, base, tuned, base} {
		require.NoError(t, s.Registry.AddArtifact(s.ctx, a))
	}
	newest, err := s.Registry.LatestArtifact(s.ctx, svc, lifecycle.ModelArtifact, nil)
	require.NoError(t, err)
	require.Equal(t, tuned.Digest, newest.Digest)
	labelled, err := s.Registry.LatestArtifact(s.ctx, svc, lifecycle.ModelArtifact, map[string]string{"stage": "base"})
	require.NoError(t, err)
	require.Equal(t, base.Digest, labelled.Digest)
	require.Equal(t, base.Parents, labelled.Parents)
	_, err = s.Registry.LatestArtifact(s.ctx, svc, lifecycle.IndexArtifact, nil)
	requireKind(t, lifecycle.NotFound, err)

	line, err := s.Registry.Lineage(s.ctx, tuned.Digest)
	require.NoError(t, err)
	require.Len(t, line, 3)
	require.Equal(t, tuned.Digest, line[0].Digest)

	made, err := s.Registry.MakeRelease(s.ctx, registry.NewRelease{Service: svc, By: alice})
	require.NoError(t, err)
	_, release, err := s.Registry.Release(s.ctx, svc, string(made))
	require.NoError(t, err)
	require.Equal(t, tuned.Digest, release.Model)
}

func TestOneVerdictPerCandidateBaselineAndSuite(t *testing.T) {
	s := newStage(t)
	suite := lifecycle.DigestOf([]byte("suite"))
	verdict := lifecycle.Verdict{Service: svc, Candidate: s.canary, Baseline: s.stable, Suite: suite, Outcome: lifecycle.ErrorOutcome}
	_, err := s.Registry.Evaluation(s.ctx, svc, s.canary, s.stable, suite)
	requireKind(t, lifecycle.NotFound, err)
	_, err = s.Registry.AddEvaluation(s.ctx, verdict, alice)
	require.NoError(t, err)
	_, err = s.Registry.NewestPassed(s.ctx, svc, s.stable)
	requireKind(t, lifecycle.NotFound, err)

	verdict.Outcome = lifecycle.RegressOutcome
	stored, err := s.Registry.AddEvaluation(s.ctx, verdict, alice)
	require.NoError(t, err)
	require.Equal(t, 1, stored.Attempt, "an error of the judge is not an attempt of its own")
	verdict.Outcome = lifecycle.PassOutcome
	stored, err = s.Registry.AddEvaluation(s.ctx, verdict, alice)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RegressOutcome, stored.Outcome, "asking again until it passes does not work")

	third, err := s.Registry.AddRelease(s.ctx, registrytest.Release(svc, 3), alice)
	require.NoError(t, err)
	verdict.Candidate = third
	stored, err = s.Registry.AddEvaluation(s.ctx, verdict, alice)
	require.NoError(t, err)
	require.Equal(t, 2, stored.Attempt)
	passed, err := s.Registry.NewestPassed(s.ctx, svc, s.stable)
	require.NoError(t, err)
	require.Equal(t, third, passed)

	list, err := s.Registry.Evaluations(s.ctx, svc, 10)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, third, list[0].Candidate)
	infos, err := s.Registry.Releases(s.ctx, svc, 10)
	require.NoError(t, err)
	require.Equal(t, lifecycle.PassOutcome, infos[0].Outcome)
	require.Equal(t, lifecycle.RegressOutcome, infos[1].Outcome)
	require.Empty(t, infos[2].Outcome)
}

func TestLadderOpensOnce(t *testing.T) {
	s := newStage(t)
	one, two := lifecycle.DigestOf([]byte("1")), lifecycle.DigestOf([]byte("2"))
	record := lifecycle.LadderRecord{Service: svc, Deficit: "wrong-api", Evidence: []lifecycle.Digest{one}}
	opened, err := s.Registry.OpenLadder(s.ctx, record, alice)
	require.NoError(t, err)
	record.Evidence = []lifecycle.Digest{one, two}
	again, err := s.Registry.OpenLadder(s.ctx, record, alice)
	require.NoError(t, err)
	require.Equal(t, opened.ID, again.ID)
	require.Equal(t, []lifecycle.Digest{one, two}, again.Evidence)

	result := lifecycle.LeverResult{Lever: lifecycle.PromptLever, Candidate: one, Suite: two, Gain: 0.25, Ceiling: true}
	for range 2 {
		require.NoError(t, s.Registry.AddLeverResult(s.ctx, svc, opened.ID, result))
	}
	list, err := s.Registry.Ladder(s.ctx, svc)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, []lifecycle.LeverResult{result}, list[0].Attempts)
	requireKind(t, lifecycle.NotFound, s.Registry.AddLeverResult(s.ctx, svc, "unopened", result))
}

func TestLedgerHasNoGapsUnderConcurrency(t *testing.T) {
	s := newStage(t)
	before := len(s.kinds())
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			entry := lifecycle.LedgerEntry{Service: svc, Kind: lifecycle.Paused, Subject: "x", Actor: alice, Evidence: json.RawMessage(`{"n":1}`)}
			require.NoError(t, s.Registry.AppendLedger(s.ctx, entry, fmt.Sprintf("key-%d", n/2))) // each key twice
		})
	}
	wg.Wait()
	require.Len(t, s.kinds(), before+20) // kinds checks the numbers
	requireKind(t, lifecycle.NotFound, s.Registry.AppendLedger(s.ctx, lifecycle.LedgerEntry{Service: "unknown", Kind: lifecycle.Paused}, ""))

	page, err := s.Registry.Ledger(s.ctx, registry.LedgerQuery{Service: svc, After: int64(before), Kinds: []lifecycle.LedgerKind{lifecycle.Paused}, Limit: 7})
	require.NoError(t, err)
	require.Len(t, page, 7)
	require.Equal(t, alice, page[0].Actor)
	require.JSONEq(t, `{"n":1}`, string(page[0].Evidence))
}

func TestLockExcludes(t *testing.T) {
	s := newStage(t)
	var inside, most int
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			require.NoError(t, s.Registry.WithLock(s.ctx, "schedules/docs", func(context.Context) error {
				inside++ // the race detector sees it where the lock does not exclude
				most = max(most, inside)
				inside--
				return nil
			}))
		})
	}
	wg.Wait()
	require.Equal(t, 1, most)
}
