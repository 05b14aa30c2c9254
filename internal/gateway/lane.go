package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
)

// lane is one service in this gateway: its newest route, the bundles that are ready and the exposure of the
// rollout in flight. What decides a request is read and written under one lock, so that no request is admitted
// to a canary after the route that ended it was applied.
type lane struct {
	g       *Gateway
	name    string
	numbers laneNumbers
	log     *slog.Logger
	wake    chan struct{} // holds one: there is something to prepare
	draw    chan struct{} // holds one: there is something urgent to tell the pool

	keeping sync.Mutex // held while the last stable route is written to disk; taken before mu

	mu       sync.Mutex
	service  lifecycle.Service
	keeps    *keeping        // what the service says of texts
	route    lifecycle.Route // newest that was seen
	bundles  map[lifecycle.Digest]*bundle
	stable   *bundle // that serves now; the old one until the route's is ready
	canary   *bundle // nil: none, or not ready
	exposure *exposure
	shadow   shadowBudget
	copying  copying
	drawing  bool // a question to the pool is under way
	lease    rollout.Lease
	held     bool // whether the lease was held when somebody looked last
	applied  struct{ epoch, generation int64 }
	counts   struct{ requests, canary int64 }
	known    known
	kept     lifecycle.Digest // sum of what stands on disk

	preparing  map[lifecycle.Digest]bool
	complaints map[string]string // what was logged last, by what it is about
}

func newLane(g *Gateway, name string) *lane {
	return &lane{
		g: g, name: name, numbers: g.metrics.lane(name), log: g.config.Log.With("service", name),
		wake: make(chan struct{}, 1), draw: make(chan struct{}, 1), bundles: map[lifecycle.Digest]*bundle{}, complaints: map[string]string{},
		preparing: map[lifecycle.Digest]bool{},
	}
}

// run follows the service's route until ctx ends.
func (l *lane) run(ctx context.Context) {
	l.restore(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { l.keepReady(ctx) })
	wg.Go(func() { l.keepReporting(ctx) })
	wg.Go(func() { l.keepDrawing(ctx) })
	for {
		err := l.g.config.Store.Follow(ctx, l.name, l.see)
		if ctx.Err() != nil {
			return
		}
		// Whatever it is, stable is served on.
		l.log.ErrorContext(ctx, "the route is not followed; trying again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// see takes a route that the registry gave: at once where that takes traffic from a canary, and as far as its
// bundles are ready for the rest.
func (l *lane) see(r lifecycle.Route) {
	l.mu.Lock()
	if r.Service != l.name || older(r, l.route) {
		l.mu.Unlock()
		return
	}
	// What was kept on disk has a generation, too, but names no canary.
	changed := r.Epoch != l.route.Epoch || r.Generation != l.route.Generation || r.Rollout != l.route.Rollout
	l.route = r
	l.endCopies()
	l.lease.See(r.Lease, l.g.config.Now())
	applied := l.settle()
	l.mu.Unlock()
	l.g.metrics.routeSeen.WithLabelValues(l.name).Set(float64(r.Generation))
	if changed {
		l.log.Info("route", "generation", r.Generation, "stable", r.Stable.Short(), "canary", r.Canary.Short(), "share_bp", int(r.Share), "applied", applied)
		l.poke()
	}
	if applied && changed {
		l.report()
	}
}

func older(a, b lifecycle.Route) bool {
	return a.Epoch < b.Epoch || a.Epoch == b.Epoch && a.Generation < b.Generation
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// settle makes the newest route decide, as far as its bundles are ready. It says whether this generation is
// applied: every request from now on is answered by the release that the route names, or by stable where the
// canary is not ready. The lock is held.
func (l *lane) settle() bool {
	if ready := l.bundles[l.route.Stable]; ready != nil {
		l.stable = ready
	}
	l.canary = l.bundles[l.route.Canary]
	if l.route.Canary == "" || l.route.Rollout == "" || l.stable == nil {
		l.canary = nil
	}
	if l.canary == nil {
		l.exposure = nil
	} else if l.exposure == nil || l.exposure.rollout != l.route.Rollout {
		l.begin()
	}
	l.allow()
	l.gauge()
	if l.exposure != nil {
		l.pokeDraw() // also the first question, which tells how things stand
	}
	if l.stable == nil || l.stable.id() != l.route.Stable {
		return false
	}
	l.applied.epoch, l.applied.generation = l.route.Epoch, l.route.Generation
	l.g.metrics.generation.WithLabelValues(l.name).Set(float64(l.route.Generation))
	return true
}

// begin starts the exposure of a rollout. A rollout that cannot be meant leaves all traffic on stable. The lock is
// held.
func (l *lane) begin() {
	exposure, err := l.g.newExposure(l.route, l.service.Rollout.Exposure)
	if err != nil {
		l.log.Error("the canary gets no traffic", "error", err)
		l.canary = nil
	}
	l.exposure = exposure
}

// allow puts the route's share in force for as long as the lease is held, and 0 else. The lock is held.
func (l *lane) allow() {
	held := l.lease.Held(l.g.config.Now())
	lapsed := l.held && !held
	l.held = held
	if l.exposure == nil {
		return
	}
	share := l.route.Share
	if !held {
		share = 0
	}
	if err := l.exposure.splitter.SetShare(share); err != nil {
		l.log.Error("the canary gets no traffic", "error", err)
	}
	l.expire()
	if lapsed {
		l.g.metrics.lapses.WithLabelValues(l.name).Inc()
		l.log.Warn("the canary's lease was not renewed; all traffic goes to stable", "rollout", l.exposure.rollout)
	}
}

// gauge shows the exposure. The lock is held.
func (l *lane) gauge() {
	credit, share := 0.0, lifecycle.BasisPoints(0)
	if l.exposure != nil {
		credit, share = l.exposure.splitter.Credit(), l.exposure.splitter.Share()
	}
	l.numbers.credit.Set(credit)
	l.numbers.share.Set(float64(share))
}

// ready says whether the lane can answer, and with what.
func (l *lane) ready() (stable lifecycle.Digest, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stable == nil {
		return "", false
	}
	return l.stable.id(), true
}

// report says to the registry what is applied and how much was served. Without the registry it is tried again
// with the next one.
func (l *lane) report() {
	select {
	case l.g.reports <- l:
	default: // a report of some lane is on its way; the ticker brings this one
	}
}

func (l *lane) keepReporting(ctx context.Context) {
	ticker := time.NewTicker(l.g.config.ReportAll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.tick()
			l.report()
		}
	}
}

// tick notices a lease that ran out while nobody asked anything, so that the gauges are true.
func (l *lane) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allow()
	l.gauge()
}

func (l *lane) snapshot() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Report{
		Service: l.name, Gateway: l.g.config.ID, Epoch: l.applied.epoch, Generation: l.applied.generation,
		Requests: l.counts.requests, Canary: l.counts.canary, Pooled: true, Started: l.g.started,
		Known: l.known.look(l.g.config.Capture, l.g.config.Now()),
	}
}
