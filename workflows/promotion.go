package workflows

import (
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// PromoteRelease moves a gated release to all traffic, in steps, and takes it back when what it does to
// users, a person or the policy says so. A refused gate ends the run with the gate's kind of error; a
// rollback is a result, not an error.
func PromoteRelease(ctx workflow.Context, raw converter.RawValue) (steps.PromotionResult, error) {
	in, err := steps.Decode[steps.PromotionInput](raw)
	if err != nil {
		return steps.PromotionResult{}, err
	}
	l, err := openExclusive(ctx, in.Service, lifecycle.PromotionLoop, in.By)
	if err != nil {
		return steps.PromotionResult{}, err
	}
	defer l.close(ctx)
	p := &promotion{loop: l, in: in, seen: map[string]bool{}, approved: map[int]bool{}}
	if err := p.listen(ctx); err != nil {
		return steps.PromotionResult{}, err
	}
	if err := p.passGate(ctx); err != nil {
		return p.result, err
	}
	return p.run(ctx)
}

// promotion is the state of one rollout.
type promotion struct {
	*loop
	in     steps.PromotionInput
	result steps.PromotionResult

	baseline lifecycle.Digest
	current  steps.HoldInput // the share that is being held; Policy is empty before the first
	exposed  bool

	paused   bool
	approved map[int]bool // by step
	stop     string       // why a person ended it; empty: nobody did
	seen     map[string]bool
}

func (p *promotion) passGate(ctx workflow.Context) error {
	p.note(ctx, "planning", "candidate, baseline and suite")
	plan, err := steps.PlanEvaluation.Run(ctx, steps.PlanEvaluationInput{
		Service: p.service.Name, Release: p.in.Release, By: p.by,
	})
	if err != nil {
		return err
	}
	p.result.Release, p.baseline = plan.Candidate, plan.Baseline
	p.state.Release = string(plan.Candidate)
	if plan.Candidate == plan.Baseline {
		return steps.ToTemporal(lifecycle.Errorf(lifecycle.Conflict, "release: %s is the stable release already", plan.Candidate.Short()))
	}
	verdict := plan.Verdict
	if verdict == nil {
		p.note(ctx, "gate", "evaluating "+plan.Candidate.Short()+" on suite "+plan.Suite.Short())
		answer, err := share(ctx, steps.EvaluateRelease,
			steps.EvaluationWorkflowID(p.service.Name, plan.Candidate, plan.Baseline, plan.Suite),
			steps.EvaluationInput{
				Service: p.service.Name, Release: string(plan.Candidate), Baseline: string(plan.Baseline), By: p.by.Name,
			}, steps.AwaitVerdict)
		if err != nil {
			return err
		}
		verdict = &answer
	}
	p.result.Verdict = verdict
	p.note(ctx, "gate", string(verdict.Outcome))
	return steps.ToTemporal(verdict.Outcome.Err(fmt.Sprint(verdict.Reasons)))
}

func (p *promotion) run(ctx workflow.Context) (steps.PromotionResult, error) {
	p.note(ctx, "loading", "release "+p.result.Release.Short())
	if _, err := steps.LoadRelease.Run(ctx, steps.LoadInput{Service: p.service.Name, Release: p.result.Release}); err != nil {
		return p.result, err
	}
	if p.baseline == "" {
		return p.becomeFirst(ctx)
	}
	_, err := steps.StartRollout.Run(ctx, steps.RolloutInput{
		Service: p.service.Name, Claim: p.claim, Release: p.result.Release, By: p.by,
	})
	if err != nil {
		return p.rollBack(ctx, "the rollout could not be opened", err)
	}
	p.state.Rollout = &steps.PromotionState{
		Candidate: p.result.Release, Baseline: p.baseline, StepsTotal: len(p.service.Rollout.Steps),
	}
	for i, step := range p.service.Rollout.Steps {
		if err := p.awaitApproval(ctx, i, step); err != nil {
			return p.rollBack(ctx, "step not approved", err)
		}
		if err := p.expose(ctx, i, step); err != nil {
			return p.rollBack(ctx, "share could not be set", err)
		}
		held, err := p.awaitVerdict(ctx, i)
		if err != nil || held.Reason != steps.HoldEnough {
			return p.rollBack(ctx, held.Verdict.Reason, err)
		}
	}
	return p.makeStable(ctx)
}

func (p *promotion) becomeFirst(ctx workflow.Context) (steps.PromotionResult, error) {
	reason := "first release of the service: there is nothing to compare it with in traffic"
	_, err := steps.FirstStable.Run(ctx, steps.FirstStableInput{
		Service: p.service.Name, Claim: p.claim, Release: p.result.Release, By: p.by, Reason: reason,
	})
	if err != nil {
		return p.result, err
	}
	p.result.Phase, p.result.Reason = lifecycle.RolloutPromoted, reason
	p.note(ctx, "promoted", reason)
	return p.result, nil
}

// expose sets the step's share. From here the lease must be renewed, which awaitVerdict does.
func (p *promotion) expose(ctx workflow.Context, i int, step lifecycle.StepPolicy) error {
	_, err := steps.SetShare.Run(ctx, steps.ShareInput{
		Service: p.service.Name, Claim: p.claim, Step: i, Share: step.Share, By: p.by,
		Reason: fmt.Sprintf("step %d of %d", i+1, len(p.service.Rollout.Steps)),
	})
	if err != nil {
		return err
	}
	p.exposed = true
	p.current = steps.HoldInput{
		Service: p.service.Name, Claim: p.claim, Release: p.result.Release, Step: i, Policy: p.service.Rollout,
	}
	p.state.Rollout.Step, p.state.Rollout.Share = i, step.Share
	p.note(ctx, "canary", fmt.Sprintf("step %d of %d at %s", i+1, len(p.service.Rollout.Steps), step.Share))
	return nil
}

// awaitVerdict holds the share until there is a reason to end the step, and records the step.
func (p *promotion) awaitVerdict(ctx workflow.Context, i int) (steps.HoldResult, error) {
	started := workflow.Now(ctx)
	var held steps.HoldResult
	for {
		in := p.current
		in.Paused = p.paused
		before := p.paused
		result, err := p.keep(ctx, in, func() bool { return p.paused != before || p.stop != "" })
		if err != nil {
			return held, err
		}
		if p.stop != "" {
			held.Verdict.Reason = p.stop
			return held, nil
		}
		if result == nil {
			continue // paused or resumed in the middle
		}
		held = *result
		if held.Reason == steps.HoldTime && p.service.Rollout.AtBound == "ask" {
			p.ask(ctx, held.Verdict.Reason)
			continue
		}
		break
	}
	record := lifecycle.StepRecord{
		Index: i, Allowed: p.service.Rollout.Steps[i].Share, Verdict: held.Verdict,
		StartedAt: started, EndedAt: workflow.Now(ctx),
	}
	if held.Reason == steps.HoldFenced {
		return held, steps.ToTemporal(lifecycle.Errorf(lifecycle.Fenced, "%s", held.Verdict.Reason))
	}
	if _, err := steps.RecordStep.Run(ctx, steps.StepInput{Service: p.service.Name, Claim: p.claim, Record: record, By: p.by}); err != nil {
		return held, err
	}
	p.result.Steps = append(p.result.Steps, record)
	p.state.Rollout.Done = p.result.Steps
	return held, nil
}

// keep renews the lease of the current share until done says so (then the result is nil) or the hold
// ends with a reason of its own. The step's clock runs only while it is not paused.
func (p *promotion) keep(ctx workflow.Context, in steps.HoldInput, done func() bool) (*steps.HoldResult, error) {
	holding, cancel := workflow.WithCancel(ctx)
	defer cancel()
	began := workflow.Now(ctx)
	future := steps.HoldStep.Start(holding, in)
	if err := workflow.Await(ctx, func() bool { return future.IsReady() || done() }); err != nil {
		return nil, err
	}
	interrupted := !future.IsReady()
	if interrupted {
		cancel()
	}
	var out steps.HoldResult
	err := future.Get(ctx, &out)
	if !in.Paused {
		p.current.Elapsed += workflow.Now(ctx).Sub(began)
	}
	if interrupted {
		return nil, ctx.Err()
	}
	return &out, err
}

func (p *promotion) makeStable(ctx workflow.Context) (steps.PromotionResult, error) {
	end := p.end("every step proved what it had to")
	out, err := steps.MakeStable.Run(ctx, end)
	if err != nil {
		return p.rollBack(ctx, "could not be promoted", err)
	}
	p.result.Phase, p.result.Reason, p.result.Touched = lifecycle.RolloutPromoted, end.Reason, &out.Touched
	p.note(ctx, "promoted", fmt.Sprintf("generation %d", out.Generation))
	if _, err := steps.UnloadUnused.Run(ctx, steps.UnloadInput{Service: p.service.Name}); err != nil {
		workflow.GetLogger(ctx).Warn("model servers that no route needs are still loaded", "error", err)
	}
	return p.result, nil
}

// rollBack gives all traffic back to stable, whatever happened, also after a cancellation. Who was
// fenced has nothing to give back: somebody newer decides, and this run ends as rolled back.
func (p *promotion) rollBack(ctx workflow.Context, reason string, cause error) (steps.PromotionResult, error) {
	canceled := ctx.Err() // before the context below hides it
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if reason == "" {
		reason = "the step did not end well"
	}
	if cause != nil {
		reason += ": " + steps.FromTemporal(cause).Error()
	}
	if canceled != nil {
		reason = "the workflow was cancelled"
	}
	p.result.Phase, p.result.Reason = lifecycle.RolloutRolledBack, reason
	if steps.KindOf(cause) != lifecycle.Fenced {
		p.note(ctx, "rolling back", reason)
		out, err := steps.RollBack.Run(ctx, p.end(reason))
		if err != nil && steps.KindOf(err) != lifecycle.Fenced {
			return p.result, err
		}
		p.result.Touched = &out.Touched
	}
	p.note(ctx, "rolled back", reason)
	return p.result, canceled
}

func (p *promotion) end(reason string) steps.EndInput {
	invalid := len(p.result.Steps) > 0 && p.result.Steps[len(p.result.Steps)-1].Verdict.Invalid
	return steps.EndInput{Service: p.service.Name, Claim: p.claim, By: p.by, Reason: reason, Invalid: invalid}
}

// ask stops the step's clock and waits, with the share held, until a person resumes or aborts.
func (p *promotion) ask(ctx workflow.Context, reason string) {
	p.paused, p.state.Rollout.Paused = true, true
	p.current.Elapsed = 0
	p.note(ctx, "asking", reason+"; resume to hold for another bound, or abort")
}
