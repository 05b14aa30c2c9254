package activities

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/serving"
	"github.com/refitml/refit/internal/steps"
)

// Promotion holds the steps of a rollout.
type Promotion struct {
	Registry *registry.Registry
	Captured *capture.Store
	Cache    *artifacts.Cache
	Temporal client.Client             // asked, before a share is kept alive, whether its workflow still runs
	Engines  map[string]serving.Engine // by name of the service's serving engine
	Servers  *http.Client              // that model servers' counters are read with; default http.DefaultClient
	Look     time.Duration             // how often a hold looks at the evidence; default 1 s

	// Scores makes ready what scores pairs of answers; nil: nothing does here.
	Scores func(lifecycle.PairScorer) (evaluation.PairScorer, error)
	Log    *slog.Logger // default slog.Default()
}

// LoadRelease brings a release onto model servers that are ready and warm, and tells gateways where they
// are.
func (p Promotion) LoadRelease(ctx context.Context, in steps.LoadInput) (steps.LoadResult, error) {
	defer beat(ctx, nil)()
	endpoints, err := p.load(ctx, in.Service, in.Release)
	return steps.LoadResult{Endpoints: endpoints}, err
}

func (p Promotion) load(ctx context.Context, service string, release lifecycle.Digest) ([]lifecycle.Endpoint, error) {
	placement, err := p.placement(ctx, service, release)
	if err != nil {
		return nil, err
	}
	engine, ok := p.Engines[placement.Service.Serving.Engine]
	if !ok {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "serving.engine: %q is not reachable from this worker", placement.Service.Serving.Engine)
	}
	endpoints, err := engine.Load(ctx, placement)
	if err != nil {
		return nil, err
	}
	return endpoints, p.Registry.SetEndpoints(ctx, service, release, endpoints)
}

// placement brings the release's weights to this machine, verified.
func (p Promotion) placement(ctx context.Context, service string, id lifecycle.Digest) (serving.Placement, error) {
	declared, err := p.Registry.Service(ctx, service)
	if err != nil {
		return serving.Placement{}, err
	}
	_, release, err := p.Registry.TrustedRelease(ctx, service, string(id))
	if err != nil {
		return serving.Placement{}, err
	}
	out := serving.Placement{Service: declared, Release: release, ID: id}
	if declared.Serving.Engine == "static" {
		return out, nil
	}
	out.ModelDir, err = p.Cache.Dir(ctx, lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: release.Model})
	if err != nil || release.Embedder == "" {
		return out, err
	}
	out.EmbedderDir, err = p.Cache.Dir(ctx, lifecycle.ArtifactRef{Kind: lifecycle.EmbedderArtifact, Digest: release.Embedder})
	return out, err
}

// UnloadUnused stops model servers whose weights no release of the route needs: neither stable, nor the
// one before, which is the way back, nor a canary, nor the declaration's shadow.
func (p Promotion) UnloadUnused(ctx context.Context, in steps.UnloadInput) (steps.None, error) {
	route, err := p.Registry.Route(ctx, in.Service)
	if err != nil {
		return steps.None{}, err
	}
	service, err := p.Registry.Service(ctx, in.Service)
	if err != nil {
		return steps.None{}, err
	}
	needed := map[lifecycle.Digest]bool{route.Stable: true, route.Previous: true, route.Canary: true, service.Shadow.Release: true}
	endpoints, err := p.Registry.Endpoints(ctx, in.Service)
	if err != nil {
		return steps.None{}, err
	}
	servers := map[string]bool{} // by served name: whether a needed release uses it
	for _, e := range endpoints {
		servers[e.Model] = servers[e.Model] || needed[e.Release]
	}
	for _, e := range endpoints {
		if needed[e.Release] {
			continue
		}
		if err := p.Registry.SetEndpoints(ctx, in.Service, e.Release, nil); err != nil {
			return steps.None{}, err
		}
		engine, ok := p.Engines[service.Serving.Engine]
		if ok && !servers[e.Model] {
			if err := engine.Unload(ctx, e.Model); err != nil {
				return steps.None{}, err
			}
		}
	}
	return steps.None{}, nil
}

// StartRollout opens the rollout of the claim; opening it again changes nothing.
func (p Promotion) StartRollout(ctx context.Context, in steps.RolloutInput) (steps.None, error) {
	return steps.None{}, p.Registry.StartRollout(ctx, registry.RolloutStart{
		Service: in.Service, Fence: in.Claim.Fence, ID: in.Claim.Owner.FirstRunID,
		Release: in.Release, Owner: in.Claim.Owner, By: in.By,
	})
}

// FirstStable gives a service its first stable release, unless a freeze holds that.
func (p Promotion) FirstStable(ctx context.Context, in steps.FirstStableInput) (out steps.EndResult, err error) {
	out.Frozen, err = p.unfrozen(ctx, in.Freezes, in.Glass, func(leave *registry.Leave) error {
		route, err := p.Registry.SetFirstStable(ctx, registry.FirstStable{
			Service: in.Service, Fence: in.Claim.Fence, Release: in.Release, By: in.By, Reason: in.Reason, Leave: leave,
		})
		out.Generation = route.Generation
		return err
	})
	return out, err
}

// SetShare sets the canary's share for a step, unless a freeze holds it.
func (p Promotion) SetShare(ctx context.Context, in steps.ShareInput) (out steps.ShareResult, err error) {
	out.Frozen, err = p.unfrozen(ctx, in.Freezes, in.Glass, func(leave *registry.Leave) error {
		_, err := p.Registry.SetShare(ctx, registry.ShareChange{
			Service: in.Service, Fence: in.Claim.Fence, Rollout: in.Claim.Owner.FirstRunID,
			Step: in.Step, Share: in.Share, By: in.By, Reason: in.Reason, Leave: leave,
		})
		return err
	})
	return out, err
}

// RecordStep keeps how a step went.
func (p Promotion) RecordStep(ctx context.Context, in steps.StepInput) (steps.None, error) {
	return steps.None{}, p.Registry.RecordStep(ctx, in.Service, in.Claim.Fence, in.Claim.Owner.FirstRunID, in.Record)
}

// MakeStable moves the stable pointer, unless a freeze holds it.
func (p Promotion) MakeStable(ctx context.Context, in steps.EndInput) (steps.EndResult, error) {
	touched, err := p.Captured.Touched(ctx, in.Service, in.Claim.Owner.FirstRunID)
	if err != nil {
		return steps.EndResult{}, err
	}
	out := steps.EndResult{Touched: touched}
	out.Frozen, err = p.unfrozen(ctx, in.Freezes, in.Glass, func(leave *registry.Leave) error {
		route, err := p.Registry.Promote(ctx, registry.Promotion{
			Service: in.Service, Fence: in.Claim.Fence, Rollout: in.Claim.Owner.FirstRunID,
			By: in.By, Reason: in.Reason, Evidence: evidence(touched), Leave: leave,
		})
		out.Generation = route.Generation
		return err
	})
	return out, err
}

// RollBack gives all traffic back to stable. The account of who was touched is best effort: the way
// back does not wait for it.
func (p Promotion) RollBack(ctx context.Context, in steps.EndInput) (steps.EndResult, error) {
	touched, err := p.Captured.Touched(ctx, in.Service, in.Claim.Owner.FirstRunID)
	if err != nil {
		orDefault(p.Log).WarnContext(ctx, "blast radius not counted", "service", in.Service, "error", err)
	}
	route, _, err := p.Registry.RollBack(ctx, registry.Rollback{
		Service: in.Service, Fence: in.Claim.Fence, Rollout: in.Claim.Owner.FirstRunID,
		By: in.By, Reason: in.Reason, Touched: &touched, Invalid: in.Invalid,
	})
	return steps.EndResult{Generation: route.Generation, Touched: touched}, err
}

func evidence(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return raw
}
