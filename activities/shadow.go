package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/rollout"
	"github.com/refitml/refit/internal/steps"
)

// pairScorer makes ready what a policy's pairs are scored by; nothing where it declares no scorer.
func (p Promotion) pairScorer(policy lifecycle.RolloutPolicy) (*evaluation.PairScorer, error) {
	if policy.Shadow == nil || policy.Shadow.Scorer == nil {
		return nil, nil
	}
	if p.Scores == nil {
		return nil, lifecycle.Errorf(lifecycle.Refused, "rollout.shadow.scorer: nothing scores pairs at this worker")
	}
	scorer, err := p.Scores(*policy.Shadow.Scorer)
	return &scorer, err
}

// SetShadow begins or ends a rollout's shadow step. It has ended when no gateway has a copy under way: what the
// candidate's servers count from then on is users'. A gateway that was heard of within a lease and the time of a copy,
// and does not say that it applied the end, may still have one.
func (p Promotion) SetShadow(ctx context.Context, in steps.ShadowShareInput) (steps.None, error) {
	route, err := p.Registry.SetShadow(ctx, registry.ShadowChange{
		Service: in.Service, Fence: in.Claim.Fence, Rollout: in.Claim.Owner.FirstRunID, Share: in.Share, By: in.By, Reason: in.Reason,
	})
	if err != nil || in.Share > 0 {
		return steps.None{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, endingTime, errStillCopying)
	defer cancel()
	for {
		behind, err := p.behind(ctx, route, lifecycle.LeaseTime+in.Deadline)
		if err != nil || len(behind) == 0 {
			return steps.None{}, err
		}
		if err := pause(ctx, endingLooks); err != nil {
			return steps.None{}, lifecycle.Errorf(lifecycle.Unavailable, "end the shadow step: gateways %s have not applied it: %w", strings.Join(behind, ", "), err)
		}
	}
}

// One try waits for less than a quick step may take.
const (
	endingTime  = 20 * time.Second
	endingLooks = 200 * time.Millisecond
)

var errStillCopying = errors.New("copies may be under way")

// behind names the gateways that reported within a time and have not applied a route.
func (p Promotion) behind(ctx context.Context, route lifecycle.Route, within time.Duration) (names []string, err error) {
	reports, err := p.Registry.Gateways(ctx, route.Service, within)
	for _, r := range reports {
		if r.Epoch < route.Epoch || r.Epoch == route.Epoch && r.Generation < route.Generation {
			names = append(names, r.Gateway)
		}
	}
	return names, err
}

// RecordShadow keeps how a shadow step went.
func (p Promotion) RecordShadow(ctx context.Context, in steps.ShadowRecordInput) (steps.None, error) {
	return steps.None{}, p.Registry.RecordShadow(ctx, in.Service, in.Claim.Fence, in.Claim.Owner.FirstRunID, in.Record)
}

// HoldShadow keeps a rollout's shadow step alive, as HoldStep keeps a share, scores the pairs that were captured, each
// once, and watches what they say until there is a reason to end the step.
func (p Promotion) HoldShadow(ctx context.Context, in steps.ShadowInput) (steps.ShadowResult, error) {
	if in.Policy.Shadow == nil {
		return steps.ShadowResult{}, lifecycle.Errorf(lifecycle.Invalid, "rollout.shadow: there is none")
	}
	scorer, err := p.pairScorer(in.Policy)
	if err != nil {
		return steps.ShadowResult{}, err
	}
	s := &shadowing{scorer: scorer, step: *in.Policy.Shadow, hold: &hold{
		Promotion: p, rollout: in.Claim.Owner.FirstRunID, complained: map[string]bool{},
		in: steps.HoldInput{Service: in.Service, Claim: in.Claim, Release: in.Release, Step: lifecycle.ShadowIndex, Policy: in.Policy,
			Elapsed: in.Elapsed, Paused: in.Paused},
	}}
	s.recall(ctx)
	var result steps.ShadowResult
	fenced, err := s.watch(ctx, func(ctx context.Context) (over bool, err error) {
		result, over, err = s.look(ctx)
		return over, err
	})
	if fenced != nil {
		return steps.ShadowResult{Reason: steps.HoldFenced, Verdict: lifecycle.ShadowVerdict{Decision: lifecycle.RollBack, Reason: fenced.Error()}}, nil
	}
	return result, err
}

// shadowing is one activity that holds a shadow step.
type shadowing struct {
	*hold
	step   lifecycle.ShadowStep
	scorer *evaluation.PairScorer // nil: pairs are not scored
}

// look weighs what is known. What cannot be read, and a pair that cannot be scored now, leave the step as it is: they
// are tried again with the next look.
func (s *shadowing) look(ctx context.Context) (result steps.ShadowResult, over bool, err error) {
	reports, err := s.Registry.Gateways(ctx, s.in.Service, lifecycle.LeaseTime)
	s.complain(ctx, "the gateways' reports cannot be read", err)
	if err != nil {
		return result, false, nil
	}
	pairs, err := s.Captured.Pairs(ctx, s.in.Service, s.rollout, s.in.Release, knownUntil(reports))
	s.complain(ctx, "the pairs cannot be read; the shadow step holds", err)
	if err != nil {
		return result, false, nil
	}
	unscored := s.score(ctx, pairs)
	s.complain(ctx, "a pair cannot be scored; the shadow step holds", unscored)
	if lifecycle.Is(unscored, lifecycle.Refused) { // asking again gives the same
		return result, false, unscored
	}
	elapsed := s.soFar().Elapsed
	if s.in.Paused {
		elapsed = 0
	}
	verdict, err := rollout.JudgeShadow(weighed(pairs), s.in.Policy, elapsed)
	if err != nil {
		return result, false, lifecycle.Wrap(err, "judge the shadow step of rollout %s", s.rollout)
	}
	if unscored != nil && verdict.Decision != lifecycle.Promote {
		verdict.Reason += "; " + unscored.Error()
	}
	s.show(verdict)
	return s.end(ctx, verdict, elapsed)
}

// end says whether the step is over. It does not end well where anybody was shown an answer of the candidate's.
func (s *shadowing) end(ctx context.Context, verdict lifecycle.ShadowVerdict, elapsed time.Duration) (steps.ShadowResult, bool, error) {
	result := steps.ShadowResult{Verdict: verdict}
	switch {
	case slices.ContainsFunc(verdict.Metrics, func(m lifecycle.MetricVerdict) bool { return m.Harmful }):
		result.Reason = steps.HoldHarm
	case verdict.Decision != lifecycle.Promote && elapsed >= s.step.MaxTime.D():
		result.Reason = steps.HoldTime
	case verdict.Decision == lifecycle.Promote && !s.in.Paused:
		touched, err := s.Captured.Touched(ctx, s.in.Service, s.rollout)
		s.complain(ctx, "whom the candidate answered cannot be counted; the shadow step holds", err)
		if err != nil {
			return result, false, nil
		}
		if result.Reason = steps.HoldEnough; touched.Requests > 0 {
			result.Reason, result.Verdict.Decision = steps.HoldInvalid, lifecycle.RollBack
			result.Verdict.Reason = fmt.Sprintf("the candidate answered %d requests of users in its shadow step", touched.Requests)
		}
	}
	return result, result.Reason != "", nil
}

func (s *shadowing) show(v lifecycle.ShadowVerdict) {
	seen := v.Pairs
	if s.scorer != nil {
		seen = v.Scored
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Progress = lifecycle.Progress{Time: time.Now(), Step: seen, Total: s.step.MinPairs, Message: v.Reason}
	s.seen.Shadow = &v
}

// Pairs are scored in their order, so many in a look, and some at once.
const (
	scoredALook  = 32
	scoredAtOnce = 4
)

// score scores the first pairs that wait, and fills their scores in. Its error is that of the first that could not be
// scored; the others are kept all the same.
func (s *shadowing) score(ctx context.Context, pairs []capture.Pair) error {
	if s.scorer == nil {
		return nil
	}
	var waiting []int
	var ids []string
	for i, p := range weighed(pairs) {
		if p.Waits() && len(waiting) < scoredALook {
			waiting, ids = append(waiting, i), append(ids, pairs[i].Interaction)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	texts, err := s.Captured.PairTexts(ctx, s.in.Service, ids)
	if err != nil {
		return err
	}
	said := map[string]capture.PairTexts{}
	for _, t := range texts {
		said[t.Interaction] = t
	}
	failed := make([]error, len(waiting))
	free := make(chan struct{}, scoredAtOnce)
	var scoring sync.WaitGroup
	for n, i := range waiting {
		free <- struct{}{}
		scoring.Go(func() {
			defer func() { <-free }()
			pairs[i].Scores, failed[n] = s.scoreOne(ctx, said[pairs[i].Interaction])
		})
	}
	scoring.Wait()
	return cmp.Or(failed...)
}

func (s *shadowing) scoreOne(ctx context.Context, t capture.PairTexts) (*capture.PairScore, error) {
	if t.Interaction == "" {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the texts of a pair are not there")
	}
	stable, candidate, err := s.scorer.Score(ctx, evaluation.Pair{Question: t.Input, Stable: t.Stable, Candidate: t.Candidate})
	if err != nil {
		return nil, err
	}
	score := capture.PairScore{Interaction: t.Interaction, Stable: stable, Candidate: candidate}
	if err := s.Captured.AddPairScore(ctx, s.rollout, score); err != nil {
		return nil, err // what is not kept is asked anew, and may be answered otherwise
	}
	return &score, nil
}

// weighed gives captured pairs as they are judged.
func weighed(captured []capture.Pair) []rollout.Pair {
	out := make([]rollout.Pair, len(captured))
	for i, p := range captured {
		out[i] = rollout.Pair{
			Stable:    rollout.Answered{Latency: p.StableLatency, Events: p.StableEvents},
			Candidate: rollout.Answered{Latency: p.CandidateLatency, Events: p.CandidateEvents},
			Unkept:    !p.Texts,
		}
		if p.Scores != nil {
			out[i].Scored = &rollout.Scored{Stable: p.Scores.Stable, Candidate: p.Scores.Candidate}
		}
	}
	return out
}
