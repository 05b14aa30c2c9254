package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/refitml/refit/internal/lifecycle"
)

// Gateway is the data plane of one process. Make it with New, run it with Run or Serve.
type Gateway struct {
	config   Config
	started  time.Time
	signer   signer
	shelf    shelf
	balancer *balancer
	metrics  *metrics
	keys     *keyring
	shadows  shadows
	tracer   trace.Tracer // nil: no spans are made
	exposed  *exposureMetrics
	reports  chan *lane
	behind   chan canaryConversation

	mu       sync.RWMutex
	lanes    map[string]*lane
	draining bool
}

// canaryConversation is what other gateways must know of a conversation.
type canaryConversation struct {
	service, rollout, conversation string
	moved                          bool // to stable, for good
}

// New makes a gateway. It follows nothing and listens nowhere yet.
func New(config Config) (*Gateway, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	started, signer := config.Now(), newSigner(config.Key)
	var tracer trace.Tracer
	if config.Traces != nil {
		tracer = config.Traces.Tracer("github.com/refitml/refit/internal/gateway", trace.WithSchemaURL(semconv.SchemaURL))
	}
	g := &Gateway{
		tracer:   tracer,
		config:   config,
		started:  started,
		keys:     newKeyring(config, signer, started),
		signer:   signer,
		shelf:    shelf{dir: config.StateDir},
		balancer: newBalancer(config.QueueTime, config.Queue, time.Second, config.Now),
		metrics:  newMetrics(config.Metrics),
		exposed:  newExposureMetrics(config.Metrics),
		reports:  make(chan *lane, 64),
		behind:   make(chan canaryConversation, 1024),
		lanes:    map[string]*lane{},
	}
	g.balancer.told = g.healthSaid
	return g, nil
}

// Serve runs the gateway and answers on the listener until ctx ends; then it refuses new work, lets requests in
// flight end for at most Config.Drain, and returns. The listener is closed.
func (g *Gateway) Serve(ctx context.Context, listener net.Listener) error {
	// Requests in flight still need routes and captures while they drain, so Run ends after them.
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	server := g.server()
	group, groupCtx := errgroup.WithContext(runCtx)
	group.Go(func() error { return g.Run(groupCtx) })
	group.Go(func() error {
		if err := server.Serve(guardedListener{listener}); !errors.Is(err, http.ErrServerClosed) {
			return lifecycle.Errorf(lifecycle.Unavailable, "serve on %s: %w", listener.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		select {
		case <-ctx.Done():
		case <-groupCtx.Done():
		}
		g.mu.Lock()
		g.draining = true
		g.mu.Unlock()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.config.Drain)
		defer cancel()
		err := server.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			g.config.Log.Warn("requests were still in flight when the drain time was over", "drain", g.config.Drain)
			err = server.Close()
		}
		stop()
		return err
	})
	return group.Wait()
}

// Run follows the routes, keeps releases ready and reports, until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.shadows.open(ctx)()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { g.writeReports(ctx); return nil })
	group.Go(func() error { g.writeBehind(ctx); return nil })
	group.Go(func() error { g.keys.follow(ctx, g.config.Store); return nil })
	for _, name := range g.config.Services {
		g.addLane(ctx, group, name)
	}
	if len(g.config.Services) == 0 {
		for _, name := range g.shelf.services() {
			g.addLane(ctx, group, name)
		}
		group.Go(func() error { g.discover(ctx, group); return nil })
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (g *Gateway) addLane(ctx context.Context, group *errgroup.Group, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lanes[name] != nil {
		return
	}
	l := newLane(g, name)
	g.lanes[name] = l
	group.Go(func() error { l.run(ctx); return nil })
}

// discover adds every service that is applied, as they come.
func (g *Gateway) discover(ctx context.Context, group *errgroup.Group) {
	ticker := time.NewTicker(g.config.Refresh)
	defer ticker.Stop()
	for {
		names, err := g.config.Store.Services(ctx)
		if err != nil && ctx.Err() == nil {
			g.config.Log.DebugContext(ctx, "the registry does not name its services", "error", err)
		}
		for _, name := range names {
			g.addLane(ctx, group, name)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (g *Gateway) lane(name string) *lane {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.lanes[name]
}

// allLanes gives the lanes by name.
func (g *Gateway) allLanes() []*lane {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var lanes []*lane
	for _, l := range g.lanes {
		lanes = append(lanes, l)
	}
	slices.SortFunc(lanes, func(a, b *lane) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return lanes
}

// writeReports writes one report after the other; a slow registry makes fewer reports, never a queue of
// old ones: what is written is what holds at that moment.
func (g *Gateway) writeReports(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-g.reports:
			report := l.snapshot()
			if report.Generation == 0 {
				continue // nothing is applied yet, and zero is no generation
			}
			limited, cancel := context.WithTimeout(ctx, 5*time.Second)
			if err := g.config.Store.Report(limited, report); err != nil && ctx.Err() == nil {
				g.config.Log.DebugContext(ctx, "a report was not written", "service", l.name, "error", err)
			}
			cancel()
		}
	}
}

// writeBehind tells the registry which conversations are on a canary, so that other gateways find them.
func (g *Gateway) writeBehind(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-g.behind:
			limited, cancel := context.WithTimeout(ctx, 5*time.Second)
			tell := g.config.Store.AddCanaryConversation
			if c.moved {
				tell = g.config.Store.MoveCanaryConversation
			}
			if err := tell(limited, c.service, c.rollout, c.conversation); err != nil {
				g.metrics.unwritten.WithLabelValues(c.service).Inc()
			}
			cancel()
		}
	}
}

// forgetServers drops what the balancer knows of servers that no bundle names.
func (g *Gateway) forgetServers() {
	used := map[string]bool{}
	for _, l := range g.allLanes() {
		l.mu.Lock()
		for _, b := range l.bundles {
			for _, e := range b.servers() {
				used[e.URL] = true
			}
		}
		l.mu.Unlock()
	}
	g.balancer.forget(used)
}
