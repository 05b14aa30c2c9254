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

// casting is a copy of a request that is to be made.
type casting struct {
	to     *bundle
	policy lifecycle.Shadow
	shared bool            // it may take a free place on servers that users' answers come from
	tossed *coin           // of a rollout's shadow step: it is known when this copy is; nil: it is no such one
	over   context.Context // of that step
}

// copying is the shadow step of the rollout in flight, for as long as the route names it.
type copying struct {
	rollout string
	ctx     context.Context
	cancel  context.CancelFunc
}

// endCopies ends the copies of a shadow step that the newest route does not name any more: what a rollout's servers
// count from its first share on is users'. The lock is held.
func (l *lane) endCopies() {
	if l.copying.cancel != nil && (l.route.Shadow == 0 || l.route.Rollout != l.copying.rollout) {
		l.copying.cancel()
		l.copying = copying{}
	}
}

// copies says who gets copies of what was decided so: in a rollout's shadow step its candidate, for as long as its lease
// is held, else the release that the declaration names. The lock is held.
func (l *lane) copies(d decision) (to lifecycle.Shadow, step *lifecycle.ShadowStep) {
	if l.route.Shadow > 0 && l.lease.Held(l.g.config.Now()) {
		if d.rollout != l.route.Rollout || d.step != lifecycle.ShadowIndex || d.canary != nil {
			return lifecycle.Shadow{}, nil // admitted before the step began: it belongs to no pair
		}
		var declared lifecycle.ShadowStep
		if l.service.Rollout.Shadow != nil {
			declared = *l.service.Rollout.Shadow
		}
		declared = declared.WithDefaults()
		return declared.Copies(l.route.Canary, l.route.Shadow), &declared
	}
	to = l.service.Shadow
	to.Release = shadowOf(l.service, l.route)
	return to, nil
}

// shadowing takes a part of the budget for a copy of a request, where this one is to be copied. Every reason why a copy
// that was due is not made has a name; "" is none.
func (l *lane) shadowing(d decision, since time.Duration) (c casting, dropped string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	policy, step := l.copies(d)
	if policy.Release == "" || rand.IntN(int(lifecycle.Whole)) >= int(policy.Share) {
		return c, ""
	}
	budget := &l.shadow
	if budget.policy != policy {
		budget.policy, budget.minute = policy, window{limit: int64(policy.PerMinute)}
	}
	b := l.bundles[policy.Release]
	if b == nil {
		return c, "not_ready"
	}
	if budget.atOnce >= policy.AtOnce {
		return c, "at_once"
	}
	if _, ok := budget.minute.take(since, 1); !ok {
		return c, "per_minute"
	}
	budget.atOnce++
	c = casting{to: b, policy: policy}
	if step != nil {
		if l.copying.cancel == nil {
			ctx, cancel := context.WithCancel(context.Background())
			l.copying = copying{rollout: l.route.Rollout, ctx: ctx, cancel: cancel}
		}
		c.shared, c.over, c.tossed = step.Shared, l.copying.ctx, l.known.toss(l.g.config.Now())
	}
	return c, ""
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
	c, dropped := l.shadowing(q.decided, q.g.keys.since())
	if c.to != nil {
		q.asked.Share() // the request itself ends meanwhile
		if !q.g.shadows.begin(func(ctx context.Context) { q.shadow(ctx, c) }) {
			q.asked.Free()
			l.shadowEnded(c)
			dropped = "stopping"
		}
	}
	if dropped != "" {
		q.g.metrics.dropped.WithLabelValues(l.name, dropped).Inc()
	}
}

func (l *lane) shadowEnded(c casting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shadow.atOnce--
	if c.tossed != nil {
		l.known.settle(c.tossed)
	}
}

// shadow asks a server of the shadow's own and keeps what it said beside what the user got.
func (q *request) shadow(ctx context.Context, c casting) {
	defer q.lane.shadowEnded(c)
	defer q.asked.Free()
	b := c.to
	ctx, cancel := context.WithTimeout(ctx, c.policy.Deadline.D())
	defer cancel()
	if c.over != nil {
		defer context.AfterFunc(c.over, cancel)()
	}
	servers := b.servers()
	if !c.shared {
		servers = q.g.alone(b)
	}
	p := q.g.balancer.try(b, servers)
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
