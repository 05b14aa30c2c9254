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
	l, err := openExclusive(ctx, raw, in.Service, lifecycle.PromotionLoop, in.By)
	if err != nil {
		return steps.PromotionResult{}, err
	}
	p := &promotion{loop: l, in: in, seen: map[string]bool{}, approved: map[int]bool{}, firsts: map[string]first{}}
	err = p.promote(ctx)
	return p.result, l.close(ctx, err)
}

// promotion is the state of one rollout.
type promotion struct {
	*loop
	in     steps.PromotionInput
	result steps.PromotionResult

	baseline lifecycle.Digest
	current  steps.HoldInput // the share that is being held; Policy is empty before the first
	exposed  bool
	invalid  bool // more was served than was allowed

	policed    bool            // freezes hold it
	thaw       workflow.Future // when the freeze that it waits for is over; nil: it waits for none
	stopAsking func()          // ends the step behind it
	paused     bool
	approved   map[int]bool    // by step
	stop       string          // why a person ended it; empty: nobody did
	interrupt  func()          // ends what goes on before the rollout is opened
	seen       map[string]bool // interventions, by name and key

	proving bool             // a name that is typed counts for nothing where a second person is asked for
	firsts  map[string]first // of two persons that are asked for, by what they are to allow
}

func (p *promotion) promote(ctx workflow.Context) error {
	p.proving = workflow.GetVersion(ctx, startersProven, workflow.DefaultVersion, 1) >= 1
	p.policed = workflow.GetVersion(ctx, freezesHold, workflow.DefaultVersion, 1) >= 1
	if err := p.listen(ctx); err != nil {
		return err
	}
	err := p.prepare(ctx)
	if p.stop != "" && ctx.Err() == nil {
		return p.stopBefore(ctx)
	}
	if err != nil {
		return err
	}
	if p.baseline == "" {
		return p.becomeFirst(ctx)
	}
	return p.rollOut(ctx)
}

// prepare passes the gate and loads the release. Nothing serves it to users yet.
func (p *promotion) prepare(ctx workflow.Context) error {
	ctx, p.interrupt = workflow.WithCancel(ctx)
	if err := p.passGate(ctx); err != nil {
		return err
	}
	p.note(ctx, "loading", "release "+p.result.Release.Short())
	_, err := steps.LoadRelease.Run(ctx, steps.LoadInput{Service: p.service.Name, Release: p.result.Release})
	return err
}

// stopBefore ends a promotion that a person stopped before it changed anything.
func (p *promotion) stopBefore(ctx workflow.Context) error {
	p.closing = true
	p.result.Phase, p.result.Reason = lifecycle.RolloutRolledBack, p.stop
	p.note(ctx, "stopped", p.stop+"; nothing was served yet")
	return nil
}

func (p *promotion) passGate(ctx workflow.Context) error {
	plan, err := p.plan(ctx)
	for err == nil {
		waited, frozen := p.passFreeze(ctx)
		if frozen != nil {
			return frozen
		}
		if !waited {
			break
		}
		plan, err = p.plan(ctx) // a wait may have been long
	}
	if err == nil {
		err = p.planRollout(ctx)
	}
	if err != nil {
		return err
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
	if err := checkVerdict(plan, *verdict); err != nil {
		return err
	}
	return steps.ToTemporal(verdict.Outcome.Err(fmt.Sprint(verdict.Reasons)))
}

// plan finds what is to be promoted against what.
func (p *promotion) plan(ctx workflow.Context) (steps.EvaluationPlan, error) {
	p.note(ctx, "planning", "candidate, baseline and suite")
	plan, err := steps.PlanEvaluation.Run(ctx, steps.PlanEvaluationInput{
		Service: p.service.Name, Release: p.in.Release, By: p.by,
	})
	if err != nil {
		return plan, err
	}
	p.result.Release, p.baseline = plan.Candidate, plan.Baseline
	p.state.Release = string(plan.Candidate)
	if plan.Candidate == plan.Baseline {
		err = steps.ToTemporal(lifecycle.Errorf(lifecycle.Conflict, "release: %s is the stable release already", plan.Candidate.Short()))
	}
	return plan, err
}

// checkVerdict refuses an answer to another question: whoever may start workflows can start one under the ID
// by which the answer is shared.
func checkVerdict(plan steps.EvaluationPlan, v lifecycle.Verdict) error {
	if v.Candidate == plan.Candidate && v.Baseline == plan.Baseline && v.Suite == plan.Suite {
		return nil
	}
	return steps.ToTemporal(lifecycle.Errorf(lifecycle.Unavailable,
		"the gate could not judge: the verdict is on release %q against %q by suite %q; asked was %q against %q by %q",
		v.Candidate.Short(), v.Baseline.Short(), v.Suite.Short(),
		plan.Candidate.Short(), plan.Baseline.Short(), plan.Suite.Short()))
}

func (p *promotion) rollOut(ctx workflow.Context) error {
	_, err := steps.StartRollout.Run(ctx, steps.RolloutInput{
		Service: p.service.Name, Claim: p.claim, Release: p.result.Release, By: p.by,
	})
	if err != nil {
		return p.rollBack(ctx, "the rollout could not be opened", err)
	}
	p.state.Rollout = &steps.PromotionState{
		Candidate: p.result.Release, Baseline: p.baseline, StepsTotal: len(p.service.Rollout.Steps),
	}
	if reason, err := p.shadow(ctx); err != nil || reason != "" {
		return p.rollBack(ctx, reason, err)
	}
	for i, step := range p.service.Rollout.Steps {
		err := p.awaitApproval(ctx, i, step)
		if err == nil {
			err = p.awaitThaw(ctx)
		}
		if err != nil {
			return p.rollBack(ctx, fmt.Sprintf("step %d not begun", i+1), err)
		}
		if err := p.expose(ctx, i, step); err != nil {
			return p.rollBack(ctx, "share could not be set", err)
		}
		held, err := p.awaitVerdict(ctx, i)
		if err != nil || held.Reason != steps.HoldEnough {
			return p.rollBack(ctx, held.Verdict.Reason, err)
		}
	}
	if err := p.awaitLeave(ctx, func() bool { return true }); err != nil {
		return p.rollBack(ctx, "not made stable", err)
	}
	if err := p.awaitThaw(ctx); err != nil {
		return p.rollBack(ctx, "not made stable", err)
	}
	return p.makeStable(ctx)
}

// becomeFirst makes the first release stable. There are no steps, so a person is asked only where the input
// says so.
func (p *promotion) becomeFirst(ctx workflow.Context) error {
	if p.in.Approval {
		p.state.Rollout = &steps.PromotionState{Candidate: p.result.Release, StepsTotal: 1}
		err := p.awaitApproval(ctx, 0, lifecycle.StepPolicy{Share: lifecycle.Whole})
		if p.stop != "" && ctx.Err() == nil {
			return p.stopBefore(ctx)
		}
		if err != nil {
			return err
		}
	}
	err := p.awaitThaw(ctx)
	if p.stop != "" && ctx.Err() == nil {
		return p.stopBefore(ctx)
	}
	if err != nil {
		return err
	}
	reason := "first release of the service: there is nothing to compare it with in traffic"
	err = p.whenThawed(ctx, func() (*lifecycle.Frozen, error) {
		p.closing = true
		out, err := steps.FirstStable.Run(ctx, steps.FirstStableInput{
			Service: p.service.Name, Claim: p.claim, Release: p.result.Release, By: p.by, Reason: reason,
			Freezes: p.freezes(), Glass: p.state.Glass,
		})
		p.closing = out.Frozen == nil
		return out.Frozen, err
	})
	if p.stop != "" && ctx.Err() == nil {
		return p.stopBefore(ctx)
	}
	if err != nil {
		return err
	}
	p.result.Phase, p.result.Reason = lifecycle.RolloutPromoted, reason
	p.note(ctx, "promoted", reason)
	return nil
}

// expose sets the step's share. From here the lease must be renewed, which awaitVerdict does.
func (p *promotion) expose(ctx workflow.Context, i int, step lifecycle.StepPolicy) error {
	err := p.whenThawed(ctx, func() (*lifecycle.Frozen, error) {
		out, err := steps.SetShare.Run(ctx, steps.ShareInput{
			Service: p.service.Name, Claim: p.claim, Step: i, Share: step.Share, By: p.by,
			Reason:  fmt.Sprintf("step %d of %d", i+1, len(p.service.Rollout.Steps)),
			Freezes: p.freezes(), Glass: p.state.Glass,
		})
		return out.Frozen, err
	})
	if err != nil {
		return err
	}
	p.exposed = true
	p.current = steps.HoldInput{
		Service: p.service.Name, Claim: p.claim, Release: p.result.Release, Step: i, Policy: p.service.Rollout,
	}
	p.current.Freezes = p.freezes()
	p.state.Rollout.Step, p.state.Rollout.Share = i, step.Share
	p.note(ctx, "canary", fmt.Sprintf("step %d of %d at %s", i+1, len(p.service.Rollout.Steps), step.Share))
	return nil
}

// awaitVerdict holds the share until there is a reason to end the step, and records the step.
func (p *promotion) awaitVerdict(ctx workflow.Context, i int) (steps.HoldResult, error) {
	started := workflow.Now(ctx)
	held, err := p.holdToEnd(ctx)
	if failed := p.endFreeze(ctx); err == nil {
		err = failed
	}
	if err != nil || p.stop != "" {
		return held, err
	}
	if held.Reason == steps.HoldFenced {
		return held, steps.ToTemporal(lifecycle.Errorf(lifecycle.Fenced, "%s", held.Verdict.Reason))
	}
	record := lifecycle.StepRecord{
		Index: i, Allowed: p.service.Rollout.Steps[i].Share, Verdict: held.Verdict,
		StartedAt: started, EndedAt: workflow.Now(ctx),
	}
	if _, err := steps.RecordStep.Run(ctx, steps.StepInput{Service: p.service.Name, Claim: p.claim, Record: record, By: p.by}); err != nil {
		return held, err
	}
	record.Verdict = record.Verdict.Brief() // its intervals are in the registry and the ledger
	p.result.Steps = append(p.result.Steps, record)
	p.state.Rollout.Done = p.result.Steps
	return held, nil
}

// holdToEnd holds through pauses and freezes, in which the step's clock stands.
func (p *promotion) holdToEnd(ctx workflow.Context) (held steps.HoldResult, err error) {
	for {
		in := p.current
		paused, frozen := p.paused, p.thaw != nil
		in.Paused, in.Glass = paused || frozen, p.state.Glass
		result, err := p.keep(ctx, in, func() bool {
			return p.paused != paused || !p.state.Glass.Equal(in.Glass) || p.thawed(ctx) || p.stop != ""
		})
		switch {
		case err != nil:
			return held, err
		case p.stop != "":
			held.Verdict.Reason = p.stop
			return held, nil
		case result == nil: // something changed in the middle
			if p.thawed(ctx) {
				if err := p.endFreeze(ctx); err != nil {
					return held, err
				}
			}
			continue
		}
		held = *result
		switch {
		case held.Reason == steps.HoldFrozen && held.Frozen != nil:
			p.freeze(ctx, *held.Frozen)
		case held.Reason == steps.HoldTime && p.service.Rollout.AtBound == "ask":
			p.ask(ctx, held.Verdict.Reason)
		default:
			return held, nil
		}
	}
}

// keep renews the lease of the current share until done says so (then the result is nil) or the hold
// ends with a reason of its own. The step's clock runs only while it is not paused. A hold that ends for a
// pause is waited for; one that ends for good is not, because the way back must not wait for its heartbeat.
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
		if p.stop != "" {
			return nil, nil
		}
	}
	var out steps.HoldResult
	err := future.Get(ctx, &out)
	if !in.Paused {
		p.current.Elapsed += workflow.Now(ctx).Sub(began)
	}
	if interrupted && (err != nil || out.Reason == "") {
		return nil, ctx.Err()
	}
	p.invalid = p.invalid || out.Reason == steps.HoldInvalid
	return &out, err
}

func (p *promotion) makeStable(ctx workflow.Context) error {
	var out steps.EndResult
	end := p.end("every step proved what it had to")
	err := p.whenThawed(ctx, func() (frozen *lifecycle.Frozen, err error) {
		p.closing = true
		end.Freezes, end.Glass = p.freezes(), p.state.Glass
		out, err = steps.MakeStable.Run(ctx, end)
		p.closing = out.Frozen == nil
		return out.Frozen, err
	})
	if err != nil {
		return p.rollBack(ctx, "could not be promoted", err)
	}
	p.result.Phase, p.result.Reason, p.result.Touched = lifecycle.RolloutPromoted, end.Reason, &out.Touched
	p.note(ctx, "promoted", fmt.Sprintf("generation %d", out.Generation))
	if _, err := steps.UnloadUnused.Run(ctx, steps.UnloadInput{Service: p.service.Name}); err != nil {
		workflow.GetLogger(ctx).Warn("model servers that no route needs are still loaded", "error", err)
	}
	return nil
}

// rollBack gives all traffic back to stable, whatever happened, also after a cancellation. Who was
// fenced has nothing to give back: somebody newer decides, and this run ends as rolled back.
func (p *promotion) rollBack(ctx workflow.Context, reason string, cause error) error {
	p.closing = true
	canceled := ctx.Err() // before the context below hides it
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	p.result.Phase, p.result.Reason = lifecycle.RolloutRolledBack, endReason(reason, cause, canceled)
	if p.invalid {
		p.result.Phase = lifecycle.RolloutInvalid
	}
	if steps.KindOf(cause) != lifecycle.Fenced {
		p.note(ctx, "rolling back", p.result.Reason)
		out, err := steps.RollBack.Run(ctx, p.end(p.result.Reason))
		switch {
		case err == nil:
			p.result.Touched = &out.Touched
		case steps.KindOf(err) != lifecycle.Fenced:
			return err
		}
	}
	p.note(ctx, "rolled back", p.result.Reason)
	return canceled
}

func endReason(reason string, cause, canceled error) string {
	switch {
	case canceled != nil:
		return "the workflow was cancelled"
	case steps.KindOf(cause) == lifecycle.Fenced:
		return "somebody newer decides: " + steps.FromTemporal(cause).Error()
	case reason == "":
		reason = "the step did not end well"
	}
	if cause != nil {
		reason += ": " + steps.FromTemporal(cause).Error()
	}
	return reason
}

func (p *promotion) end(reason string) steps.EndInput {
	return steps.EndInput{Service: p.service.Name, Claim: p.claim, By: p.by, Reason: clip(reason, maxNote), Invalid: p.invalid}
}

// ask stops the step's clock and waits, with the share held, until a person resumes or aborts.
func (p *promotion) ask(ctx workflow.Context, reason string) {
	p.paused, p.state.Rollout.Paused = true, true
	p.current.Elapsed = 0
	p.note(ctx, "asking", reason+"; resume to hold for another bound, or abort")
}
