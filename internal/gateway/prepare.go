package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// What refresh asks of the registry, for people.
const (
	readDeclaration = "read the declaration"
	readEndpoints   = "read the endpoints"
	drawCredit      = "draw exposure credit"
)

// storeTime bounds one question to the registry, so that one that hangs holds nothing up for long.
const storeTime = 5 * time.Second

// keepReady prepares what the route names, off the path of requests, and follows where its servers are.
func (l *lane) keepReady(ctx context.Context) {
	var preparing sync.WaitGroup
	defer preparing.Wait()
	ticker := time.NewTicker(l.g.config.Refresh)
	defer ticker.Stop()
	for {
		l.refresh(ctx, &preparing)
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-ticker.C:
		}
	}
}

// refresh reads the declaration and the endpoints, begins to prepare releases that are missing and drops those that
// no route names. While the registry is away everything stays as it is.
func (l *lane) refresh(ctx context.Context, preparing *sync.WaitGroup) {
	l.mu.Lock()
	route := l.route
	l.mu.Unlock()
	if route.Stable == "" && route.Canary == "" {
		return
	}
	limited, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	service, err := l.g.config.Store.Service(limited, l.name)
	if err != nil {
		l.away(ctx, readDeclaration, err)
		return
	}
	endpoints, err := l.g.config.Store.Endpoints(limited, l.name)
	if err != nil {
		l.away(ctx, readEndpoints, err)
		return
	}
	l.away(ctx, readDeclaration, nil)
	l.away(ctx, readEndpoints, nil)
	service = service.WithDefaults()
	l.adopt(ctx, func() {
		l.declare(service)
		for id, b := range l.bundles {
			b.setServers(serversOf(id, endpoints))
		}
	})
	for _, id := range named(service, route) {
		if l.missing(id) {
			// Each on its own: a canary's index that takes minutes to come must not hold up what stable needs.
			preparing.Go(func() { l.prepare(ctx, service, route, id, endpoints) })
		}
	}
}

// missing says whether a release must be prepared, and marks that it is being prepared.
func (l *lane) missing(id lifecycle.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == "" || l.bundles[id] != nil || l.preparing[id] {
		return false
	}
	l.preparing[id] = true
	return true
}

// prepare makes one release ready and takes it into use.
func (l *lane) prepare(ctx context.Context, service lifecycle.Service, route lifecycle.Route, id lifecycle.Digest, endpoints []lifecycle.Endpoint) {
	limited, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	var b *bundle
	release, err := l.g.config.Store.Release(limited, l.name, id)
	if err == nil {
		b, err = l.g.prepare(ctx, service, id, release, endpoints)
	}
	l.notReady(ctx, route, id, err)
	l.adopt(ctx, func() {
		delete(l.preparing, id)
		if b != nil {
			l.bundles[id] = b
		}
	})
}

// adopt makes a change of what is ready, settles the route on it, and tells whom it concerns.
func (l *lane) adopt(ctx context.Context, change func()) {
	l.mu.Lock()
	before := l.applied
	change()
	l.settle()
	var dropped []lifecycle.Digest
	for id, b := range l.bundles {
		if !slices.Contains(named(l.service, l.route), id) && b != l.stable {
			delete(l.bundles, id)
			dropped = append(dropped, id)
		}
	}
	changed := before != l.applied
	l.mu.Unlock()

	for _, id := range dropped {
		l.g.metrics.forget(l.name, id, l.g.config.Now())
	}
	l.g.metrics.sweep(l.g.config.Now())
	if len(dropped) > 0 {
		l.g.forgetServers()
	}
	if changed {
		l.report()
	}
	l.keep(ctx)
}

// keep writes down what a restart without the registry needs. Writers wait for each other, so that the newest
// state is the last one written.
func (l *lane) keep(ctx context.Context) {
	l.keeping.Lock()
	defer l.keeping.Unlock()
	l.mu.Lock()
	state, differs := l.toKeep()
	l.mu.Unlock()
	if !differs {
		return
	}
	if err := l.g.shelf.put(state); err != nil {
		l.log.ErrorContext(ctx, "the last stable route could not be kept on disk", "error", err)
		l.mu.Lock()
		l.kept = "" // tried again with the next refresh
		l.mu.Unlock()
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
	l.declare(state.Service.WithDefaults())
	l.route, l.kept = state.Route, keptSum(state)
	l.bundles[state.Route.Stable] = b
	l.settle()
	l.log.InfoContext(ctx, "serving the last stable release from disk until the registry answers", "stable", state.Route.Stable.Short())
}

// away says once per outage that the registry does not answer; without an error the outage is over.
func (l *lane) away(ctx context.Context, what string, err error) {
	if l.isNew(ctx, what, err) {
		l.log.WarnContext(ctx, "the registry does not answer; serving goes on as it is", "tried", what, "error", err)
	}
}

// notReady says once per reason that a release cannot be served.
func (l *lane) notReady(ctx context.Context, route lifecycle.Route, id lifecycle.Digest, err error) {
	if !l.isNew(ctx, string(id), err) {
		return
	}
	role := "previous or shadow"
	switch id {
	case route.Stable:
		role = "stable"
	case route.Canary:
		role = "canary"
	}
	l.log.WarnContext(ctx, "a release is not ready", "release", id.Short(), "role", role, "error", err)
}

// isNew says whether an error about something differs from the last one, and remembers it.
func (l *lane) isNew(ctx context.Context, about string, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.complaints, about)
		return false
	}
	if ctx.Err() != nil || l.complaints[about] == err.Error() {
		return false
	}
	l.complaints[about] = err.Error()
	return true
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
