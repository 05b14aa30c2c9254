package control

import (
	"context"
	"errors"
	"time"

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
	Service    string                   `json:"service"`
	Version    int                      `json:"version"`
	Route      lifecycle.Route          `json:"route"`
	WayBack    string                   `json:"way_back"` // "instant", "must load", "none"
	Rollout    *lifecycle.Rollout       `json:"rollout,omitempty"`
	Claims     []lifecycle.Claim        `json:"claims"`
	Gateways   []registry.GatewayReport `json:"gateways"`
	Behind     []string                 `json:"behind"` // live gateways that have not applied the route yet
	Endpoints  []lifecycle.Endpoint     `json:"endpoints"`
	Attributed string                   `json:"attribution"`
	Running    *steps.State             `json:"running,omitempty"` // what the promotion says itself, where a worker answers
	TemporalUI string                   `json:"temporal_ui,omitempty"`
}

// liveWithin is how recently a gateway must have reported to count as live.
const liveWithin = 10 * time.Second

// Status shows a service. It works with no worker alive and without Temporal.
var Status = UseCase[StatusInput, StatusResult]{"status", Viewer, (*Control).status}

func (c *Control) status(ctx context.Context, _ Caller, in StatusInput) (StatusResult, error) {
	out := StatusResult{Service: in.Service}
	var errs [5]error
	out.Route, errs[0] = c.cfg.Registry.Route(ctx, in.Service)
	out.Claims, errs[1] = c.cfg.Registry.Claims(ctx, in.Service)
	out.Gateways, errs[2] = c.cfg.Registry.Gateways(ctx, in.Service, liveWithin)
	out.Endpoints, errs[3] = c.cfg.Registry.Endpoints(ctx, in.Service)
	out.Rollout, errs[4] = c.newestRollout(ctx, in.Service)
	if err := errors.Join(errs[:]...); err != nil {
		return out, err
	}
	out.Behind = behind(out.Gateways, out.Route)
	out.WayBack = wayBack(out.Route, out.Endpoints)
	out.Attributed = attribution(out.Route, out.Endpoints)
	if claim := claimOf(out.Claims, lifecycle.PromotionLoop); claim != nil {
		out.Running = c.ask(ctx, claim.Owner)
		out.TemporalUI = c.link(claim.Owner.WorkflowID, claim.Owner.FirstRunID)
	}
	return out, nil
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

// wayBack says how fast a rollback would be now. With a canary out, the way back is to stable, which
// serves already.
func wayBack(route lifecycle.Route, endpoints []lifecycle.Endpoint) string {
	target := route.Previous
	if route.Canary != "" {
		target = route.Stable
	}
	if target == "" {
		return "none"
	}
	for _, e := range endpoints {
		if e.Release == target && e.Ready {
			return "instant"
		}
	}
	return "must load"
}

func attribution(route lifecycle.Route, endpoints []lifecycle.Endpoint) string {
	for _, e := range endpoints {
		if (e.Release == route.Stable || e.Release == route.Canary) && e.Attribution != "verified" {
			return "unverified"
		}
	}
	return "verified"
}

func claimOf(claims []lifecycle.Claim, loop lifecycle.Loop) *lifecycle.Claim {
	for i := range claims {
		if claims[i].Loop == loop {
			return &claims[i]
		}
	}
	return nil
}

// ask gives what a running workflow says of itself, or nil where nobody answers soon.
func (c *Control) ask(ctx context.Context, owner lifecycle.Owner) *steps.State {
	if c.cfg.Temporal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
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
