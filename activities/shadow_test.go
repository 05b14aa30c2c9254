package activities_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// shadow is a rollout in its shadow step.
type shadow struct {
	*world
	promotion activities.Promotion
	log       *logged
	in        steps.ShadowInput
	judge     *judge
}

// judge prefers the answer that says good, and says nothing while it is away.
type judge struct {
	asked atomic.Int64
	away  atomic.Bool
}

func (j *judge) Ask(_ context.Context, _, about string) (string, error) {
	j.asked.Add(1)
	if j.away.Load() {
		return "", errors.New("it is away")
	}
	var pair struct{ A, B string }
	if err := json.Unmarshal([]byte(about), &pair); err != nil {
		return "", err
	}
	switch good := func(s string) bool { return strings.Contains(s, "good") }; {
	case good(pair.A) == good(pair.B):
		return `{"better": "tie"}`, nil
	case good(pair.A):
		return `{"better": "a"}`, nil
	}
	return `{"better": "b"}`, nil
}

func newShadow(t *testing.T) *shadow {
	t.Helper()
	s := &shadow{world: newWorld(t), log: newLogged(), judge: &judge{}}
	declared := service("docs")
	declared.Capture.Content = "full"
	declared.Rollout.Metrics = []lifecycle.MetricPolicy{{Name: "errors", Required: true}, {Name: "slow"}}
	declared.Rollout.Shadow = &lifecycle.ShadowStep{MinPairs: 40, MaxTime: lifecycle.Duration(time.Hour), Scorer: &lifecycle.PairScorer{
		Name: "judge-pairwise", Settings: json.RawMessage(`{"judge": "large", "criteria": "good ones"}`),
	}}
	declared = s.apply(t, declared)
	require.NoError(t, declared.Check())
	var ids []lifecycle.Digest
	for i := range 2 {
		id, err := s.Registry.AddRelease(t.Context(), lifecycle.Release{Service: "docs", Model: lifecycle.DigestOf(fmt.Append(nil, i))}, by)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	claim, err := s.Registry.TakeClaim(t.Context(), "docs", lifecycle.PromotionLoop, someOwner(), by)
	require.NoError(t, err)
	_, err = s.Registry.SetFirstStable(t.Context(), registry.FirstStable{Service: "docs", Fence: claim.Fence, Release: ids[0], By: by})
	require.NoError(t, err)
	s.promotion = activities.Promotion{
		Registry: s.Registry, Captured: s.captured, Look: 20 * time.Millisecond, Log: slog.New(s.log),
		Scores: func(declared lifecycle.PairScorer) (evaluation.PairScorer, error) {
			return evaluation.NewPairScorer(declared, score.World{Judges: map[string]score.Judge{"large": s.judge}})
		},
	}
	_, err = do(t, steps.StartRollout, s.promotion.StartRollout, steps.RolloutInput{Service: "docs", Claim: claim, Release: ids[1], By: by})
	require.NoError(t, err)
	s.in = steps.ShadowInput{Service: "docs", Claim: claim, Release: ids[1], Policy: declared.Rollout}
	s.set(t, declared.Rollout.Shadow.Share)
	return s
}

func (s *shadow) set(t *testing.T, share lifecycle.BasisPoints) {
	t.Helper()
	_, err := do(t, steps.SetShadow, s.promotion.SetShadow, steps.ShadowShareInput{Service: "docs", Claim: s.in.Claim, Share: share, By: by, Reason: "test"})
	require.NoError(t, err)
}

// answer captures n pairs, each of a conversation of its own. Their gateway knows them all.
func (s *shadow) answer(t *testing.T, n int, change func(i int, user, copy *lifecycle.Interaction)) {
	t.Helper()
	var batch []lifecycle.Interaction
	prefix := rand.Text()
	for i := range n {
		user := lifecycle.Interaction{
			ID: fmt.Sprintf("%s-%d", prefix, i), Service: "docs", Conversation: fmt.Sprintf("%s-%d", prefix, i), Rollout: s.in.Claim.Owner.FirstRunID,
			Step: lifecycle.ShadowIndex, Endpoint: "chat", Outcome: "ok", Status: 200, Started: time.Now().Add(time.Duration(i) * time.Millisecond),
			Latency: lifecycle.Latency{Total: 0.1}, Content: lifecycle.ContentFull, Input: "a question", Output: "a good answer",
		}
		other := user
		other.ID, other.Rollout, other.Step, other.Release = lifecycle.ShadowPrefix+user.ID, "", 0, s.in.Release
		if change != nil {
			change(i, &user, &other)
		}
		batch = append(batch, user, other)
	}
	require.NoError(t, s.captured.AddInteractions(t.Context(), batch))
	s.know(t, time.Now().Add(time.Hour))
}

func (s *shadow) know(t *testing.T, until time.Time) {
	t.Helper()
	require.NoError(t, s.Registry.ReportGateway(t.Context(), registry.GatewayReport{Service: "docs", Gateway: "gw-0", Started: until, Known: until}))
}

// holdingShadow is a shadow step that goes on while the test does other things.
type holdingShadow struct {
	*try
	ended  chan struct{}
	result steps.ShadowResult
	err    error
}

func (s *shadow) start() *holdingShadow {
	h := &holdingShadow{try: newTry(), ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		h.result, h.err = on(h.try, steps.HoldShadow, s.promotion.HoldShadow, s.in)
	}()
	return h
}

func (h *holdingShadow) wait(t *testing.T) steps.ShadowResult {
	t.Helper()
	select {
	case <-h.ended:
	case <-time.After(patience):
		require.Fail(t, "the shadow step did not end")
	}
	require.NoError(t, h.err)
	return h.result
}

func (s *shadow) hold(t *testing.T) (steps.ShadowResult, error) {
	t.Helper()
	return do(t, steps.HoldShadow, s.promotion.HoldShadow, s.in)
}

func TestAShadowStepEndsWellOnItsPairs(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	s.answer(t, 60, nil)
	out, err := s.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldEnough, out.Reason, out.Verdict.Reason)
	require.Equal(t, int64(60), out.Verdict.Pairs)
	require.GreaterOrEqual(t, out.Verdict.Scored, int64(40))
	require.Equal(t, []string{"score", "errors", "slow"}, []string{out.Verdict.Metrics[0].Metric, out.Verdict.Metrics[1].Metric, out.Verdict.Metrics[2].Metric})
	asked := s.judge.asked.Load()
	require.Equal(t, 2*out.Verdict.Scored, asked, "each pair is asked in both orders")

	again, err := s.hold(t) // the answer was lost, and the step is tried again
	require.NoError(t, err)
	require.Equal(t, steps.HoldEnough, again.Reason)
	require.LessOrEqual(t, s.judge.asked.Load(), int64(2*60), "no pair is scored twice")

	record := lifecycle.ShadowRecord{Share: 10_000, Verdict: out.Verdict}
	_, err = do(t, steps.RecordShadow, s.promotion.RecordShadow, steps.ShadowRecordInput{Service: "docs", Claim: s.in.Claim, Record: record})
	require.NoError(t, err)
	rollout, err := s.Registry.Rollout(t.Context(), s.in.Claim.Owner.FirstRunID)
	require.NoError(t, err)
	require.Equal(t, &record, rollout.Shadow)
}

func TestAWorseCandidateIsStoppedInTheShadowAlsoWhilePaused(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	s.in.Paused = true
	s.answer(t, 60, func(_ int, _, copied *lifecycle.Interaction) { copied.Output = "nonsense" })
	out, err := s.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldHarm, out.Reason, out.Verdict.Reason)
	require.InDelta(t, -1, out.Verdict.Difference, 1e-9)
	require.Contains(t, out.Verdict.Reason, "score")
	require.NotContains(t, out.Verdict.Reason, "nonsense")
}

func TestACandidateWhoseCopiesFailIsStoppedThoughNobodyScoresThem(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	s.in.Policy.Shadow.Scorer = nil
	s.answer(t, 60, func(_ int, _, copied *lifecycle.Interaction) {
		copied.Outcome, copied.Status, copied.Content = "error", 502, lifecycle.ContentNone
	})
	out, err := s.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldHarm, out.Reason)
	require.Contains(t, out.Verdict.Reason, "errors (the candidate's in 60 pairs, stable's in 0")
	require.Zero(t, s.judge.asked.Load())
}

// A judge that does not answer is no pass, and what it did not say is asked again.
func TestAJudgeThatIsAwayHoldsTheShadowStep(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	s.judge.away.Store(true)
	s.answer(t, 60, nil)
	h := s.start()
	require.Eventually(t, func() bool { return s.judge.asked.Load() > 64 }, patience, 10*time.Millisecond, "asked again at the next look")
	select {
	case <-h.ended:
		require.Fail(t, "it ended", "%+v %v", h.result, h.err)
	default:
	}
	s.log.await(t, "a pair cannot be scored")
	s.judge.away.Store(false)
	require.Equal(t, steps.HoldEnough, h.wait(t).Reason)

	away := newShadow(t)
	away.judge.away.Store(true)
	away.in.Policy.Shadow.MaxTime = lifecycle.Duration(time.Millisecond)
	away.answer(t, 60, nil)
	out, err := away.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldTime, out.Reason)
	require.Equal(t, lifecycle.RollBack, out.Verdict.Decision)
	require.Contains(t, out.Verdict.Reason, "ask judge large: it is away")
}

func TestAShadowStepThatNobodyCanScoreIsRefusedBeforeItBegins(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	s.in.Policy.Shadow.Scorer = &lifecycle.PairScorer{Name: "judge-pairwise", Settings: json.RawMessage(`{"judge": "nobody", "criteria": "good"}`)}
	_, err := do(t, steps.PlanRollout, s.promotion.PlanRollout, steps.PlanRolloutInput{Service: "docs", Policy: s.in.Policy})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), err)
	_, err = s.hold(t)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), err)
	s.promotion.Scores = nil
	_, err = s.hold(t)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), err)
	s.in.Policy.Shadow = nil
	_, err = s.hold(t)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), err)
}

// Pairs of which one that began earlier may be missing are not looked at, as the side that answers faster is known first.
func TestAShadowStepWaitsForWhatItsGatewaysKnow(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	s.answer(t, 60, nil)
	s.know(t, time.Time{})
	h := s.start()
	route := func() int64 {
		r, err := s.Registry.Route(t.Context(), "docs")
		require.NoError(t, err)
		return r.Lease
	}
	before := route()
	require.Eventually(t, func() bool { return route() > before+1 }, patience, 10*time.Millisecond)
	select {
	case <-h.ended:
		require.Fail(t, "it ended", "%+v %v", h.result, h.err)
	default:
	}
	require.Zero(t, s.judge.asked.Load())
	s.know(t, time.Now().Add(time.Hour))
	require.Equal(t, steps.HoldEnough, h.wait(t).Reason)
}

func TestAShadowStepInWhichAUserWasAnsweredIsInvalid(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	require.NoError(t, s.captured.AddInteractions(t.Context(), []lifecycle.Interaction{{
		ID: "shown", Service: "docs", Conversation: "shown", Rollout: s.in.Claim.Owner.FirstRunID, Step: lifecycle.ShadowIndex, Canary: true,
		Release: s.in.Release, Endpoint: "chat", Outcome: "ok", Status: 200, Started: time.Now(),
	}}))
	s.answer(t, 60, nil)
	out, err := s.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldInvalid, out.Reason)
	require.Equal(t, lifecycle.RollBack, out.Verdict.Decision)
}

func TestAFencedShadowStepEnds(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	h := s.start()
	before, err := s.Registry.Route(t.Context(), "docs")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		r, err := s.Registry.Route(t.Context(), "docs")
		return err == nil && r.Lease > before.Lease
	}, patience, 10*time.Millisecond)
	_, _, err = s.Registry.RollBack(t.Context(), registry.Rollback{Service: "docs", By: by, Reason: "a person"})
	require.NoError(t, err)
	require.Equal(t, steps.HoldFenced, h.wait(t).Reason)
}

// The shadow step has ended when every gateway says so: until then copies may be counted as users'.
func TestTheEndOfAShadowStepIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newShadow(t)
	route, err := s.Registry.Route(t.Context(), "docs")
	require.NoError(t, err)
	report := func(generation int64) {
		require.NoError(t, s.Registry.ReportGateway(t.Context(), registry.GatewayReport{
			Service: "docs", Gateway: "gw-0", Started: time.Now(), Epoch: route.Epoch, Generation: generation,
		}))
	}
	report(route.Generation)
	var ended atomic.Bool
	var wait sync.WaitGroup
	wait.Go(func() { s.set(t, 0); ended.Store(true) })
	require.Eventually(t, func() bool {
		r, err := s.Registry.Route(t.Context(), "docs")
		return err == nil && r.Generation > route.Generation
	}, patience, 10*time.Millisecond)
	report(route.Generation)
	require.False(t, ended.Load())
	report(route.Generation + 1)
	wait.Wait()
	require.True(t, ended.Load())
}
