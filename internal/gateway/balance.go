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

// hopeless is how many times longer than the wait in the queue a place must be likely to take, for a request to be
// turned away at once. At 4 about one of five would still have got one in time.
const hopeless = 4

// fullError is errFull with how long a place is likely to take.
type fullError struct{ after time.Duration }

func (fullError) Error() string { return errFull.Error() }
func (fullError) Unwrap() error { return errFull }

// balancer hands out places on model servers: round robin over those that are in, never more than a server's
// capacity at once over all releases that share it, with a short queue. A server that fails is taken out for a
// while and then tried by one request; see health. Where all of a release's servers are out they are all tried:
// a release is never without a server for that. Safe for concurrent use.
type balancer struct {
	wait  time.Duration // in the queue at most
	queue int           // waiters for the same servers at most
	pause time.Duration // that a server is out at first
	now   func() time.Time
	told  func(server patient, isOut bool, out time.Duration) // of a change; nil: nobody is

	mu      sync.Mutex
	servers map[string]*modelServer // by URL
	health  map[patient]*health     // only of what failed
	waiters []*waiter               // in order of arrival
	turn    int
}

type modelServer struct {
	capacity int
	inUse    int
	held     time.Duration // how long a place is used, smoothed; 0: not known
}

type waiter struct {
	endpoints []lifecycle.Endpoint
	not       []string
	got       chan grant // holds one
}

// grant is a place that was taken.
type grant struct {
	lifecycle.Endpoint
	probe bool // it tries a server that is out
}

// place is a place on a model server, until done is called.
type place struct {
	grant
	bundle *bundle // that it was taken for
	b      *balancer
	taken  time.Time
	back   bool // it was given back; the balancer's lock guards it
}

func newBalancer(wait time.Duration, queue int, pause time.Duration, now func() time.Time) *balancer {
	return &balancer{wait: wait, queue: queue, pause: pause, now: now, servers: map[string]*modelServer{}, health: map[patient]*health{}}
}

// acquire takes a place on one of the release's servers; not leaves out servers by URL that were tried already.
func (b *balancer) acquire(ctx context.Context, release *bundle, not ...string) (*place, error) {
	got, err := b.take(ctx, release.servers(), not)
	if err != nil {
		return nil, err
	}
	return &place{grant: got, bundle: release, b: b, taken: b.now()}, nil
}

// try takes a place on one of the release's servers that are given, without waiting; nil where none is free.
func (b *balancer) try(release *bundle, endpoints []lifecycle.Endpoint) *place {
	b.mu.Lock()
	defer b.mu.Unlock()
	got, ok := b.pick(endpoints, nil)
	if !ok {
		return nil
	}
	return &place{grant: got, bundle: release, b: b, taken: b.now()}
}

func (b *balancer) take(ctx context.Context, endpoints []lifecycle.Endpoint, not []string) (grant, error) {
	if !slices.ContainsFunc(endpoints, func(e lifecycle.Endpoint) bool { return usable(e, not) }) {
		return grant{}, errNone
	}
	b.mu.Lock()
	if got, ok := b.pick(endpoints, not); ok {
		b.mu.Unlock()
		return got, nil
	}
	ahead, likely := b.likely(endpoints)
	wait := b.wait
	if until, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(until))
	}
	if ahead >= b.queue || likely > hopeless*wait {
		b.mu.Unlock()
		return grant{}, fullError{likely} // at once: who would wait in vain is told so now
	}
	w := &waiter{endpoints: endpoints, not: not, got: make(chan grant, 1)}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()

	timer := time.NewTimer(b.wait)
	defer timer.Stop()
	var err error = fullError{likely}
	select {
	case got := <-w.got:
		return got, nil
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case got := <-w.got: // handed over in the same moment
		return got, nil
	default:
		b.waiters = slices.DeleteFunc(b.waiters, func(other *waiter) bool { return other == w })
		return grant{}, err
	}
}

func usable(e lifecycle.Endpoint, not []string) bool { return e.Ready && !slices.Contains(not, e.URL) }

// pick takes a free place: on a server that is due to be tried again, else on one that is in, else, where none is
// in, on any. The lock is held.
func (b *balancer) pick(endpoints []lifecycle.Endpoint, not []string) (grant, bool) {
	b.turn++
	if len(b.health) == 0 { // the usual case
		return b.first(endpoints, func(e lifecycle.Endpoint) bool { return usable(e, not) })
	}
	now := b.now()
	stands := func(want standing) func(lifecycle.Endpoint) bool {
		return func(e lifecycle.Endpoint) bool {
			return usable(e, not) && b.health[patient{e.URL, e.Release}].standing(now) == want
		}
	}
	if got, ok := b.first(endpoints, stands(due)); ok {
		b.health[patient{got.URL, got.Release}].probing = true
		got.probe = true
		return got, true
	}
	if slices.ContainsFunc(endpoints, stands(in)) {
		return b.first(endpoints, stands(in)) // those that are in and full are waited for
	}
	return b.first(endpoints, func(e lifecycle.Endpoint) bool { return usable(e, not) })
}

// first takes the first free place, from the next server on. The lock is held.
func (b *balancer) first(endpoints []lifecycle.Endpoint, fits func(lifecycle.Endpoint) bool) (grant, bool) {
	for i := range endpoints {
		e := endpoints[(b.turn+i)%len(endpoints)]
		if !fits(e) {
			continue
		}
		if s := b.server(e); s.inUse < s.capacity {
			s.inUse++
			return grant{Endpoint: e}, true
		}
	}
	return grant{}, false
}

// likely says how many wait for the same servers already, and how long one more would wait, by how long places
// were used so far. The lock is held.
func (b *balancer) likely(endpoints []lifecycle.Endpoint) (ahead int, wait time.Duration) {
	shared := func(e lifecycle.Endpoint) bool {
		return slices.ContainsFunc(endpoints, func(mine lifecycle.Endpoint) bool { return mine.URL == e.URL })
	}
	for _, w := range b.waiters {
		if slices.ContainsFunc(w.endpoints, shared) {
			ahead++
		}
	}
	perSecond := 0.0
	for _, e := range endpoints {
		if s := b.server(e); s.held > 0 {
			perSecond += float64(s.capacity) / s.held.Seconds()
		}
	}
	if perSecond > 0 {
		wait = time.Duration(float64(ahead+1) / perSecond * float64(time.Second))
	}
	return ahead, wait
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

// began says that the server has begun its answer: it gets requests again, however long this answer takes.
func (p *place) began() {
	b := p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.health) == 0 {
		return
	}
	key := patient{p.URL, p.Release}
	if h := b.health[key]; h != nil && h.began() && b.told != nil {
		b.told(key, false, 0)
	}
}

// done gives the place back, with what became of it.
func (p *place) done(what attempt) {
	b := p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.back {
		return
	}
	p.back = true
	s := b.servers[p.URL]
	s.inUse--
	if what == serverAnswered {
		s.held = smooth(s.held, b.now().Sub(p.taken))
	}
	b.learn(p, what)
	for i, w := range b.waiters {
		got, ok := b.pick(w.endpoints, w.not)
		if ok {
			b.waiters = slices.Delete(b.waiters, i, i+1)
			w.got <- got
			return
		}
	}
}

// smooth lets one more measurement count for a tenth.
func smooth(before, now time.Duration) time.Duration {
	if before == 0 {
		return now
	}
	return before + (now-before)/10
}

// learn keeps what an attempt says of the server. The lock is held.
func (b *balancer) learn(p *place, what attempt) {
	key := patient{p.URL, p.Release}
	h := b.health[key]
	if h == nil {
		if what == serverAnswered || what == serverUnasked {
			return
		}
		h = &health{}
		b.health[key] = h
	}
	if h.learn(what, p.probe, b.now(), b.pause) && b.told != nil {
		b.told(key, h.isOut, h.out)
	}
	if *h == (health{}) {
		delete(b.health, key)
	}
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
	for key := range b.health {
		if !used[key.url] {
			delete(b.health, key)
		}
	}
}
