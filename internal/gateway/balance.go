package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// errFull says that no server has a free place and that the queue is full or the wait is over.
var errFull = lifecycle.Errorf(lifecycle.Unavailable, "every model server is busy")

// errNone says that there is no server at all.
var errNone = lifecycle.Errorf(lifecycle.Unavailable, "no model server is ready")

// balancer hands out places on model servers: round robin over the ready ones, never more than a server's
// capacity at once over all releases that share it, with one short queue. Safe for concurrent use.
type balancer struct {
	wait  time.Duration // in the queue at most
	queue int           // waiters at most
	pause time.Duration // that a server which could not be reached is left alone
	now   func() time.Time

	mu      sync.Mutex
	servers map[string]*modelServer // by URL
	waiters []*waiter               // in order of arrival
	turn    int
}

type modelServer struct {
	capacity int
	inUse    int
	down     time.Time // left alone until then
}

type waiter struct {
	endpoints []lifecycle.Endpoint
	got       chan lifecycle.Endpoint // holds one
}

// place is a place on a model server, until done is called.
type place struct {
	lifecycle.Endpoint
	bundle *bundle // that it was taken for
	b      *balancer
	once   sync.Once
}

func newBalancer(wait time.Duration, queue int, pause time.Duration, now func() time.Time) *balancer {
	return &balancer{wait: wait, queue: queue, pause: pause, now: now, servers: map[string]*modelServer{}}
}

// acquire takes a place on one of the release's servers; not leaves out servers by URL that were tried already.
func (b *balancer) acquire(ctx context.Context, release *bundle, not ...string) (*place, error) {
	e, err := b.take(ctx, release.servers(), not...)
	if err != nil {
		return nil, err
	}
	return &place{Endpoint: e, bundle: release, b: b}, nil
}

func (b *balancer) take(ctx context.Context, endpoints []lifecycle.Endpoint, not ...string) (lifecycle.Endpoint, error) {
	endpoints = slices.DeleteFunc(slices.Clone(endpoints), func(e lifecycle.Endpoint) bool {
		return !e.Ready || slices.Contains(not, e.URL)
	})
	if len(endpoints) == 0 {
		return lifecycle.Endpoint{}, errNone
	}
	b.mu.Lock()
	if e, ok := b.pick(endpoints); ok {
		b.mu.Unlock()
		return e, nil
	}
	if len(b.waiters) >= b.queue {
		b.mu.Unlock()
		return lifecycle.Endpoint{}, errFull
	}
	w := &waiter{endpoints: endpoints, got: make(chan lifecycle.Endpoint, 1)}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()

	timer := time.NewTimer(b.wait)
	defer timer.Stop()
	err := errFull
	select {
	case e := <-w.got:
		return e, nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case e := <-w.got: // handed over in the same moment
		return e, nil
	default:
		b.waiters = slices.DeleteFunc(b.waiters, func(other *waiter) bool { return other == w })
		return lifecycle.Endpoint{}, err
	}
}

// pick takes a free place. Servers that could not be reached lately come last, so that one that is alone is
// still tried. The lock is held.
func (b *balancer) pick(endpoints []lifecycle.Endpoint) (lifecycle.Endpoint, bool) {
	b.turn++
	now := b.now()
	for _, reachable := range []bool{true, false} {
		for i := range endpoints {
			e := endpoints[(b.turn+i)%len(endpoints)]
			s := b.server(e)
			if s.inUse < s.capacity && now.After(s.down) == reachable {
				s.inUse++
				return e, true
			}
		}
	}
	return lifecycle.Endpoint{}, false
}

func (b *balancer) server(e lifecycle.Endpoint) *modelServer {
	s := b.servers[e.URL]
	if s == nil {
		s = &modelServer{}
		b.servers[e.URL] = s
	}
	s.capacity = max(e.Capacity, 1)
	return s
}

// done gives the place back. unreachable leaves the server alone for a while.
func (p *place) done(unreachable bool) {
	p.once.Do(func() {
		b := p.b
		b.mu.Lock()
		defer b.mu.Unlock()
		s := b.servers[p.URL]
		s.inUse--
		if unreachable {
			s.down = b.now().Add(b.pause)
		}
		for i, w := range b.waiters {
			e, ok := b.pick(w.endpoints)
			if ok {
				b.waiters = slices.Delete(b.waiters, i, i+1)
				w.got <- e
				return
			}
		}
	})
}

// forget drops servers that no endpoint names any more and nobody uses.
func (b *balancer) forget(used map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for url, s := range b.servers {
		if s.inUse == 0 && !used[url] {
			delete(b.servers, url)
		}
	}
}
