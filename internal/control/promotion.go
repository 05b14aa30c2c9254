package control

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/rollout"
	"github.com/refitml/refit/internal/steps"
)

// PromoteInput starts a promotion.
type PromoteInput struct {
	Service  string `json:"service"`
	Release  string `json:"release,omitempty"` // ID or its beginning; default: the newest
	Approval bool   `json:"approval,omitempty"`
	Wait     bool   `json:"wait,omitempty"`        // in a freeze wait for its end instead of being refused
	Late     bool   `json:"accept_late,omitempty"` // begin although a step cannot end within its time
	DryRun   bool   `json:"dry_run,omitempty"`     // show the plan and what would refuse it; start nothing
	Reason   string `json:"reason,omitempty"`
}

// Promoting is a promotion that was started, with its plan. Of a dry run nothing was.
type Promoting struct {
	Started
	Release lifecycle.Digest       `json:"release,omitempty"` // that is to be promoted
	Plan    *lifecycle.RolloutPlan `json:"plan,omitempty"`    // nil: nothing serves yet, so there are no steps
	Frozen  *lifecycle.Frozen      `json:"frozen,omitempty"`  // what it waits for, or would
	Refused string                 `json:"refused,omitempty"` // of a dry run: why it would not be started
}

// Promote starts PromoteRelease under its customary ID. What the run would refuse as its first act is refused here, so
// that a person hears it at once.
var Promote = UseCase[PromoteInput, Promoting]{"promote", Operator, (*Control).promote}

func (c *Control) promote(ctx context.Context, caller Caller, in PromoteInput) (Promoting, error) {
	if err := lifecycle.CheckServiceName(in.Service); err != nil {
		return Promoting{}, err
	}
	declared, err := c.cfg.Registry.Service(ctx, in.Service)
	if err != nil {
		return Promoting{}, err
	}
	release, err := c.releaseOf(ctx, in.Service, in.Release)
	if err != nil {
		return Promoting{}, err
	}
	if in.Release != "" {
		in.Release = release
	}
	out := Promoting{Release: lifecycle.Digest(release)}
	refusal, err := c.foresee(ctx, declared, in, &out)
	if err != nil {
		return out, err
	}
	if in.DryRun {
		if refusal != nil {
			out.Refused = refusal.Error()
		}
		return out, nil
	}
	if refusal != nil {
		return out, refusal
	}
	out.Started, err = c.start(ctx, caller, steps.PromoteRelease, steps.PromotionWorkflowID(in.Service), steps.PromotionInput{
		Service: in.Service, Release: in.Release, Approval: in.Approval, Wait: in.Wait, Late: in.Late, Reason: in.Reason, By: caller.Name,
	})
	return out, err
}

// foresee plans the rollout and asks the calendar; refusal is what the run would be refused for.
func (c *Control) foresee(ctx context.Context, declared lifecycle.Service, in PromoteInput, out *Promoting) (refusal, err error) {
	checked, err := c.checkFreeze(ctx, Caller{}, CheckFreezeInput{Service: in.Service, Release: string(out.Release)})
	if err != nil {
		return nil, err
	}
	out.Frozen = checked.Frozen
	route, err := c.cfg.Registry.Route(ctx, in.Service)
	if err != nil {
		return nil, err
	}
	if route.Stable != "" {
		plan, err := c.planRollout(ctx, declared)
		if err != nil {
			return nil, err
		}
		out.Plan = &plan
	}
	switch {
	case out.Frozen != nil && !in.Wait:
		return out.Frozen.Err(), nil
	case out.Plan != nil && !in.Late:
		return out.Plan.Err(), nil
	}
	return nil, nil
}

// Traffic of the last week is counted within a time: nobody waits for it.
const (
	trafficSeen = 7 * 24 * time.Hour
	trafficTime = 10 * time.Second
)

// planRollout is what the run will find, too. Traffic that cannot be counted is not known.
func (c *Control) planRollout(ctx context.Context, declared lifecycle.Service) (lifecycle.RolloutPlan, error) {
	var seen lifecycle.TrafficSeen
	var counted error
	if c.cfg.Captured != nil {
		counting, cancel := context.WithTimeout(ctx, trafficTime)
		defer cancel()
		seen, counted = c.cfg.Captured.Traffic(counting, declared.Name, c.cfg.Now().Add(-trafficSeen))
	}
	plan, err := rollout.Plan(declared.Rollout, seen)
	if counted != nil {
		c.cfg.Log.WarnContext(ctx, "a rollout is planned without its traffic", "service", declared.Name, "error", counted)
		plan.Basis = "last week's traffic could not be counted, so how long steps take is not known"
	}
	return plan, err
}

// releaseOf finds the named release or the newest one; empty where there is none yet.
func (c *Control) releaseOf(ctx context.Context, service, named string) (string, error) {
	if named != "" {
		id, _, err := c.cfg.Registry.Release(ctx, service, named)
		return string(id), err
	}
	newest, err := c.cfg.Registry.Releases(ctx, service, 1)
	if err != nil || len(newest) == 0 {
		return "", err
	}
	return string(newest[0].ID), nil
}

// InterveneInput pauses, resumes, aborts or rejects the promotion that holds the claim.
type InterveneInput struct {
	Service string `json:"service"`
	Action  string `json:"action"` // "pause", "resume", "abort", "reject"
	Reason  string `json:"reason,omitempty"`
	Key     string `json:"key,omitempty"` // repeated with the same key it is done once; default: a new one
}

// Intervene steps into the running promotion.
var Intervene = UseCase[InterveneInput, steps.State]{"intervene", Operator, (*Control).intervene}

func (c *Control) intervene(ctx context.Context, caller Caller, in InterveneInput) (steps.State, error) {
	switch in.Action {
	case steps.PauseUpdate, steps.ResumeUpdate, steps.AbortUpdate, steps.RejectUpdate:
	default:
		return steps.State{}, lifecycle.Errorf(lifecycle.Invalid, "action: %q; give pause, resume, abort or reject", in.Action)
	}
	claim, err := c.promotionClaim(ctx, in.Service)
	if err != nil {
		return steps.State{}, err
	}
	if in.Key == "" {
		in.Key = rand.Text()
	}
	intervention := steps.Intervention{Key: in.Key, By: caller.Name, Reason: in.Reason}
	if len(c.cfg.GrantKey) == ed25519.PrivateKeySize {
		grant := c.grant(claim, caller, "")
		grant.Purpose, grant.Nonce = in.Action, in.Key
		grant = grant.Sign(c.cfg.GrantKey)
		intervention.Grant = &grant
	}
	return c.update(ctx, claim, in.Action, in.Key, intervention)
}

// ApproveInput lets the waiting step begin.
type ApproveInput struct {
	Service string `json:"service"`
	Step    int    `json:"step,omitempty"` // counted from 1; another one that waits is not meant. Default: the one that waits
	Reason  string `json:"reason,omitempty"`
	Key     string `json:"key,omitempty"` // repeated with the same key it is done once; default: a new one
}

// Approve signs a grant for the step that waits and hands it over.
var Approve = UseCase[ApproveInput, steps.State]{"approve", Approver, (*Control).approve}

func (c *Control) approve(ctx context.Context, caller Caller, in ApproveInput) (steps.State, error) {
	claim, state, err := c.runningPromotion(ctx, in.Service)
	if err != nil {
		return steps.State{}, err
	}
	if len(in.Reason) > lifecycle.MaxReason {
		return state, lifecycle.Errorf(lifecycle.Invalid, "reason: %d bytes; give at most %d", len(in.Reason), lifecycle.MaxReason)
	}
	// With a key it may be a repetition, which the run itself knows and answers as it did before.
	if in.Key == "" && (state.Rollout == nil || !state.Rollout.AwaitsApproval) || state.Rollout == nil {
		return state, lifecycle.Errorf(lifecycle.Refused, "the promotion does not wait for an approval now (phase %s)", state.Phase)
	}
	grant := c.grant(claim, caller, state.Rollout.Candidate)
	grant.Step, grant.Reason = len(state.Rollout.Done), in.Reason
	if in.Step != 0 && in.Step != grant.Step+1 && state.Rollout.AwaitsApproval {
		return state, lifecycle.Errorf(lifecycle.Refused, "step %d waits for an approval, not step %d", grant.Step+1, in.Step)
	}
	if in.Key == "" {
		in.Key = grant.Nonce
	}
	return c.update(ctx, claim, steps.ApproveUpdate, in.Key, steps.Approval{Key: in.Key, Grant: grant.Sign(c.cfg.GrantKey)})
}

// BreakGlassInput lets the running promotion go on in freezes.
type BreakGlassInput struct {
	Service string             `json:"service"`
	Reason  string             `json:"reason"`
	For     lifecycle.Duration `json:"for,omitempty"` // how long; default 1h, at most 24h
}

// BreakGlass signs a grant for the run that goes on now, and for no other, and hands it over. Who started the run is
// refused there.
var BreakGlass = UseCase[BreakGlassInput, steps.State]{"break-glass", Approver, (*Control).breakGlass}

func (c *Control) breakGlass(ctx context.Context, caller Caller, in BreakGlassInput) (steps.State, error) {
	if in.For == 0 {
		in.For = lifecycle.Duration(time.Hour)
	}
	var faults lifecycle.Problems
	if strings.TrimSpace(in.Reason) == "" || len(in.Reason) > lifecycle.MaxReason {
		faults.Add("reason", fmt.Sprintf("%d bytes", len(in.Reason)), "say why, in at most %d; it goes to the ledger", lifecycle.MaxReason)
	}
	if in.For < 0 || in.For.D() > lifecycle.MaxBreakGlass {
		faults.Add("for", in.For.String(), "give at most %s", lifecycle.MaxBreakGlass)
	}
	if err := faults.Err("break-glass"); err != nil {
		return steps.State{}, err
	}
	claim, state, err := c.runningPromotion(ctx, in.Service)
	if err != nil {
		return steps.State{}, err
	}
	grant := c.grant(claim, caller, lifecycle.Digest(state.Release))
	grant.Purpose, grant.Reason, grant.Expires = lifecycle.BreakGlass, in.Reason, c.cfg.Now().Add(in.For.D())
	grant = grant.Sign(c.cfg.GrantKey)
	return c.update(ctx, claim, steps.BreakGlassUpdate, grant.Nonce, steps.Approval{Key: grant.Nonce, Grant: grant})
}

// runningPromotion finds the run that a grant is for, and what it says of itself. Without a key there are no grants.
func (c *Control) runningPromotion(ctx context.Context, service string) (*lifecycle.Claim, steps.State, error) {
	if len(c.cfg.GrantKey) != ed25519.PrivateKeySize {
		return nil, steps.State{}, lifecycle.Errorf(lifecycle.Refused, "this place has no grant key; set grants.private_key_file")
	}
	claim, err := c.promotionClaim(ctx, service)
	if err != nil {
		return nil, steps.State{}, err
	}
	state := c.ask(ctx, claim.Owner)
	if state == nil {
		return nil, steps.State{}, lifecycle.Errorf(lifecycle.Unavailable, "the promotion does not say how it stands; is a worker running?")
	}
	return claim, *state, nil
}

// grant is what every grant for a run has; it is not signed yet.
func (c *Control) grant(claim *lifecycle.Claim, caller Caller, release lifecycle.Digest) lifecycle.Grant {
	return lifecycle.Grant{
		WorkflowID: claim.Owner.WorkflowID, FirstRunID: claim.Owner.FirstRunID, Release: release,
		Approver: caller.Name, Expires: c.cfg.Now().Add(c.cfg.GrantTime), Nonce: rand.Text(),
	}
}

func (c *Control) promotionClaim(ctx context.Context, service string) (*lifecycle.Claim, error) {
	claims, err := c.cfg.Registry.Claims(ctx, service)
	if err != nil {
		return nil, err
	}
	claim := claimOf(claims, lifecycle.PromotionLoop)
	if claim == nil {
		return nil, lifecycle.Errorf(lifecycle.NotFound, "service %s has no promotion running", service)
	}
	if c.cfg.Temporal == nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "this place has no Temporal")
	}
	return claim, nil
}

func (c *Control) update(ctx context.Context, claim *lifecycle.Claim, name, key string, argument any) (steps.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var state steps.State
	handle, err := c.cfg.Temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: claim.Owner.WorkflowID, FirstExecutionRunID: claim.Owner.FirstRunID,
		UpdateID: name + "/" + key, UpdateName: name, Args: []any{argument},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, &state)
	}
	if err != nil {
		return state, temporalError(err, name+" promotion "+claim.Owner.WorkflowID)
	}
	return state, nil
}

// RollbackInput takes the way back.
type RollbackInput struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
}

// RollbackResult says what serves now and who has not applied it yet.
type RollbackResult struct {
	Route  lifecycle.Route `json:"route"`
	Fence  lifecycle.Fence `json:"fence"`
	Live   int             `json:"live"`   // gateways that report
	Behind []string        `json:"behind"` // of them, that have not applied it
	Took   string          `json:"took"`
}

// rollbackWait bounds how long a rollback waits for gateways.
const rollbackWait = 10 * time.Second

// Rollback takes the service back: from a canary to stable, else from stable to the release before. It
// needs no gate, no S3 and no Temporal. It returns when every live gateway reports the new generation,
// and is Refused with their names where some do not.
var Rollback = UseCase[RollbackInput, RollbackResult]{"rollback", Operator, (*Control).rollback}

func (c *Control) rollback(ctx context.Context, caller Caller, in RollbackInput) (RollbackResult, error) {
	if strings.TrimSpace(in.Reason) == "" {
		return RollbackResult{}, lifecycle.Errorf(lifecycle.Invalid, "reason: missing; say why, it goes to the ledger")
	}
	began := c.cfg.Now()
	route, fence, err := c.cfg.Registry.RollBack(ctx, registry.Rollback{
		Service: in.Service, By: caller.actor(), Reason: in.Reason,
	})
	if err != nil {
		return RollbackResult{}, err
	}
	out := RollbackResult{Route: route, Fence: fence}
	out.Live, out.Behind, err = c.awaitGateways(ctx, route)
	out.Took = c.cfg.Now().Sub(began).Round(time.Millisecond).String()
	if err != nil {
		return out, lifecycle.Wrap(err, "rolled back to generation %d, but whether gateways applied it cannot be seen", route.Generation)
	}
	if len(out.Behind) > 0 {
		err = &lifecycle.Error{
			Kind: lifecycle.Refused,
			Message: fmt.Sprintf("rolled back to generation %d, but gateways %v have not reported it after %s; they drop a canary by themselves within %s",
				route.Generation, out.Behind, rollbackWait, lifecycle.LeaseTime),
			Fields: map[string]string{"generation": fmt.Sprint(route.Generation), "behind": strings.Join(out.Behind, ",")},
		}
	}
	return out, err
}

func byGateway(a, b registry.GatewayReport) int { return strings.Compare(a.Gateway, b.Gateway) }

func (c *Control) awaitGateways(ctx context.Context, route lifecycle.Route) (live int, late []string, err error) {
	deadline := time.NewTimer(rollbackWait)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	seen := map[string]registry.GatewayReport{} // one that was live and falls silent is still waited for
	for {
		gateways, err := c.cfg.Registry.Gateways(ctx, route.Service, liveWithin)
		if err != nil {
			return 0, nil, err
		}
		for _, g := range gateways {
			seen[g.Gateway] = g
		}
		late := behind(slices.SortedFunc(maps.Values(seen), byGateway), route)
		if len(late) == 0 {
			return len(gateways), late, nil
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return len(gateways), late, nil
		case <-ctx.Done():
			return len(gateways), late, ctx.Err()
		}
	}
}
