package demo

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// promoteCandidate moves the candidate to all traffic while users ask, counts the share from the servers' side, and
// has somebody start a second promotion in the middle.
func (r *run) promoteCandidate(ctx context.Context) error {
	candidate := r.state.Candidate.Release
	result, exposures, err := r.underTraffic(ctx, candidate, "its gate passed")
	if err != nil {
		return err
	}
	r.state.Summary.Steps = r.state.Summary.Steps[:0]
	for i, step := range result.Steps {
		if err := r.withinBound(step, exposures[i]); err != nil {
			return err
		}
		line := StepLine{
			Allowed: step.Allowed, Reached: exposures[i].Reached, HighestWindow: exposures[i].Highest,
			Conversations: step.Verdict.Canary, Verdict: step.Verdict.Decision, Reason: step.Verdict.Reason,
		}
		r.state.Summary.Steps = append(r.state.Summary.Steps, line)
		r.view.say("step %d at %s: reached %s of %d requests, highest window %s; %s: %s", i+1, step.Allowed,
			bp(line.Reached), exposures[i].Requests, bp(line.HighestWindow), line.Verdict, line.Reason)
	}
	if result.Phase != lifecycle.RolloutPromoted {
		return lifecycle.Errorf(lifecycle.Conflict, "the candidate ended as %s: %s", result.Phase, result.Reason)
	}
	r.addRelease("candidate", candidate, "promoted", result.Reason)
	return nil
}

// withinBound holds the exposure bound against what the servers counted: the share of all requests, the credit that may
// have been there when the step began, and what was in flight at a poll.
func (r *run) withinBound(step lifecycle.StepRecord, seen Exposure) error {
	most := step.Allowed.Fraction()*float64(seen.Requests) + r.service.Rollout.Exposure.Cap + float64(r.settings.Traffic.Clients)
	if float64(seen.Canary) > most {
		return lifecycle.Errorf(lifecycle.Conflict, "step %d: the servers counted %d requests of %d on the canary; at %s it may be %.0f",
			step.Index+1, seen.Canary, seen.Requests, step.Allowed, most)
	}
	return nil
}

// rollBackMistake changes one setting of what serves and lets that become a release. Its gate sees nothing; its users
// do.
func (r *run) rollBackMistake(ctx context.Context) error {
	release, err := r.makeMistake(ctx)
	if err != nil {
		return err
	}
	if _, err := r.judge(ctx, release); err != nil {
		return lifecycle.Wrap(err, "the gate of a release that it cannot see through")
	}
	result, _, err := r.underTraffic(ctx, release, "answers should not be long")
	if err != nil {
		return err
	}
	if result.Phase != lifecycle.RolloutRolledBack {
		return lifecycle.Errorf(lifecycle.Conflict, "the change of settings ended as %s: %s; it should have been rolled back", result.Phase, result.Reason)
	}
	if result.Verdict == nil || result.Verdict.Outcome != lifecycle.PassOutcome {
		return lifecycle.Errorf(lifecycle.Conflict, "the change of settings was rolled back, but its gate had not let it pass")
	}
	if result.Touched == nil || r.state.Summary.Busy.Holder == "" {
		return lifecycle.Errorf(lifecycle.Unavailable, "whom it touched, or who held the claim, is not known")
	}
	r.view.say("rolled back: %s; touched %d conversations in %d requests", result.Reason, result.Touched.Conversations, result.Touched.Requests)
	r.state.Summary.RolledBack = RolledBackLine{Release: release, Conversations: result.Touched.Conversations, Reason: result.Reason}
	r.addRelease("mistake", release, "rolled back", result.Reason)
	return nil
}

// makeMistake applies the changed declaration, makes a release of it and puts the declaration back: what serves is
// decided by releases, not by what is declared.
func (r *run) makeMistake(ctx context.Context) (lifecycle.Digest, error) {
	changed := r.service
	changed.Release.PostProcess = append(append([]lifecycle.Rule{}, r.service.Release.PostProcess...), r.settings.Mistake...)
	if _, err := control.Call(ctx, r.client, control.Apply, control.ApplyInput{Service: changed}); err != nil {
		return "", err
	}
	made, err := control.Call(ctx, r.client, control.MakeRelease, control.MakeReleaseInput{
		Service: r.service.Name, Model: r.state.Candidate.Model, Index: r.state.Index.Index,
	})
	if err != nil {
		return "", err
	}
	if _, err := control.Call(ctx, r.client, control.Apply, control.ApplyInput{Service: r.service}); err != nil {
		return "", err
	}
	diff, err := control.Call(ctx, r.client, control.Diff, control.DiffInput{
		Service: r.service.Name, Before: string(r.state.Candidate.Release), After: string(made.Release),
	})
	if err != nil {
		return "", err
	}
	r.view.say("release %s changes %v: %s of %s characters, %s", made.Release.Short(), diff.Levers,
		r.settings.Mistake[0].Kind, r.settings.Mistake[0].Value, r.settings.Mistake[0].Action)
	return made.Release, nil
}

// underTraffic promotes a release while users ask. The exposures stand in the order of the result's steps.
func (r *run) underTraffic(ctx context.Context, release lifecycle.Digest, reason string) (steps.PromotionResult, []Exposure, error) {
	var none steps.PromotionResult
	if err := r.findQuestions(ctx); err != nil {
		return none, nil, err
	}
	status, err := control.Call(ctx, r.client, control.Status, control.StatusInput{Service: r.service.Name})
	if err != nil {
		return none, nil, err
	}
	stable := status.Route.Stable
	crowd := &Crowd{
		Gateway: r.place.gateway(), Service: r.service.Name, Traffic: r.settings.Traffic, Questions: r.questions,
		HTTP: r.http, Log: r.settings.Log,
	}
	// Every rollout has users of its own, so that the same words are not the same conversations.
	crowd.Traffic.Seed += uint64(len(r.state.Traffic)) + uint64(r.state.Before)<<8
	meter := &Meter{Endpoints: r.endpoints, HTTP: r.http}
	live, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	beside.Go(func() { crowd.Run(live) })
	beside.Go(func() { meter.Run(live) })
	second := make(chan error, 1)
	r.second = secondPromotion{}
	beside.Go(func() { second <- r.startSecond(live) })

	r.view.live = func() string { return liveLine(crowd.Tally(), release) }
	result, err := r.promotion(ctx, release, reason)
	r.view.live = nil
	r.view.end()
	stop()
	beside.Wait()
	if err != nil {
		return result, nil, err
	}
	tally := crowd.Tally()
	r.state.Traffic = append(r.state.Traffic, tally)
	r.view.say("%s", tally)
	if err := <-second; err != nil {
		return result, nil, lifecycle.Wrap(err, "a second promotion beside the first")
	}
	if r.second.holder != "" {
		r.state.Summary.Busy = BusyLine{Holder: r.second.holder}
		r.view.say("a second promotion, started from the Temporal UI as %s, ended as Busy: %s holds the claim", r.second.id, r.second.holder)
	}
	exposures, err := r.exposures(ctx, meter.Polls(), result, stable)
	return result, exposures, err
}

func (r *run) findQuestions(ctx context.Context) (err error) {
	if r.questions == nil {
		r.questions, err = Questions(ctx, r.settings.Checkout, r.service, r.settings.Traffic.Seed)
	}
	return err
}

// endpoints are the model servers that the registry knows.
func (r *run) endpoints(ctx context.Context) ([]lifecycle.Endpoint, error) {
	status, err := control.Call(ctx, r.client, control.Status, control.StatusInput{Service: r.service.Name})
	return status.Endpoints, err
}

// exposures counts every step. A release that shares its weights with stable shares its servers too: their counters
// cannot tell the two apart, so nothing is claimed.
func (r *run) exposures(ctx context.Context, polls []Poll, result steps.PromotionResult, stable lifecycle.Digest) ([]Exposure, error) {
	diff, err := control.Call(ctx, r.client, control.Diff, control.DiffInput{
		Service: r.service.Name, Before: string(stable), After: string(result.Release),
	})
	if err != nil {
		return nil, err
	}
	var out []Exposure
	for _, step := range result.Steps {
		out = append(out, CountExposure(polls, diff.After.ServedName(), diff.Before.ServedName(), step.StartedAt, step.EndedAt, r.settings.Window))
	}
	return out, nil
}

// startSecond waits until the promotion has its canary out, starts another one from the Temporal UI under an ID of
// its own, and keeps what that was told. It is done once a run.
func (r *run) startSecond(ctx context.Context) error {
	if r.state.Summary.Busy.Holder != "" {
		return nil
	}
	var status control.StatusResult
	for status.Route.Canary == "" {
		if wait(ctx, 250*time.Millisecond) != nil {
			return nil // the promotion is over; the next one of the run is tried
		}
		var err error
		status, err = control.Call(ctx, r.client, control.Status, control.StatusInput{Service: r.service.Name})
		if err != nil && !lifecycle.Is(err, lifecycle.Unavailable) {
			return err
		}
	}
	ui, err := newTemporalUI(r.place.ui, r.place.namespace)
	if err != nil {
		return err
	}
	id, err := ui.start(ctx, steps.PromoteRelease, map[string]string{"service": r.service.Name})
	if err != nil {
		return err
	}
	refusal, err := ui.await(ctx, id)
	if err != nil {
		return err
	}
	if refusal.Type != string(lifecycle.Busy) || refusal.Fields["workflow_id"] == "" {
		return lifecycle.Errorf(lifecycle.Conflict, "the second promotion %s ended as %q, not as Busy with its holder: %s", id, refusal.Type, refusal.Message)
	}
	r.second = secondPromotion{id, refusal.Fields["workflow_id"]}
	return nil
}

// secondPromotion is what came of the one that was started beside the first.
type secondPromotion struct{ id, holder string }

func liveLine(t Tally, release lifecycle.Digest) string {
	return fmt.Sprintf("users: %d conversations, %d requests, %d of them answered by %s", t.Conversations, t.Requests, t.ByRelease[release], release.Short())
}

// String says what the users saw.
func (t Tally) String() string {
	return fmt.Sprintf("users: %d conversations (longest %d turns, %d without a key), %d requests: %d answered, %d streamed, %d left in the middle, "+
		"%d withheld, %d told to wait, %d failed; %d thumbs up, %d down",
		t.Conversations, t.LongestTurns, t.Keyless, t.Requests, t.Answered, t.Streamed, t.Canceled, t.Withheld, t.Turned, t.Failed,
		t.Thumbs["thumbs-up"], t.Thumbs["thumbs-down"])
}

func bp(share *lifecycle.BasisPoints) string {
	if share == nil {
		return "(not counted)"
	}
	return share.String()
}

// newHTTP is for the users and the meter: many connections, and no answer waited for longer than a minute.
func newHTTP() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}
