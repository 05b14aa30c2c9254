package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// sideShadow is whose answers nobody is shown.
const sideShadow = "shadow"

// shadows are the copies of requests that go to releases whose answers nobody is shown. They have a budget of
// their own and never wait for anything that users need: what finds no room is dropped and counted.
type shadows struct {
	mu   sync.Mutex
	ctx  context.Context // of those that are under way; nil: none may begin
	done sync.WaitGroup
}

// open lets shadows begin until the function that it gives has returned, which ends those that are under way.
func (s *shadows) open(ctx context.Context) (closeAll func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.ctx = nil
		s.mu.Unlock()
		cancel()
		s.done.Wait()
	}
}

// begin runs do beside everything else, unless the gateway stops.
func (s *shadows) begin(do func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		return false
	}
	ctx := s.ctx
	s.done.Go(func() { do(ctx) })
	return true
}

// shadowBudget is what a service's shadows may take at this gateway. The lane's lock guards it.
type shadowBudget struct {
	policy lifecycle.Shadow
	atOnce int
	minute window
}

// shadowOf gives the release that a declaration names for shadows, where it may have any now: stable's and the
// canary's answers are users', and are counted at their servers.
func shadowOf(service lifecycle.Service, route lifecycle.Route) lifecycle.Digest {
	id := service.Shadow.Release
	if id == route.Stable || id == route.Canary {
		return ""
	}
	return id
}

// named are the releases that the lane keeps ready.
func named(service lifecycle.Service, route lifecycle.Route) []lifecycle.Digest {
	return []lifecycle.Digest{route.Stable, route.Canary, route.Previous, shadowOf(service, route)}
}

// shadowing takes a part of the budget for a copy of a request, where this one is to be copied. Every reason why a copy
// that was due is not made has a name; "" is none.
func (l *lane) shadowing(since time.Duration) (b *bundle, policy lifecycle.Shadow, dropped string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	policy = l.service.Shadow
	id := shadowOf(l.service, l.route)
	if id == "" || rand.IntN(int(lifecycle.Whole)) >= int(policy.Share) {
		return nil, policy, ""
	}
	budget := &l.shadow
	if budget.policy != policy {
		budget.policy, budget.minute = policy, window{limit: int64(policy.PerMinute)}
	}
	if b = l.bundles[id]; b == nil {
		return nil, policy, "not_ready"
	}
	if budget.atOnce >= policy.AtOnce {
		return nil, policy, "at_once"
	}
	if _, ok := budget.minute.take(since, 1); !ok {
		return nil, policy, "per_minute"
	}
	budget.atOnce++
	return b, policy, ""
}

// alone gives those of a shadow's servers that nothing else uses, in no service: what is shared would be taken from
// users.
func (g *Gateway) alone(shadow *bundle) []lifecycle.Endpoint {
	used := map[string]bool{}
	for _, l := range g.allLanes() {
		l.mu.Lock()
		for _, b := range l.bundles {
			if b == shadow {
				continue
			}
			for _, e := range b.servers() {
				used[e.URL] = true
			}
		}
		l.mu.Unlock()
	}
	return slices.DeleteFunc(slices.Clone(shadow.servers()), func(e lifecycle.Endpoint) bool { return used[e.URL] })
}

// castShadow copies a request that was answered, unless it was for embeddings. It returns at once.
func (q *request) castShadow() {
	if !q.decided.shadow {
		return
	}
	l := q.lane
	b, policy, dropped := l.shadowing(q.g.keys.since())
	if b != nil {
		q.asked.Share() // the request itself ends meanwhile
		if !q.g.shadows.begin(func(ctx context.Context) { q.shadow(ctx, b, policy) }) {
			q.asked.Free()
			l.shadowEnded()
			dropped = "stopping"
		}
	}
	if dropped != "" {
		q.g.metrics.dropped.WithLabelValues(l.name, dropped).Inc()
	}
}

func (l *lane) shadowEnded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shadow.atOnce--
}

// shadow asks a server of the shadow's own and keeps what it said beside what the user got.
func (q *request) shadow(ctx context.Context, b *bundle, policy lifecycle.Shadow) {
	defer q.lane.shadowEnded()
	defer q.asked.Free()
	ctx, cancel := context.WithTimeout(ctx, policy.Deadline.D())
	defer cancel()
	p := q.g.balancer.try(b, q.g.alone(b))
	if p == nil {
		q.g.metrics.dropped.WithLabelValues(q.lane.name, "no_server").Inc()
		return
	}
	i := lifecycle.Interaction{
		ID: lifecycle.ShadowPrefix + q.record.ID, Service: q.record.Service, Conversation: q.record.Conversation,
		Turn: q.record.Turn, Client: q.record.Client, Owner: q.record.Owner, Release: b.id(), Endpoint: q.endpoint, Started: q.g.config.Now().UTC(),
	}
	result, err := q.g.config.Path.Do(ctx, b.answer, b.upstream(p.Endpoint), answer.Request{
		Asked: q.asked, Header: http.Header{headerRequest: {i.ID}, headerHash: {i.Conversation}}, Unkept: q.record.Content != lifecycle.ContentFull,
	}, nowhere{})
	if ctx.Err() == context.DeadlineExceeded {
		result.Outcome = answer.OutcomeError // the shadow was too slow; nobody left
	}
	p.done(attemptOf(ctx, result, err))
	b.meter.ended(q.endpoint, sideShadow, result.Outcome, result.Latency, result.Usage)
	q.fill(&i, b, result)
	q.g.config.Capture.Arrived(i.Service)
	q.g.config.Capture.Interaction(i)
}

// nowhere takes an answer that nobody is shown.
type nowhere struct{}

func (nowhere) Start(int, http.Header)      {}
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Flush() error                { return nil }
