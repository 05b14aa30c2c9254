package workflows

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// freezesHold is the change from which on freezes hold promotions; runs that began before it know none.
const freezesHold = "freezes-hold"

// freezes is what the calendar is asked about; nil: freezes hold nothing.
func (p *promotion) freezes() *steps.FreezeInput {
	if !p.policed {
		return nil
	}
	return &steps.FreezeInput{Service: p.service.Name, Release: p.result.Release, Baseline: p.baseline}
}

// frozen gives what holds the next change of what serves now; nil where nothing does, or somebody broke the glass.
func (p *promotion) frozen(ctx workflow.Context) (*lifecycle.Frozen, error) {
	if !p.policed || p.glassBroken(ctx) {
		return nil, nil
	}
	out, err := steps.CheckFreeze.Run(ctx, *p.freezes())
	return out.Frozen, err
}

func (p *promotion) glassBroken(ctx workflow.Context) bool {
	return workflow.Now(ctx).Before(p.state.Glass)
}

// passFreeze refuses to begin in a freeze. Where the input says so it waits for its end instead.
func (p *promotion) passFreeze(ctx workflow.Context) (waited bool, err error) {
	frozen, err := p.frozen(ctx)
	if err != nil || frozen == nil {
		return false, err
	}
	if p.in.Wait {
		return true, p.waitFrozen(ctx, *frozen)
	}
	return false, p.refuse(ctx, "frozen", frozen.Err(), frozen)
}

// refuse ends a promotion before it began, so that it can be seen in the ledger, too.
func (p *promotion) refuse(ctx workflow.Context, key string, cause error, because any) error {
	evidence, err := json.Marshal(because)
	if err != nil {
		workflow.GetLogger(ctx).Error("what refused it is not in the ledger", "error", err)
	}
	p.record(ctx, key, lifecycle.LedgerEntry{Kind: lifecycle.ChangeRefused, Actor: p.by, Reason: clip(cause.Error(), maxNote), Evidence: evidence})
	return steps.ToTemporal(cause)
}

// awaitThaw waits, with the share as it is, until no freeze holds the next change of what serves. It leaves the run
// neither paused nor stopped.
func (p *promotion) awaitThaw(ctx workflow.Context) error {
	for p.policed {
		frozen, err := p.frozen(ctx)
		held := frozen != nil || p.paused
		switch {
		case err != nil:
		case frozen != nil:
			err = p.waitFrozen(ctx, *frozen)
		default:
			err = p.awaitLeave(ctx, func() bool { return true })
		}
		if err != nil || !held {
			return err
		}
	}
	return nil
}

// whenThawed makes a change of what serves. A freeze that begins while it is being made holds it: then it waits, and makes
// it again.
func (p *promotion) whenThawed(ctx workflow.Context, change func() (*lifecycle.Frozen, error)) error {
	for {
		frozen, err := change()
		if err != nil || frozen == nil {
			return err
		}
		if err := p.waitFrozen(ctx, *frozen); err != nil {
			return err
		}
		if err := p.awaitThaw(ctx); err != nil {
			return err
		}
	}
}

// waitFrozen waits for the freeze's end or for somebody who breaks the glass. A share that is out stays out and is
// watched for harm.
func (p *promotion) waitFrozen(ctx workflow.Context, frozen lifecycle.Frozen) error {
	p.freeze(ctx, frozen)
	err := p.awaitLeave(ctx, func() bool { return p.thawed(ctx) })
	if failed := p.endFreeze(ctx); err == nil {
		err = failed
	}
	return err
}

// freeze says what it waits for, and asks when that is over.
func (p *promotion) freeze(ctx workflow.Context, frozen lifecycle.Frozen) {
	p.state.Frozen = &frozen
	p.note(ctx, "frozen", fmt.Sprintf("by %s; or refit break-glass %s", frozen, p.service.Name))
	asking, cancel := workflow.WithCancel(ctx)
	p.thaw, p.stopAsking = steps.AwaitThaw.Start(asking, *p.freezes()), cancel
}

func (p *promotion) thawed(ctx workflow.Context) bool {
	return p.thaw != nil && (p.thaw.IsReady() || p.glassBroken(ctx))
}

// endFreeze leaves a freeze, whichever way. Its error is that of asking when it is over.
func (p *promotion) endFreeze(ctx workflow.Context) error {
	if p.thaw == nil {
		return nil
	}
	thaw := p.thaw
	p.thaw, p.state.Frozen = nil, nil
	if thaw.IsReady() {
		return thaw.Get(ctx, nil)
	}
	p.stopAsking()
	return nil
}

func (p *promotion) listenBreakGlass(ctx workflow.Context) error {
	handle := func(ctx workflow.Context, a steps.Approval) (steps.State, error) {
		if key := steps.BreakGlassUpdate + "/" + a.Key; !p.seen[key] {
			p.seen[key] = true
			if !p.bothAllow(ctx, steps.BreakGlassUpdate, a.Grant) {
				p.recordGrant(ctx, key, lifecycle.GlassBroken, a.Grant.Reason+firstOfTwo, a.Grant)
				return p.state, nil
			}
			if a.Grant.Expires.After(p.state.Glass) {
				p.state.Glass = a.Grant.Expires
			}
			p.note(ctx, p.state.Phase, fmt.Sprintf("glass broken by %s until %s: %s", a.Grant.Approver,
				p.state.Glass.UTC().Format(time.RFC3339), a.Grant.Reason))
			p.recordGrant(ctx, key, lifecycle.GlassBroken, a.Grant.Reason, a.Grant)
		}
		return p.state, nil
	}
	validate := func(ctx workflow.Context, a steps.Approval) error {
		return steps.ToTemporal(p.checkBreakGlass(a, workflow.Now(ctx)))
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, steps.BreakGlassUpdate, handle, workflow.UpdateHandlerOptions{Validator: validate})
	if err != nil {
		return fmt.Errorf("listen to %s: %w", steps.BreakGlassUpdate, err)
	}
	return nil
}

// checkBreakGlass: the reason and the second person are the rule, whatever the policy says of approvals.
func (p *promotion) checkBreakGlass(a steps.Approval, now time.Time) error {
	if a.Key == "" || len(a.Key) > 128 {
		return lifecycle.Errorf(lifecycle.Invalid, "break-glass: give a key of at most 128 characters")
	}
	if p.seen[steps.BreakGlassUpdate+"/"+a.Key] {
		return nil
	}
	if err := p.goesOn(); err != nil {
		return err
	}
	if !p.policed || p.result.Release == "" {
		return lifecycle.Errorf(lifecycle.Refused, "break-glass: nothing holds the promotion now (phase %s)", p.state.Phase)
	}
	if err := a.Grant.VerifyBreakGlass(p.grantKey, p.owner, p.result.Release, now); err != nil {
		return err
	}
	return p.checkSecond("break-glass", steps.BreakGlassUpdate, a.Grant.Approver, now)
}
