package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// listen lets people step in. Every Update has a pure validator, is idempotent by its key, and goes to
// the ledger.
func (p *promotion) listen(ctx workflow.Context) error {
	interventions := map[string]struct {
		kind  lifecycle.LedgerKind
		check func() error
		apply func(steps.Intervention)
	}{
		steps.PauseUpdate:  {lifecycle.Paused, p.running, func(steps.Intervention) { p.paused = true }},
		steps.ResumeUpdate: {lifecycle.Resumed, p.isPaused, func(steps.Intervention) { p.paused = false }},
		steps.RejectUpdate: {lifecycle.Rejected, p.awaitsApproval, func(i steps.Intervention) {
			p.stop = fmt.Sprintf("rejected by %s: %s", i.By, i.Reason)
		}},
		steps.AbortUpdate: {lifecycle.Rejected, p.running, func(i steps.Intervention) {
			p.stop = fmt.Sprintf("aborted by %s: %s", i.By, i.Reason)
		}},
	}
	for _, name := range []string{steps.PauseUpdate, steps.ResumeUpdate, steps.RejectUpdate, steps.AbortUpdate} {
		rule := interventions[name]
		handle := func(ctx workflow.Context, i steps.Intervention) (steps.State, error) {
			if !p.seen[i.Key] {
				p.seen[i.Key] = true
				rule.apply(i)
				p.noteIntervention(ctx, name, i.By, i.Reason)
				p.record(ctx, rule.kind, i.Key, i.By, i.Reason)
			}
			return p.state, nil
		}
		validate := func(_ workflow.Context, i steps.Intervention) error {
			return steps.ToTemporal(p.checkIntervention(i, rule.check))
		}
		err := workflow.SetUpdateHandlerWithOptions(ctx, name, handle, workflow.UpdateHandlerOptions{Validator: validate})
		if err != nil {
			return fmt.Errorf("listen to %s: %w", name, err)
		}
	}
	return p.listenApprovals(ctx)
}

func (p *promotion) listenApprovals(ctx workflow.Context) error {
	handle := func(ctx workflow.Context, a steps.Approval) (steps.State, error) {
		if !p.seen[a.Key] {
			p.seen[a.Key] = true
			p.approved[a.Grant.Step] = true
			p.record(ctx, lifecycle.Approved, a.Key, a.Grant.Approver, fmt.Sprintf("step %d", a.Grant.Step+1))
		}
		return p.state, nil
	}
	validate := func(ctx workflow.Context, a steps.Approval) error {
		if p.seen[a.Key] {
			return nil
		}
		if err := p.awaitsApproval(); err != nil {
			return steps.ToTemporal(err)
		}
		return steps.ToTemporal(a.Grant.Verify(p.grantKey, p.owner, p.nextStep(), p.result.Release, workflow.Now(ctx)))
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, steps.ApproveUpdate, handle, workflow.UpdateHandlerOptions{Validator: validate})
	if err != nil {
		return fmt.Errorf("listen to %s: %w", steps.ApproveUpdate, err)
	}
	return nil
}

func (p *promotion) checkIntervention(i steps.Intervention, check func() error) error {
	if i.Key == "" || i.By == "" || len(i.Key) > 128 || len(i.By) > 128 || len(i.Reason) > 2000 {
		return lifecycle.Errorf(lifecycle.Invalid, "intervention: give key and by, at most 128 characters each, and a reason of at most 2000")
	}
	if p.seen[i.Key] {
		return nil
	}
	return check()
}

func (p *promotion) running() error {
	if p.state.Rollout == nil || p.result.Phase != "" || p.stop != "" {
		return lifecycle.Errorf(lifecycle.Refused, "promotion: no step is running now (phase %s)", p.state.Phase)
	}
	return nil
}

func (p *promotion) isPaused() error {
	if !p.paused {
		return lifecycle.Errorf(lifecycle.Refused, "promotion: it is not paused")
	}
	return nil
}

func (p *promotion) awaitsApproval() error {
	if p.state.Rollout == nil || !p.state.Rollout.AwaitsApproval {
		return lifecycle.Errorf(lifecycle.Refused, "promotion: it does not wait for an approval now (phase %s)", p.state.Phase)
	}
	return nil
}

// nextStep is the step that waits for approval.
func (p *promotion) nextStep() int { return len(p.result.Steps) }

// awaitApproval waits for a grant. A share that is already out stays out and is watched for harm.
func (p *promotion) awaitApproval(ctx workflow.Context, i int, step lifecycle.StepPolicy) error {
	if !step.Approval && !p.in.Approval {
		return nil
	}
	p.state.Rollout.AwaitsApproval = true
	p.note(ctx, "waiting for approval", fmt.Sprintf("of step %d at %s: refit approve %s", i+1, step.Share, p.service.Name))
	answered := func() bool { return p.approved[i] || p.stop != "" }
	err := p.waitExposed(ctx, answered)
	p.state.Rollout.AwaitsApproval = false
	if err == nil && p.stop != "" {
		err = steps.ToTemporal(lifecycle.Errorf(lifecycle.Refused, "%s", p.stop))
	}
	return err
}

func (p *promotion) waitExposed(ctx workflow.Context, answered func() bool) error {
	if !p.exposed {
		return workflow.Await(ctx, answered)
	}
	in := p.current
	in.Paused = true
	held, err := p.keep(ctx, in, answered)
	if err != nil || held == nil {
		return err
	}
	kind := lifecycle.Refused
	if held.Reason == steps.HoldFenced {
		kind = lifecycle.Fenced
	}
	return steps.ToTemporal(lifecycle.Errorf(kind, "%s", held.Verdict.Reason))
}

func (p *promotion) noteIntervention(ctx workflow.Context, name, by, reason string) {
	if p.state.Rollout != nil {
		p.state.Rollout.Paused = p.paused
	}
	p.note(ctx, p.state.Phase, fmt.Sprintf("%s by %s: %s", name, by, reason))
}

// record writes what a person did. A ledger that does not take it now is tried for a day; the
// intervention itself has already taken effect.
func (p *promotion) record(ctx workflow.Context, kind lifecycle.LedgerKind, key, by, reason string) {
	_, err := steps.Record.Run(ctx, steps.RecordInput{
		Key: key,
		Entry: lifecycle.LedgerEntry{
			Service: p.service.Name, Kind: kind, Subject: string(p.result.Release),
			Actor: lifecycle.Actor{Name: by, Via: "update"}, Reason: reason,
		},
	})
	if err != nil {
		workflow.GetLogger(ctx).Error("intervention not in the ledger", "kind", kind, "error", err)
	}
}
