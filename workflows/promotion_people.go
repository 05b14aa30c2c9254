package workflows

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// listen lets people step in. Every Update has a pure validator, is idempotent by its name and key, and
// goes to the ledger.
func (p *promotion) listen(ctx workflow.Context) error {
	interventions := map[string]struct {
		kind  lifecycle.LedgerKind
		check func() error
		apply func(steps.Intervention)
	}{
		steps.PauseUpdate:  {lifecycle.Paused, p.isOpen, func(steps.Intervention) { p.paused = true }},
		steps.ResumeUpdate: {lifecycle.Resumed, p.isPaused, func(steps.Intervention) { p.paused = false }},
		steps.RejectUpdate: {lifecycle.Rejected, p.awaitsApproval, func(i steps.Intervention) {
			p.stop = fmt.Sprintf("rejected by %s: %s", intervenes(i), i.Reason)
		}},
		steps.AbortUpdate: {lifecycle.Rejected, p.goesOn, func(i steps.Intervention) {
			p.stop = fmt.Sprintf("aborted by %s: %s", intervenes(i), i.Reason)
			p.interrupt()
		}},
	}
	for _, name := range []string{steps.PauseUpdate, steps.ResumeUpdate, steps.RejectUpdate, steps.AbortUpdate} {
		rule := interventions[name]
		handle := func(ctx workflow.Context, i steps.Intervention) (steps.State, error) {
			if key := name + "/" + i.Key; !p.seen[key] {
				p.seen[key] = true
				rule.apply(i)
				p.noteIntervention(ctx, name, intervenes(i), i.Reason)
				p.record(ctx, key, lifecycle.LedgerEntry{Kind: rule.kind, Actor: intervenes(i), Reason: i.Reason})
			}
			return p.state, nil
		}
		validate := func(ctx workflow.Context, i steps.Intervention) error {
			return steps.ToTemporal(p.checkIntervention(name, i, workflow.Now(ctx), rule.check))
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
		if key := steps.ApproveUpdate + "/" + a.Key; !p.seen[key] {
			p.seen[key] = true
			what := fmt.Sprintf("step %d", a.Grant.Step+1)
			if p.service.Rollout.FourEyes && !p.bothAllow(ctx, what, a.Grant) {
				p.recordGrant(ctx, key, lifecycle.Approved, approvedFor(a.Grant)+firstOfTwo, a.Grant)
				return p.state, nil
			}
			p.approved[a.Grant.Step] = true
			p.state.Rollout.AwaitsApproval = false
			p.recordGrant(ctx, key, lifecycle.Approved, approvedFor(a.Grant), a.Grant)
		}
		return p.state, nil
	}
	validate := func(ctx workflow.Context, a steps.Approval) error {
		return steps.ToTemporal(p.checkApproval(a, workflow.Now(ctx)))
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, steps.ApproveUpdate, handle, workflow.UpdateHandlerOptions{Validator: validate})
	if err != nil {
		return fmt.Errorf("listen to %s: %w", steps.ApproveUpdate, err)
	}
	return p.listenBreakGlass(ctx)
}

func approvedFor(g lifecycle.Grant) string {
	if g.Reason == "" {
		return fmt.Sprintf("step %d", g.Step+1)
	}
	return fmt.Sprintf("step %d: %s", g.Step+1, clip(g.Reason, lifecycle.MaxReason))
}

// intervenes is who stepped in, or is said to have; the validator checked the grant.
func intervenes(i steps.Intervention) lifecycle.Actor {
	if i.Grant != nil {
		return lifecycle.Actor{Name: i.By, Via: lifecycle.ViaGrant}
	}
	return lifecycle.Actor{Name: i.By, Via: lifecycle.ViaUpdate}
}

func (p *promotion) checkIntervention(name string, i steps.Intervention, now time.Time, check func() error) error {
	if i.Key == "" || i.By == "" || len(i.Key) > 128 || len(i.By) > 128 || len(i.Reason) > 2000 {
		return lifecycle.Errorf(lifecycle.Invalid, "intervention: give key and by, at most 128 characters each, and a reason of at most 2000")
	}
	if p.seen[name+"/"+i.Key] {
		return nil
	}
	if i.Grant != nil {
		if err := i.Grant.VerifyIntervention(p.grantKey, p.owner, name, i.Key, now); err != nil {
			return err
		}
		if i.Grant.Approver != i.By {
			return lifecycle.Errorf(lifecycle.Refused, "%s: the grant is %s's", name, i.Grant.Approver)
		}
	}
	return check()
}

func (p *promotion) checkApproval(a steps.Approval, now time.Time) error {
	if a.Key == "" || len(a.Key) > 128 {
		return lifecycle.Errorf(lifecycle.Invalid, "approval: give a key of at most 128 characters")
	}
	if p.seen[steps.ApproveUpdate+"/"+a.Key] {
		return nil
	}
	if err := p.awaitsApproval(); err != nil {
		return err
	}
	if err := a.Grant.Verify(p.grantKey, p.owner, p.nextStep(), p.result.Release, now); err != nil {
		return err
	}
	if p.service.Rollout.FourEyes {
		return p.checkSecond("approval", fmt.Sprintf("step %d", a.Grant.Step+1), a.Grant.Approver, now)
	}
	return nil
}

// goesOn: the way out is not decided yet.
func (p *promotion) goesOn() error {
	if p.closing || p.stop != "" {
		return lifecycle.Errorf(lifecycle.Refused, "promotion: it is ending already (phase %s)", p.state.Phase)
	}
	return nil
}

// isOpen: there are steps to hold.
func (p *promotion) isOpen() error {
	if p.state.Rollout == nil {
		return lifecycle.Errorf(lifecycle.Refused, "promotion: no step is running now (phase %s); abort it, or wait for the first", p.state.Phase)
	}
	return p.goesOn()
}

func (p *promotion) isPaused() error {
	if !p.paused {
		return lifecycle.Errorf(lifecycle.Refused, "promotion: it is not paused")
	}
	return p.goesOn()
}

func (p *promotion) awaitsApproval() error {
	if p.state.Rollout == nil || !p.state.Rollout.AwaitsApproval || p.goesOn() != nil {
		return lifecycle.Errorf(lifecycle.Refused, "promotion: it does not wait for an approval now (phase %s)", p.state.Phase)
	}
	return nil
}

// nextStep is the step that waits for approval.
func (p *promotion) nextStep() int { return len(p.result.Steps) }

// awaitApproval waits until the step may begin: for a grant where one is asked for, and for the end of a
// pause.
func (p *promotion) awaitApproval(ctx workflow.Context, i int, step lifecycle.StepPolicy) error {
	if !step.Approval && !p.in.Approval {
		return p.awaitLeave(ctx, func() bool { return true })
	}
	p.state.Rollout.AwaitsApproval = true
	p.note(ctx, "waiting for approval", fmt.Sprintf("of step %d at %s: refit approve %s", i+1, step.Share, p.service.Name))
	err := p.awaitLeave(ctx, func() bool { return p.approved[i] })
	p.state.Rollout.AwaitsApproval = false
	return err
}

// awaitLeave waits until what serves may change: it was given leave, is not paused, and nobody stopped it.
func (p *promotion) awaitLeave(ctx workflow.Context, given func() bool) error {
	answered := func() bool { return p.stop != "" || (!p.paused && given()) }
	if !answered() {
		if err := p.waitExposed(ctx, answered); err != nil {
			return err
		}
	}
	if p.stop != "" {
		return steps.ToTemporal(lifecycle.Errorf(lifecycle.Refused, "%s", p.stop))
	}
	return nil
}

// waitExposed waits for people. A share that is already out stays out and is watched for harm.
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

func (p *promotion) noteIntervention(ctx workflow.Context, name string, by lifecycle.Actor, reason string) {
	if p.state.Rollout != nil {
		p.state.Rollout.Paused = p.paused
	}
	p.note(ctx, p.state.Phase, fmt.Sprintf("%s by %s: %s", name, by, reason))
}

// recordGrant keeps the grant itself: it holds no secret, and who doubts it can check its signature.
func (p *promotion) recordGrant(ctx workflow.Context, key string, kind lifecycle.LedgerKind, reason string, g lifecycle.Grant) {
	evidence, err := json.Marshal(g)
	if err != nil {
		workflow.GetLogger(ctx).Error("grant not in the ledger", "error", err)
	}
	p.record(ctx, key, lifecycle.LedgerEntry{Kind: kind, Actor: lifecycle.Actor{Name: g.Approver, Via: lifecycle.ViaGrant}, Reason: reason, Evidence: evidence})
}

// record writes what a person did, also when the run is cancelled meanwhile. A ledger that does not take it
// now is tried for a day; the intervention itself has already taken effect.
func (p *promotion) record(ctx workflow.Context, key string, entry lifecycle.LedgerEntry) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	entry.Service, entry.Subject = p.service.Name, string(p.result.Release)
	if entry.Actor.Via == "" {
		entry.Actor.Via = lifecycle.ViaUpdate
	}
	_, err := steps.Record.Run(ctx, steps.RecordInput{Key: p.owner.FirstRunID + "/" + key, Entry: entry})
	if err != nil {
		workflow.GetLogger(ctx).Error("intervention not in the ledger", "kind", entry.Kind, "error", err)
	}
}
