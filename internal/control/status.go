package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/refitml/refit/internal/freeze"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// StatusInput names a service.
type StatusInput struct {
	Service string `json:"service"`
}

// StatusResult is what an SRE wants to know at 3 a.m.
type StatusResult struct {
	Service     string                   `json:"service"`
	Version     int                      `json:"version"` // of the declaration
	Route       lifecycle.Route          `json:"route"`
	WayBack     WayBack                  `json:"way_back"`
	Rollout     *lifecycle.Rollout       `json:"rollout,omitempty"`     // the newest
	Judged      *lifecycle.StepVerdict   `json:"judged,omitempty"`      // of the step that is held, some seconds old; nil: none is, or Temporal does not tell
	Shadowed    *lifecycle.ShadowVerdict `json:"shadowed,omitempty"`    // likewise, of the shadow step that goes on
	Loops       []LoopStatus             `json:"loops"`                 // exclusive loops that are running
	Evaluations []RunningEvaluation      `json:"evaluations,omitempty"` // that are running, as far as Temporal tells
	Gateways    []registry.GatewayReport `json:"gateways"`              // live ones
	Behind      []string                 `json:"behind"`                // live gateways that have not applied the route yet
	Restored    string                   `json:"restored,omitempty"`    // why this registry seems to be an older one than the gateways know
	Endpoints   []lifecycle.Endpoint     `json:"endpoints"`
	Servers     []ReleaseServers         `json:"servers"`               // of the releases that the route names
	Attribution string                   `json:"attribution"`           // "verified", "unverified", "unknown", "nothing serves"
	Frozen      *lifecycle.Frozen        `json:"frozen,omitempty"`      // what holds some change now; nil: nothing
	NextFreeze  *freeze.Coming           `json:"next_freeze,omitempty"` // of the calendar; nil: none within a year
	Signing     string                   `json:"signing,omitempty"`     // whose signature artifacts and releases must have, as the console's settings say
}

// LoopStatus is an exclusive loop that somebody holds the claim of.
type LoopStatus struct {
	Claim lifecycle.Claim `json:"claim"`
	State *steps.State    `json:"state,omitempty"` // what it says itself, where a worker answers
	URL   string          `json:"url,omitempty"`   // its page in the Temporal UI
}

// liveWithin is how recently a gateway must have reported to count as live.
const liveWithin = 10 * time.Second

// Status shows a service. It works with no worker alive and without Temporal.
var Status = UseCase[StatusInput, StatusResult]{"status", Viewer, (*Control).status}

func (c *Control) status(ctx context.Context, _ Caller, in StatusInput) (StatusResult, error) {
	declared, err := c.cfg.Registry.Service(ctx, in.Service)
	if err != nil {
		return StatusResult{}, err
	}
	out := StatusResult{Service: in.Service, Signing: c.cfg.Signing}
	var errs [6]error
	var version registry.ServiceVersion
	var claims []lifecycle.Claim
	version, errs[0] = c.cfg.Registry.ServiceVersion(ctx, in.Service)
	out.Gateways, errs[3] = c.cfg.Registry.Gateways(ctx, in.Service, liveWithin)
	out.Route, errs[1] = c.cfg.Registry.Route(ctx, in.Service) // after the reports: no gateway is ahead of it
	claims, errs[2] = c.cfg.Registry.Claims(ctx, in.Service)
	out.Endpoints, errs[4] = c.cfg.Registry.Endpoints(ctx, in.Service)
	out.Rollout, errs[5] = c.newestRollout(ctx, in.Service)
	if err := errors.Join(errs[:]...); err != nil {
		return StatusResult{}, err
	}
	if err := c.addFreezes(ctx, &out); err != nil {
		return StatusResult{}, err
	}
	out.Version = version.Version
	out.Behind = behind(out.Gateways, out.Route)
	out.Restored = restored(in.Service, out.Gateways, out.Route)
	out.Attribution = attribution(out.Route, out.Endpoints)
	var wait sync.WaitGroup
	wait.Go(func() { out.Servers = c.servers(ctx, out.Route, out.Endpoints) })
	wait.Go(func() { out.Evaluations = c.evaluations(ctx, in.Service) })
	wait.Go(func() { out.Judged, out.Shadowed = c.judged(ctx, claimOf(claims, lifecycle.PromotionLoop)) })
	out.Loops = c.loops(ctx, claims)
	wait.Wait()
	out.WayBack = c.wayBack(ctx, declared, out.Route, out.Servers)
	return out, nil
}

func (c *Control) addFreezes(ctx context.Context, out *StatusResult) error {
	freezes, err := c.freezes(ctx, Caller{}, FreezesInput{Service: out.Service})
	if err != nil {
		return err
	}
	out.Frozen = freezes.Frozen
	if len(freezes.Next) > 0 {
		out.NextFreeze = &freezes.Next[0]
	}
	return nil
}

func (c *Control) newestRollout(ctx context.Context, service string) (*lifecycle.Rollout, error) {
	rollouts, err := c.cfg.Registry.Rollouts(ctx, service, 1)
	if err != nil || len(rollouts) == 0 {
		return nil, err
	}
	return &rollouts[0], nil
}

// behind names live gateways that have not applied the route's generation.
func behind(gateways []registry.GatewayReport, route lifecycle.Route) []string {
	names := []string{}
	for _, g := range gateways {
		if g.Epoch != route.Epoch || g.Generation < route.Generation {
			names = append(names, g.Gateway)
		}
	}
	return names
}

// restored says why the registry seems to be older than what gateways applied: its database was restored. They never
// go back by themselves.
func restored(service string, gateways []registry.GatewayReport, route lifecycle.Route) string {
	for _, g := range gateways {
		if g.Epoch > route.Epoch || g.Epoch == route.Epoch && g.Generation > route.Generation {
			return fmt.Sprintf("gateway %s applied generation %d of epoch %d, and the registry is at generation %d of epoch %d: "+
				"its database was restored, and gateways do not follow it until somebody runs: refit registry adopt %s",
				g.Gateway, g.Generation, g.Epoch, route.Generation, route.Epoch, service)
		}
	}
	return ""
}

// attribution says whether what serves can be told apart. A release without a known server is unknown, never
// verified.
func attribution(route lifecycle.Route, endpoints []lifecycle.Endpoint) string {
	if route.Stable == "" {
		return "nothing serves"
	}
	verdict := "verified"
	for _, release := range []lifecycle.Digest{route.Stable, route.Canary} {
		if release == "" {
			continue
		}
		known := false
		for _, e := range endpoints {
			if e.Release != release {
				continue
			}
			known = true
			if e.Attribution != "verified" {
				return "unverified"
			}
		}
		if !known {
			verdict = "unknown"
		}
	}
	return verdict
}

func claimOf(claims []lifecycle.Claim, loop lifecycle.Loop) *lifecycle.Claim {
	for i := range claims {
		if claims[i].Loop == loop {
			return &claims[i]
		}
	}
	return nil
}

// loops asks every holder of a claim at once how it stands.
func (c *Control) loops(ctx context.Context, claims []lifecycle.Claim) []LoopStatus {
	out := make([]LoopStatus, len(claims))
	var wait sync.WaitGroup
	for i, claim := range claims {
		out[i] = LoopStatus{Claim: claim, URL: c.link(claim.Owner.WorkflowID, claim.Owner.FirstRunID)}
		wait.Go(func() { out[i].State = c.ask(ctx, claim.Owner) })
	}
	wait.Wait()
	return out
}

// askTime bounds how long a running workflow is asked how it stands.
const askTime = 2 * time.Second

// ask gives what a running workflow says of itself, or nil where nobody answers soon.
func (c *Control) ask(ctx context.Context, owner lifecycle.Owner) *steps.State {
	if c.cfg.Temporal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	value, err := c.cfg.Temporal.QueryWorkflow(ctx, owner.WorkflowID, "", steps.StateQuery)
	if err != nil {
		return nil
	}
	var state steps.State
	if value.Get(&state) != nil {
		return nil
	}
	return &state
}

func (c *Control) link(workflowID, runID string) string {
	if c.cfg.TemporalUI == "" {
		return ""
	}
	return WorkflowURL(c.cfg.TemporalUI, c.cfg.Namespace, workflowID, runID)
}

// StartLinks are the Temporal UI's start forms of a service's loops, by workflow type; none where the UI is
// not known.
func (c *Control) StartLinks(service string) []StartLink {
	if c.cfg.TemporalUI == "" {
		return nil
	}
	var links []StartLink
	for _, workflow := range []string{
		steps.PromoteRelease, steps.EvaluateRelease, steps.ContinuePretraining, steps.RebuildIndex, steps.TuneFromFeedback,
		steps.ArchiveInteractions,
	} {
		id, _ := customaryID(workflow, service)
		links = append(links, StartLink{
			Workflow: workflow, URL: StartURL(c.cfg.TemporalUI, c.cfg.Namespace, workflow, id),
			Input: `{"service": "` + service + `"}`,
		})
	}
	return links
}

// StartLink is a start form with all but the input filled in.
type StartLink struct {
	Workflow string
	URL      string
	Input    string // to be typed
}
