package gateway

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/rollout"
)

// Sides of a rollout, as metrics spell them.
const (
	sideStable = "stable"
	sideCanary = "canary"
)

// conversation is what is known of the conversation that a request belongs to.
type conversation struct {
	token    token
	signed   bool // the token is the client's and its signature holds
	turns    int  // of the assistant so far
	endpoint string
	asked    *answer.Asked
}

// decision is who answers a request. It is final when it is made, but for the rescue by stable.
type decision struct {
	stable     *bundle
	canary     *bundle // nil: stable answers
	rollout    string
	step       int
	coin       bool
	propensity float64
	moved      bool
	keeping    *keeping // what may be kept of the texts
	shadow     bool     // the service may copy it to a shadow
	at         time.Time
	tossed     *coin // nil: its conversation did not toss with this request

	exposure *exposure // that decided; nil: none
	choice   rollout.Choice
}

// enter waits for a place on stable. A request comes in only with one, whoever will answer it: so what is
// turned away earns no credit for the canary, a rescue is likely to find a server, and the decision is made by
// the route of the moment after the wait.
func (l *lane) enter(ctx context.Context) (*place, *problem) {
	l.mu.Lock()
	stable := l.stable
	l.mu.Unlock()
	if stable == nil {
		l.g.metrics.shed.WithLabelValues(l.name, "not_ready").Inc()
		p := notReady(l.name)
		return nil, &p
	}
	place, err := l.g.balancer.acquire(ctx, stable)
	if err == nil && !overdue(ctx) {
		return place, nil
	}
	reason, p := "busy", busy(err)
	switch {
	case overdue(ctx):
		reason, p = "deadline", late()
	case ctx.Err() != nil:
		reason = "left" // while it waited
	}
	if place != nil {
		place.done(serverUnasked)
	}
	l.g.metrics.shed.WithLabelValues(l.name, reason).Inc()
	return nil, &p
}

// admit decides who answers a request and takes the credit for it. The lane has a stable release: its request came
// in by enter. Requests for embeddings are stable's: vectors of two releases must not mix.
func (l *lane) admit(ctx context.Context, c conversation) decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.endpoint == answer.Embeddings {
		return decision{stable: l.stable, keeping: l.keeps, at: l.g.config.Now()}
	}
	l.counts.requests++
	elsewhere := false
	if e := l.exposure; e != nil && c.turns > 0 && !c.signed && e.splitter.MustLookUp(rollout.Hash(c.token.hash)) {
		l.mu.Unlock()
		elsewhere = l.lookUp(ctx, e.rollout, c.token.hash)
		l.mu.Lock()
		// The route may have changed meanwhile; what was found holds for that rollout only.
		elsewhere = elsewhere && l.exposure != nil && l.exposure.rollout == e.rollout
	}
	d := decision{stable: l.stable, rollout: l.route.Rollout, step: l.route.Step, keeping: l.keeps, shadow: l.service.Shadow.Release != "" || l.route.Shadow > 0,
		at: l.g.config.Now()}
	if l.exposure == nil {
		return d
	}
	l.allow() // the lease may have run out since the last look
	if c.signed {
		elsewhere = c.token.tag == l.g.signer.tag(l.exposure.rollout)
	}
	choice := l.exposure.splitter.Admit(rollout.Request{
		Conversation: rollout.Hash(c.token.hash), Running: c.turns > 0 || c.signed, OnCanary: elsewhere,
		Left: c.signed && !elsewhere, Tokens: l.mostTokens(c.asked),
	})
	d.exposure, d.choice = l.exposure, choice
	d.coin, d.propensity, d.moved = choice.Coin, choice.Propensity, choice.Moved
	if choice.First && choice.Coin {
		d.tossed = l.known.toss(d.at)
	}
	if choice.Short {
		l.g.exposed.short.WithLabelValues(l.name).Inc()
	}
	if choice.Moved {
		l.g.metrics.moved.WithLabelValues(l.name).Inc()
		l.tellOthers(c.token.hash, true)
	}
	if choice.Side == rollout.Canary {
		d.canary = l.canary
		l.counts.canary++
		if choice.First {
			l.tellOthers(c.token.hash, false)
		}
	}
	l.drawIfUrgent(l.exposure)
	l.gauge()
	return d
}

// settled says that a request has ended, with a record or without.
func (l *lane) settled(d decision) {
	if d.tossed == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.settle(d.tossed)
}

// lookUp asks the registry whether another gateway began the conversation on the canary. No answer in time is
// no: the conversation goes to stable.
func (l *lane) lookUp(ctx context.Context, rolloutID string, hash conversationHash) bool {
	ctx, cancel := context.WithTimeout(ctx, l.g.config.Lookup)
	defer cancel()
	found, err := l.g.config.Store.CanaryConversation(ctx, l.name, rolloutID, hash.String())
	if err != nil {
		l.g.metrics.unlooked.WithLabelValues(l.name).Inc()
		return false
	}
	return found
}

// tellOthers queues the conversation for the registry. A full queue drops it: other gateways then take the
// conversation to stable, which is safe, or do not hear that it was moved, which costs its owner one more change.
func (l *lane) tellOthers(hash conversationHash, moved bool) {
	c := canaryConversation{service: l.name, rollout: l.exposure.rollout, conversation: hash.String(), moved: moved}
	select {
	case l.g.behind <- c:
	default:
		l.g.metrics.unwritten.WithLabelValues(l.name).Inc()
	}
}
