package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// shadowFirst is the change from which on a rollout may begin with a shadow step.
const shadowFirst = "shadow-first"

// shadow lets the candidate answer copies of requests until its answers are known well enough. A reason says why the
// rollout ends here.
func (p *promotion) shadow(ctx workflow.Context) (reason string, err error) {
	step := p.service.Rollout.Shadow
	if step == nil || workflow.GetVersion(ctx, shadowFirst, workflow.DefaultVersion, 1) < 1 {
		return "", nil
	}
	const failed = "the shadow step failed"
	if err := p.awaitLeave(ctx, func() bool { return true }); err != nil {
		return "the shadow step not begun", err
	}
	if err := p.setShadow(ctx, *step, step.Share, "shadow step"); err != nil {
		return failed, err
	}
	p.note(ctx, "shadow", fmt.Sprintf("copies of %s of requests go to the candidate; nobody is shown its answers", step.Share))
	record := lifecycle.ShadowRecord{Share: step.Share, StartedAt: workflow.Now(ctx)}
	held, err := p.holdShadow(ctx)
	switch {
	case err != nil:
		return failed, err
	case p.stop != "":
		return p.stop, nil
	case held.Reason == steps.HoldFenced:
		return "", steps.ToTemporal(lifecycle.Errorf(lifecycle.Fenced, "%s", held.Verdict.Reason))
	}
	record.Verdict, record.EndedAt = held.Verdict, workflow.Now(ctx)
	if _, err := steps.RecordShadow.Run(ctx, steps.ShadowRecordInput{Service: p.service.Name, Claim: p.claim, Record: record}); err != nil {
		return "the shadow step could not be recorded", err
	}
	p.result.Shadow, p.state.Rollout.Shadow = &record, &record
	if held.Reason != steps.HoldEnough {
		p.invalid = held.Reason == steps.HoldInvalid
		return "shadow step: " + held.Verdict.Reason, nil
	}
	if err := p.setShadow(ctx, *step, 0, "the shadow step is over"); err != nil {
		return "the shadow step could not be ended", err
	}
	p.note(ctx, "shadow", "over: "+held.Verdict.Reason)
	return "", nil
}

func (p *promotion) setShadow(ctx workflow.Context, step lifecycle.ShadowStep, share lifecycle.BasisPoints, reason string) error {
	_, err := steps.SetShadow.Run(ctx, steps.ShadowShareInput{
		Service: p.service.Name, Claim: p.claim, Share: share, Deadline: step.Deadline.D(), By: p.by, Reason: reason,
	})
	if err == nil {
		p.state.Rollout.Shadowing = share
	}
	return err
}

// holdShadow holds the step through pauses, in which its clock stands.
func (p *promotion) holdShadow(ctx workflow.Context) (steps.ShadowResult, error) {
	in := steps.ShadowInput{Service: p.service.Name, Claim: p.claim, Release: p.result.Release, Policy: p.service.Rollout}
	for {
		in.Paused = p.paused
		result, err := p.keepShadow(ctx, &in)
		switch {
		case err != nil || p.stop != "":
			return steps.ShadowResult{}, err
		case result == nil: // paused or resumed
		case result.Reason == steps.HoldTime && p.service.Rollout.AtBound == "ask":
			p.ask(ctx, result.Verdict.Reason)
			in.Elapsed = 0
		default:
			return *result, nil
		}
	}
}

// keepShadow is keep for the shadow step.
func (p *promotion) keepShadow(ctx workflow.Context, in *steps.ShadowInput) (*steps.ShadowResult, error) {
	holding, cancel := workflow.WithCancel(ctx)
	defer cancel()
	began := workflow.Now(ctx)
	future := steps.HoldShadow.Start(holding, *in)
	if err := workflow.Await(ctx, func() bool { return future.IsReady() || p.paused != in.Paused || p.stop != "" }); err != nil {
		return nil, err
	}
	interrupted := !future.IsReady()
	if interrupted {
		cancel()
		if p.stop != "" {
			return nil, nil
		}
	}
	var out steps.ShadowResult
	err := future.Get(ctx, &out)
	if !in.Paused {
		in.Elapsed += workflow.Now(ctx).Sub(began)
	}
	if interrupted && (err != nil || out.Reason == "") {
		return nil, ctx.Err()
	}
	return &out, err
}
