package activities

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
)

// Keep looks after the model servers that this machine's engines started, until ctx ends: one that a route needs
// and whose process is gone, after a crash or a restart of the machine, is loaded again. It starts nothing that
// was not loaded here before, and looks again after every.
func (p Promotion) Keep(ctx context.Context, every time.Duration) error {
	for {
		if err := p.keepLoaded(ctx); err != nil && ctx.Err() == nil {
			p.Log.WarnContext(ctx, "model servers that are gone are not loaded again yet", "error", err)
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// lost names the servers of every engine whose process is gone.
func (p Promotion) lost(ctx context.Context) (map[string][]string, error) {
	lost := map[string][]string{}
	for name, engine := range p.Engines {
		servers, err := engine.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range servers {
			if !s.Alive {
				lost[name] = append(lost[name], s.Name)
			}
		}
	}
	return lost, nil
}

func (p Promotion) keepLoaded(ctx context.Context) error {
	lost, err := p.lost(ctx)
	if err != nil || len(lost) == 0 {
		return err
	}
	services, err := p.Registry.Services(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range services {
		failed = append(failed, p.keepService(ctx, s.Service, lost))
	}
	return errors.Join(failed...)
}

func (p Promotion) keepService(ctx context.Context, name string, lost map[string][]string) error {
	service, err := p.Registry.Service(ctx, name)
	if err != nil {
		return err
	}
	needed, err := p.routed(ctx, name)
	if err != nil {
		return err
	}
	var failed []error
	for _, id := range needed {
		_, release, err := p.Registry.Release(ctx, name, string(id))
		if err != nil || !slices.Contains(lost[service.Serving.Engine], serving.ServerName(release)) {
			failed = append(failed, err)
			continue
		}
		p.Log.WarnContext(ctx, "a model server is gone and is loaded again", "service", name, "release", id.Short())
		failed = append(failed, p.reload(ctx, service, id, release))
	}
	return errors.Join(failed...)
}

// reload loads a release, and takes it away again where the route has let go of it meanwhile.
func (p Promotion) reload(ctx context.Context, service lifecycle.Service, id lifecycle.Digest, release lifecycle.Release) error {
	if _, err := p.load(ctx, service.Name, id); err != nil {
		return lifecycle.Wrap(err, "load release %s of %s again", id.Short(), service.Name)
	}
	needed, err := p.routed(ctx, service.Name)
	if err != nil || slices.Contains(needed, id) {
		return err
	}
	if err := p.Registry.SetEndpoints(ctx, service.Name, id, nil); err != nil {
		return err
	}
	return p.Engines[service.Serving.Engine].Unload(ctx, serving.ServerName(release))
}

// routed are the releases that must stay loaded: stable, the one before, which is the way back, a canary, and what
// the declaration names as shadow.
func (p Promotion) routed(ctx context.Context, service string) ([]lifecycle.Digest, error) {
	route, err := p.Registry.Route(ctx, service)
	if err != nil {
		return nil, err
	}
	declared, err := p.Registry.Service(ctx, service)
	if err != nil {
		return nil, err
	}
	all := []lifecycle.Digest{route.Stable, route.Previous, route.Canary, declared.Shadow.Release}
	return slices.DeleteFunc(all, func(d lifecycle.Digest) bool { return d == "" }), nil
}
