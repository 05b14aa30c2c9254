package activities

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
	"github.com/refitml/refit/internal/steps"
)

// HoldStep keeps a canary's share alive and watches what it does, until there is a reason to end the step. The
// lease is renewed only for as long as Temporal says that the workflow runs; without Temporal, the registry
// or this worker it lapses, and the gateways give all traffic to stable. A lapse ends nothing: when everything is
// back the step goes on, with its evidence and its clock, which stands while nothing was held.
func (p Promotion) HoldStep(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
	if in.Step < 0 || in.Step >= len(in.Policy.Steps) {
		return steps.HoldResult{}, lifecycle.Errorf(lifecycle.Invalid, "step %d of a policy with %d", in.Step, len(in.Policy.Steps))
	}
	h := newHold(ctx, p, in)
	var result steps.HoldResult
	fenced, err := h.watch(ctx, func(ctx context.Context) (over bool, err error) {
		result, over, err = h.look(ctx, h.frozen(ctx))
		return over, err
	})
	if fenced != nil {
		return h.fenced(context.WithoutCancel(ctx), fenced), nil
	}
	return result, err
}

// watch renews the lease and looks again and again, until look says that it is over. A newer fence ends it, too.
func (h *hold) watch(ctx context.Context, look func(context.Context) (over bool, err error)) (fenced, err error) {
	ctx, done := long(ctx, h.details)
	defer done()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer end(nil)
	next := h.renewOnce(ctx, end) // before anything is decided: a step that ends at once has noted its lapse, too
	renewing.Go(func() { h.keepLease(ctx, end, next) })
	for {
		began := time.Now()
		over, err := look(ctx)
		if cause := context.Cause(ctx); lifecycle.Is(cause, lifecycle.Fenced) {
			return cause, nil
		}
		if err != nil || over {
			return nil, err
		}
		// A look that takes long is not taken more often than that.
		if err := pause(ctx, max(h.Promotion.look(), 4*time.Since(began))); err != nil && !lifecycle.Is(context.Cause(ctx), lifecycle.Fenced) {
			return nil, err
		}
	}
}

func (p Promotion) look() time.Duration {
	if p.Look <= 0 {
		return time.Second
	}
	return p.Look
}

// hold is one activity that holds a share.
type hold struct {
	Promotion
	in      steps.HoldInput
	rollout string
	exposed *exposed
	clock   gatewayClock
	asked   time.Time // when it was asked last whether a freeze holds it

	mu         sync.Mutex
	complained map[string]bool // what was logged and still lasts
	seen       heldSoFar
	renewedAt  time.Time // on the monotonic clock of this process; zero: not yet
}

// heldSoFar is what heartbeats carry: how far the step is, for followers, and what the next try begins with.
type heldSoFar struct {
	lifecycle.Progress               // conversations on the canary, of those that are needed
	Elapsed            time.Duration `json:"elapsed_ns"` // with the input's
	Renewed            time.Time     `json:"renewed"`    // when the lease was renewed last; zero: not yet
	Served             int64         `json:"served"`     // for the canary, counted by the model servers

	Verdict lifecycle.StepVerdict    `json:"verdict,omitzero"` // of the newest look
	Shadow  *lifecycle.ShadowVerdict `json:"shadow,omitempty"` // likewise, in a shadow step
}

func newHold(ctx context.Context, p Promotion, in steps.HoldInput) *hold {
	h := &hold{Promotion: p, in: in, rollout: in.Claim.Owner.FirstRunID, complained: map[string]bool{}, clock: gatewayClock{now: time.Now}}
	h.recall(ctx)
	h.exposed = newExposed(in.Policy.Steps[in.Step].Share, in.Policy.Exposure, h.seen.Served)
	return h
}

// recall begins with what the try before left.
func (h *hold) recall(ctx context.Context) {
	h.Log = orDefault(h.Log)
	// Who scheduled the hold had just set the share or held it, and so renewed the lease.
	h.seen = heldSoFar{Elapsed: h.in.Elapsed, Renewed: activity.GetInfo(ctx).ScheduledTime}
	var before heldSoFar
	if activity.HasHeartbeatDetails(ctx) && activity.GetHeartbeatDetails(ctx, &before) == nil {
		h.seen = before
		h.seen.Elapsed = max(before.Elapsed, h.in.Elapsed)
	}
}

func (h *hold) details() any { return h.soFar() }

// soFar counts the time since the last renewal in, for as long as the share is held by it.
func (h *hold) soFar() heldSoFar {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	seen.Elapsed += h.heldUntil(time.Now())
	return seen
}

// heldUntil gives how long the share was held since the last renewal; 0 where the lease has lapsed since, or while
// the clock stands. mu is held.
func (h *hold) heldUntil(now time.Time) time.Duration {
	held := now.Sub(h.renewedAt)
	if h.renewedAt.IsZero() || held >= lifecycle.LeaseTime || h.in.Paused {
		return 0
	}
	return held
}

// keepLease renews, the next time after so long, until the context ends.
func (h *hold) keepLease(ctx context.Context, end context.CancelCauseFunc, next time.Duration) {
	for pause(ctx, next) == nil {
		next = h.renewOnce(ctx, end)
	}
}

// renewOnce renews and says after how long to renew again. A newer fence ends the hold.
func (h *hold) renewOnce(ctx context.Context, end context.CancelCauseFunc) time.Duration {
	began := time.Now()
	err := h.renew(ctx)
	h.complain(ctx, "the canary's lease is not renewed; it lapses if that lasts", err)
	switch {
	case err == nil:
		h.renewed(ctx, began)
		return max(time.Second, lifecycle.LeaseRenewal-time.Since(began))
	case lifecycle.Is(err, lifecycle.Fenced):
		end(err)
	}
	return time.Second
}

// renewTime bounds one renewal.
const renewTime = 4 * time.Second

// renew asks Temporal before it renews: a run that was terminated must not keep its share.
func (h *hold) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	if h.Temporal != nil {
		owner := h.in.Claim.Owner
		running, err := Common{Temporal: h.Temporal, Namespace: owner.Namespace}.running(ctx, owner)
		if err != nil {
			return err
		}
		if !running {
			return lifecycle.Errorf(lifecycle.Refused, "workflow %s, which the canary belongs to, is not running", owner.WorkflowID)
		}
	}
	_, err := h.Registry.RenewLease(ctx, h.in.Service, h.in.Claim.Fence)
	return err
}

// renewed moves the step's clock by the time that was held, and writes a lapse into the ledger.
func (h *hold) renewed(ctx context.Context, at time.Time) {
	h.mu.Lock()
	before := h.seen.Renewed
	h.seen.Elapsed += h.heldUntil(at)
	h.seen.Renewed, h.renewedAt = at.Round(0), at
	h.mu.Unlock()
	gap := at.Sub(before) // over a restart of the worker this is wall time
	if before.IsZero() || gap < lifecycle.LeaseTime {
		return
	}
	err := h.Registry.AppendLedger(ctx, lifecycle.LedgerEntry{
		Service: h.in.Service, Kind: lifecycle.LeaseLapsed, Subject: string(h.in.Release), Actor: lifecycle.Actor{Name: "refit", Via: "worker"},
		Reason:   fmt.Sprintf("not renewed for %v; until now all users were on stable", gap.Round(time.Second)),
		Evidence: evidence(map[string]any{"rollout": h.rollout, "step": h.in.Step, "gap_s": gap.Seconds()}),
	}, fmt.Sprintf("lapse/%s/%d", h.rollout, before.UnixMicro()))
	if err != nil {
		h.Log.WarnContext(ctx, "a lapse of the lease is not in the ledger", "service", h.in.Service, "error", err)
	}
}

// frozen gives the freeze that stops the step's clock; nil where none does. What cannot be asked stops no clock: no
// share grows before it could.
func (h *hold) frozen(ctx context.Context) *lifecycle.Frozen {
	now := time.Now()
	if h.in.Freezes == nil || h.in.Paused || now.Before(h.in.Glass) || now.Before(h.asked.Add(freezeLooks*h.Promotion.look())) {
		return nil
	}
	h.asked = now
	frozen, err := h.Promotion.frozen(ctx, *h.in.Freezes, now)
	h.complain(ctx, "whether a freeze holds the step is not known", err)
	return frozen
}

// look weighs the evidence. What cannot be read leaves the step as it is: it is tried again with the next look.
func (h *hold) look(ctx context.Context, frozen *lifecycle.Frozen) (result steps.HoldResult, over bool, err error) {
	reports, err := h.Registry.Gateways(ctx, h.in.Service, lifecycle.LeaseTime)
	h.complain(ctx, "the gateways' reports cannot be read", err)
	reported := err == nil
	// Read after the reports, so that what they say is stored is among it.
	conversations, err := h.Captured.Evidence(ctx, h.in.Service, h.rollout, captureAllSteps)
	h.complain(ctx, "the evidence cannot be read; the step holds", err)
	if err != nil {
		return result, false, nil
	}
	counted := reported && h.count(ctx, reports)
	seen := rollout.Evidence{
		Collected: append(captureMetrics(), slowMetric), Overrun: h.exposed.overrun(), Now: h.clock.look(conversations, reports).UnixMicro(),
	}
	if seen.Conversations, err = judged(conversations, knownUntil(reports)); err != nil {
		return result, false, err
	}
	so := h.soFar()
	watch := rollout.Watch{Policy: h.in.Policy, Step: h.in.Step, Elapsed: so.Elapsed}
	if h.in.Paused || frozen != nil {
		watch.Elapsed = 0
	}
	verdict, err := rollout.Judge(seen, watch)
	if err != nil {
		return result, false, lifecycle.Wrap(err, "judge step %d of rollout %s", h.in.Step, h.rollout)
	}
	if verdict.Decision == lifecycle.Promote && !counted {
		verdict.Decision, verdict.Reason = lifecycle.Hold, "what gateways and model servers served cannot be counted"
	}
	h.show(verdict)
	reason := h.reason(verdict, watch.Elapsed)
	if frozen != nil && (reason == "" || reason == steps.HoldEnough) {
		reason = steps.HoldFrozen
	}
	if reason == "" {
		return result, false, nil
	}
	result, err = h.result(ctx, reason, verdict)
	if reason == steps.HoldFrozen {
		result.Frozen = frozen
	}
	h.complain(ctx, "what was served cannot be counted; the step holds", err)
	return result, err == nil, nil
}

// reason says whether the hold is over. Nothing ends well by time alone, or while it is paused.
func (h *hold) reason(v lifecycle.StepVerdict, elapsed time.Duration) steps.HoldReason {
	harmful := slices.ContainsFunc(v.Metrics, func(m lifecycle.MetricVerdict) bool { return m.Harmful })
	switch {
	case v.Invalid:
		return steps.HoldInvalid
	case v.Decision == lifecycle.RollBack && harmful:
		return steps.HoldHarm
	case v.Decision == lifecycle.Promote && !h.in.Paused:
		return steps.HoldEnough
	case v.Decision != lifecycle.Promote && elapsed >= h.in.Policy.Steps[h.in.Step].MaxTime.D():
		return steps.HoldTime
	}
	return ""
}

// result counts what the step served. A step that ends well without that count does not end; one that ends
// badly does.
func (h *hold) result(ctx context.Context, reason steps.HoldReason, verdict lifecycle.StepVerdict) (steps.HoldResult, error) {
	share, err := h.share(ctx)
	if err != nil && reason == steps.HoldEnough {
		return steps.HoldResult{}, err
	}
	verdict.Share = share
	touched, err := h.Captured.Touched(ctx, h.in.Service, h.rollout)
	if err != nil && reason == steps.HoldEnough {
		return steps.HoldResult{}, err
	}
	return steps.HoldResult{Reason: reason, Verdict: verdict, Evidence: touched}, nil
}

// share is nil where it could not be counted.
func (h *hold) share(ctx context.Context) (*lifecycle.ShareSeen, error) {
	sides, err := h.Captured.Accesses(ctx, h.in.Service, h.rollout, h.in.Step)
	if err != nil {
		return nil, err
	}
	accesses := make([]rollout.Access, len(sides))
	for i, canary := range sides {
		accesses[i] = rollout.Access{Canary: canary, Share: h.in.Policy.Steps[h.in.Step].Share}
	}
	audit := rollout.Audit(accesses, 0)
	out := &lifecycle.ShareSeen{
		Requests: audit.Requests, Canary: audit.Canary, Reached: audit.Reached(), Highest: audit.Highest, Window: audit.Width,
	}
	if served, ok := h.exposed.servedSoFar(); ok {
		out.Served = &served
	}
	return out, nil
}

// fenced ends the hold because somebody newer decides.
func (h *hold) fenced(ctx context.Context, cause error) steps.HoldResult {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	verdict := lifecycle.StepVerdict{Decision: lifecycle.RollBack, Reason: cause.Error()}
	result, _ := h.result(ctx, steps.HoldFenced, verdict) // never an error for a bad end
	return result
}

func (h *hold) show(v lifecycle.StepVerdict) {
	served, _ := h.exposed.servedSoFar()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen.Progress = lifecycle.Progress{
		Time: time.Now(), Step: v.Canary, Total: h.in.Policy.Steps[h.in.Step].MinConversations, Message: v.Reason,
	}
	h.seen.Served, h.seen.Verdict = served, v
}

// complain logs a trouble once for as long as it lasts.
func (h *hold) complain(ctx context.Context, what string, err error) {
	h.mu.Lock()
	known := h.complained[what]
	h.complained[what] = err != nil
	h.mu.Unlock()
	if err != nil && !known && ctx.Err() == nil {
		h.Log.WarnContext(ctx, what, "service", h.in.Service, "rollout", h.rollout, "step", h.in.Step, "error", err)
	}
}
