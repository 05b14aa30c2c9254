package gateway

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// What refresh asks of the registry, for people.
const (
	readDeclaration = "read the declaration"
	readEndpoints   = "read the endpoints"
)

// keepReady prepares what the route names, off the path of requests, and follows where its servers are.
func (l *lane) keepReady(ctx context.Context) {
	ticker := time.NewTicker(l.g.config.Refresh)
	defer ticker.Stop()
	for {
		l.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-ticker.C:
		}
	}
}

// refresh reads the declaration and the endpoints, prepares bundles that are missing and drops those that no
// route names. While the registry is away everything stays as it is.
func (l *lane) refresh(ctx context.Context) {
	store := l.g.config.Store
	l.mu.Lock()
	route := l.route
	l.mu.Unlock()
	if route.Stable == "" && route.Canary == "" {
		return
	}
	service, err := store.Service(ctx, l.name)
	if err != nil {
		l.away(ctx, readDeclaration, err)
		return
	}
	endpoints, err := store.Endpoints(ctx, l.name)
	if err != nil {
		l.away(ctx, readEndpoints, err)
		return
	}
	wanted := []lifecycle.Digest{route.Stable, route.Canary, route.Previous}
	fresh := map[lifecycle.Digest]*bundle{}
	for _, id := range wanted {
		l.mu.Lock()
		have := l.bundles[id]
		l.mu.Unlock()
		if id == "" || have != nil || fresh[id] != nil {
			continue
		}
		release, err := store.Release(ctx, l.name, id)
		if err == nil {
			fresh[id], err = l.g.prepare(ctx, service.WithDefaults(), id, release, endpoints)
		}
		if err != nil {
			delete(fresh, id)
			l.notReady(ctx, route, id, err)
		}
	}
	for _, what := range []string{readDeclaration, readEndpoints} {
		delete(l.complaints, what) // the registry answers again
	}
	l.adopt(ctx, service.WithDefaults(), endpoints, fresh)
}

// adopt takes what was read and prepared into use.
func (l *lane) adopt(ctx context.Context, service lifecycle.Service, endpoints []lifecycle.Endpoint, fresh map[lifecycle.Digest]*bundle) {
	l.mu.Lock()
	before := l.applied
	maps.Copy(l.bundles, fresh)
	l.service = service
	var dropped []lifecycle.Digest
	for id, b := range l.bundles {
		if id != l.route.Stable && id != l.route.Canary && id != l.route.Previous && b != l.stable {
			delete(l.bundles, id)
			dropped = append(dropped, id)
			continue
		}
		b.setServers(serversOf(id, endpoints))
	}
	l.settle()
	changed := before != l.applied
	state, keep := l.toKeep()
	l.mu.Unlock()

	for _, id := range dropped {
		l.g.metrics.forget(l.name, id)
	}
	l.g.forgetServers()
	if changed {
		l.report()
	}
	if keep {
		if err := l.g.shelf.put(state); err != nil {
			l.log.ErrorContext(ctx, "the last stable route could not be kept on disk", "error", err)
		}
	}
}

// toKeep gives what a restart without the registry needs, and whether it differs from what is kept. The lock is
// held.
func (l *lane) toKeep() (saved, bool) {
	if l.stable == nil || l.stable.id() != l.route.Stable {
		return saved{}, false
	}
	state := saved{
		Service: l.service, Route: l.route, Release: l.stable.answer.Release, Endpoints: l.stable.servers(),
	}
	sum := keptSum(state)
	if sum == l.kept {
		return saved{}, false
	}
	l.kept = sum
	return state, true
}

// restore begins with the last stable release that this gateway served, so that it serves before, and without,
// the registry.
func (l *lane) restore(ctx context.Context) {
	state, err := l.g.shelf.get(l.name)
	if lifecycle.Is(err, lifecycle.NotFound) {
		return
	}
	var b *bundle
	if err == nil {
		b, err = l.g.prepare(ctx, state.Service.WithDefaults(), state.Route.Stable, state.Release, state.Endpoints)
	}
	if err != nil {
		l.log.WarnContext(ctx, "the last stable release cannot be restored from disk", "error", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.service, l.route, l.kept = state.Service.WithDefaults(), state.Route, keptSum(state)
	l.bundles[state.Route.Stable] = b
	l.settle()
	l.log.InfoContext(ctx, "serving the last stable release from disk until the registry answers", "stable", state.Route.Stable.Short())
}

// away says once per outage that the registry does not answer.
func (l *lane) away(ctx context.Context, what string, err error) {
	if ctx.Err() != nil || l.complaints[what] == err.Error() {
		return
	}
	l.complaints[what] = err.Error()
	l.log.WarnContext(ctx, "the registry does not answer; serving goes on as it is", "tried", what, "error", err)
}

// notReady says once per reason that a release cannot be served.
func (l *lane) notReady(ctx context.Context, route lifecycle.Route, id lifecycle.Digest, err error) {
	if ctx.Err() != nil || l.complaints[string(id)] == err.Error() {
		return
	}
	l.complaints[string(id)] = err.Error()
	role := "previous"
	switch id {
	case route.Stable:
		role = "stable"
	case route.Canary:
		role = "canary"
	}
	l.log.WarnContext(ctx, "a release is not ready", "release", id.Short(), "role", role, "error", err)
}

// keptSum names what stands on disk, without the times at which servers were seen.
func keptSum(state saved) lifecycle.Digest {
	state.Route = stableOnly(state.Route)
	state.Endpoints = slices.Clone(state.Endpoints)
	for i := range state.Endpoints {
		state.Endpoints[i].SeenAt = time.Time{}
	}
	raw, err := json.Marshal(state)
	if err != nil {
		return "" // never equal to what was kept, so it is tried and reported there
	}
	return lifecycle.DigestOf(raw)
}
