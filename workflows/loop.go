package workflows

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// loop is what every running loop has: its pinned declaration, its claim and what people see of it.
type loop struct {
	service  lifecycle.Service
	declared lifecycle.Digest
	owner    lifecycle.Owner
	claim    lifecycle.Claim
	by       lifecycle.Actor
	grantKey []byte
	state    steps.State

	searchable bool
	closing    bool // the run is on its way out: nobody can step in any more
}

// open resolves the service, answers the state Query, and finds out whether who is said to have started the run did. raw is
// the run's input. It does not claim.
func open(ctx workflow.Context, raw converter.RawValue, service string, name lifecycle.Loop, by string) (*loop, error) {
	info := workflow.GetInfo(ctx)
	l := &loop{
		owner: lifecycle.Owner{
			Namespace:  info.Namespace,
			WorkflowID: info.WorkflowExecution.ID,
			FirstRunID: info.FirstRunID,
		},
		by:    actor(by),
		state: steps.State{Service: service, Loop: name, Phase: "resolving", By: actor(by)},
	}
	err := workflow.SetQueryHandler(ctx, steps.StateQuery, func() (steps.State, error) { return l.state, nil })
	if err != nil {
		return nil, fmt.Errorf("answer the state query: %w", err)
	}
	resolved, err := steps.Resolve.Run(ctx, steps.ResolveInput{Service: service})
	if err != nil {
		return nil, l.close(ctx, err)
	}
	l.service, l.declared = resolved.Service, resolved.Digest
	l.grantKey, l.searchable = resolved.GrantKey, resolved.SearchAttributes
	l.note(ctx, "resolved", fmt.Sprintf("declaration version %d", resolved.Version))
	if err := l.proveStart(ctx, raw); err != nil {
		return nil, l.close(ctx, err)
	}
	return l, nil
}

// openExclusive opens the loop and takes its claim; Busy where somebody else holds it.
func openExclusive(ctx workflow.Context, raw converter.RawValue, service string, name lifecycle.Loop, by string) (*loop, error) {
	l, err := open(ctx, raw, service, name, by)
	if err != nil {
		return nil, err
	}
	l.claim, err = steps.Claim.Run(ctx, steps.ClaimInput{Service: service, Loop: name, Owner: l.owner, By: l.by})
	if err != nil {
		return nil, l.close(ctx, err)
	}
	l.note(ctx, "claimed", fmt.Sprintf("fence %d", l.claim.Fence))
	return l, nil
}

// close says how the run ended, gives the claim back, and drains what people sent, also after the run was
// cancelled. It gives err, the run's own. It is called and not deferred: deferred functions also run when
// a run leaves a worker's memory, where they must not begin anything.
func (l *loop) close(ctx workflow.Context, err error) error {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	l.closing = true
	if err != nil {
		l.noteFailure(ctx, err)
	}
	if l.claim.Fence != 0 {
		if _, err := steps.ReleaseClaim.Run(ctx, steps.ReleaseClaimInput{Claim: l.claim, By: l.by}); err != nil {
			workflow.GetLogger(ctx).Warn("claim not given back; the next run takes it over", "error", err)
		}
	}
	_ = workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	return err
}

func (l *loop) noteFailure(ctx workflow.Context, err error) {
	switch {
	case temporal.IsCanceledError(err):
		l.note(ctx, "canceled", "last phase: "+l.state.Phase)
	case steps.KindOf(err) == lifecycle.Busy:
		l.note(ctx, "busy", steps.FromTemporal(err).Error())
	default:
		l.note(ctx, "failed", steps.FromTemporal(err).Error())
	}
}

// The state travels as the answer to Updates, which must fit into a payload of a history.
const (
	maxNotes = 50
	maxNote  = 500 // bytes
)

// note says what the loop does now and why, to the Query, the Temporal UI and its search.
func (l *loop) note(ctx workflow.Context, phase, reason string) {
	l.state.Phase, l.state.Reason = phase, clip(reason, maxNote)
	l.state.Notes = append(l.state.Notes, clip(phase+": "+reason, maxNote))
	if len(l.state.Notes) > maxNotes {
		l.state.Notes = l.state.Notes[len(l.state.Notes)-maxNotes:]
	}
	workflow.SetCurrentDetails(ctx, l.markdown())
	l.index(ctx)
}

func (l *loop) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** of `%s`: %s\n\n%s\n", l.state.Loop, l.state.Service, l.state.Phase, l.state.Reason)
	if l.state.Release != "" {
		fmt.Fprintf(&b, "\nrelease `%s`\n", l.state.Release)
	}
	if a := l.state.Answered; a != nil {
		fmt.Fprintf(&b, "\n%s %d of %d answers\n", lifecycle.Bar(int64(a.Done), int64(a.Of)), a.Done, a.Of)
	}
	if r := l.state.Rollout; r != nil {
		fmt.Fprintf(&b, "\nstep %d of %d at %s, paused: %t, waits for approval: %t\n",
			r.Step+1, r.StepsTotal, r.Share, r.Paused, r.AwaitsApproval)
	}
	if len(l.state.Plan) > 0 {
		fmt.Fprintf(&b, "\n%s\n\n", strings.Join(l.state.Plan, "\n"))
	}
	if f := l.state.Frozen; f != nil {
		fmt.Fprintf(&b, "\nfrozen by %s\n", f)
	}
	fmt.Fprintf(&b, "\nstarted by %s\n\n", l.by)
	for _, n := range l.state.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	return b.String()
}

// index keeps the run findable. A namespace without the attributes would hang the workflow task, so
// whether it has them is a recorded result.
func (l *loop) index(ctx workflow.Context) {
	if !l.searchable {
		return
	}
	err := workflow.UpsertTypedSearchAttributes(ctx,
		keyword(steps.AttributeService, l.state.Service),
		keyword(steps.AttributeLoop, string(l.state.Loop)),
		keyword(steps.AttributePhase, l.state.Phase),
		keyword(steps.AttributeRelease, l.state.Release),
	)
	if err != nil {
		workflow.GetLogger(ctx).Warn("search attributes not set", "error", err)
	}
}

// keyword truncates: a value over 255 characters would leave the row stale.
func keyword(name, value string) temporal.SearchAttributeUpdate {
	return temporal.NewSearchAttributeKeyKeyword(name).ValueSet(clip(value, 255))
}

// clip cuts text to at most so many bytes, between characters.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

func actor(by string) lifecycle.Actor {
	if by == "" {
		return lifecycle.Actor{Name: "unnamed", Via: lifecycle.ViaTemporal}
	}
	return lifecycle.Actor{Name: by, Via: lifecycle.ViaWorkflow}
}
