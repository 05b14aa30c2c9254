package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// request is one request on its way through the gateway.
type request struct {
	g        *Gateway
	lane     *lane
	endpoint string
	asked    *answer.Asked
	header   http.Header // that answer may pass on
	limits   limits
	token    token
	decided  decision
	sink     sink
	place    *place        // on stable, taken before anything was decided; nil once it was used or given back
	queued   time.Duration // for places, so far
	tried    string        // address of a server that could not be reached
	record   lifecycle.Interaction
	captured bool
	trip     *trip // nil: not sampled
}

// answering serves one endpoint of the API.
func (g *Gateway) answering(endpoint string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		started, came := g.config.Now(), time.Now() // contexts know no clock but the system's
		caller, p := g.keys.enter(w, r)
		if p != nil {
			g.refuseCaller(w, *p)
			return
		}
		l, asked, p := g.read(w, r, endpoint)
		if p != nil {
			p.write(w)
			return
		}
		defer asked.Free()
		if !caller.may(l.name) {
			noService(l.name).write(w)
			return
		}
		var q *request
		g.config.Capture.Arrived(l.name)
		defer func() { // however this ends, the request is in one account
			if q == nil || !q.captured {
				g.config.Capture.Shed(l.name)
			}
			if q != nil {
				l.settled(q.decided)
			}
		}()
		spent, p := g.keys.reserve(w, caller, asked.Size())
		if p != nil {
			g.refuseCaller(w, *p)
			return
		}
		result := &answer.Result{}
		defer func() { g.keys.settle(spent, result) }()
		arrived := g.config.Now()
		limits := l.limitsOf(r.Header, asked.Stream())
		ctx, begun, end := limits.hold(r.Context(), came)
		defer end()
		place, p := l.enter(ctx)
		if p != nil {
			p.write(w)
			return
		}
		defer place.done(serverUnasked)
		queued := place.taken.Sub(arrived)
		client := g.signer.client(r, g.config.ClientHeader, caller.id())
		t, signed := g.signer.identify(l.name, client, asked.First(), r.Header, g.config.named(r.Header))
		decided := l.admit(ctx, conversation{token: t, signed: signed, turns: asked.Turns(), endpoint: endpoint, asked: asked})
		l.numbers.inFlight.Inc()
		defer l.numbers.inFlight.Dec()
		owner := caller.owns()
		interaction, hash := g.signer.newInteraction(l.name, owner), t.hash.String()
		q = &request{
			g: g, lane: l, endpoint: endpoint, asked: asked, token: t, decided: decided,
			sink:   sink{patience: patience{w: w, limit: g.config.Patience}, begun: begun},
			limits: limits, place: place, queued: queued,
			record: lifecycle.Interaction{
				ID: interaction, Service: l.name, Conversation: hash, Turn: asked.Turns(), Client: client, Owner: owner,
				Rollout: decided.rollout, Step: decided.step, Canary: decided.canary != nil, Coin: decided.coin,
				Propensity: decided.propensity, Moved: decided.moved, Endpoint: endpoint, Started: decided.at.UTC(),
				Content: decided.keeping.of(g.signer, l.name, hash),
			},
			header: make(http.Header, 4),
		}
		values := [2]string{requestID(r.Header, interaction), hash}
		q.header[headerRequest], q.header[headerHash] = values[:1:1], values[1:]
		for _, name := range [...]string{"Traceparent", "Tracestate"} {
			if values := r.Header[name]; len(values) > 0 && values[0] != "" {
				q.header[name] = values[:1:1]
			}
		}
		q.trip = g.depart(r, started)
		q.trip.part("queue", arrived, queued)
		defer q.castShadow() // after the answer, which it can neither hold up nor change
		q.sink.wait(r)
		q.run(ctx, w, started, result)
	}
}

// run answers: by the canary where that was decided, and by stable where it was not or where the canary failed
// before the first byte. Never the other way round.
func (q *request) run(ctx context.Context, w http.ResponseWriter, started time.Time, came *answer.Result) {
	var result answer.Result
	var err error
	served, side := q.decided.stable, sideStable
	if q.decided.canary != nil {
		q.place.done(serverUnasked)
		q.place = nil
		served, side = q.decided.canary, sideCanary
		q.record.Release = served.id()
		result, err = q.try(ctx, served, side)
		if q.rescuable(ctx, result, err) {
			q.record.Rescued, q.record.Used.RescuedBy = true, q.decided.stable.id()
			q.g.metrics.rescued.WithLabelValues(q.lane.name).Inc()
			q.lane.log.WarnContext(ctx, "the canary failed; stable answers", "interaction", q.record.ID, "release", served.id().Short(), "error", err)
			q.finish(served, side, result, answer.OutcomeError)
			served, side = q.decided.stable, sideStable
			result, err = q.tryStable(ctx)
		}
	} else {
		q.record.Release = served.id()
		result, err = q.tryStable(ctx)
	}
	*came = result
	result.Latency.Total = q.g.config.Now().Sub(started).Seconds() // with the time spent in the queue
	var refusal *problem
	if err != nil && !q.sink.started && (result.Outcome != answer.OutcomeCanceled || overdue(ctx)) {
		p := q.refusal(ctx, err)
		refusal, result.Status = &p, p.status
	}
	q.finish(served, side, result, result.Outcome)
	q.trip.arrive(q, served, side, result)
	q.capture(served, result) // before the answer's end goes out: what a client saw complete is kept
	switch {
	case refusal != nil:
		q.sink.extend()
		w.Header().Set(headerInteraction, q.record.ID)
		w.Header().Set(headerRelease, string(served.id()))
		refusal.write(w)
	case err == nil:
		q.sink.release()
	case q.sink.started:
		// What was sent is not a whole answer. Only a broken connection says so in every client.
		panic(http.ErrAbortHandler)
	}
}

// try asks one server of the release.
func (q *request) try(ctx context.Context, b *bundle, side string, not ...string) (answer.Result, error) {
	p, err := q.takePlace(ctx, b, not...)
	if err != nil {
		return answer.Result{Outcome: outcomeOf(ctx)}, err
	}
	became := serverUnasked
	defer func() { p.done(became) }()
	q.sink.place = p
	values := [2]string{q.record.ID, q.g.signer.seal(q.lane.name, q.handOut())}
	q.sink.own = [3]field{{headerRelease, b.named}, {headerInteraction, values[:1:1]}, {headerConversation, values[1:]}}
	began := q.trip.moment()
	result, err := q.g.config.Path.Do(ctx, b.answer, b.upstream(p.Endpoint), answer.Request{
		Asked: q.asked, Header: q.header, Sending: q.trip.sending(), FirstByte: q.limits.server,
		Unkept: q.record.Content != lifecycle.ContentFull,
	}, &q.sink)
	q.trip.tried(began, q, p, side, result, err)
	if became = attemptOf(ctx, result, err); q.limits.tooSlow(ctx, result) {
		became = serverSlow
	}
	var refused *answer.UpstreamError
	if err != nil && ctx.Err() == nil && lifecycle.Is(err, lifecycle.Unavailable) && !errors.As(err, &refused) {
		q.tried = p.URL
	}
	return result, err
}

// takePlace gives the place that is held already, or a new one.
func (q *request) takePlace(ctx context.Context, b *bundle, not ...string) (*place, error) {
	p := q.place
	q.place = nil
	if p != nil && p.bundle == b {
		return p, nil
	}
	if p != nil { // the route changed while the request waited
		p.done(serverUnasked)
	}
	began := q.g.config.Now()
	p, err := q.g.balancer.acquire(ctx, b, not...)
	q.queued += q.g.config.Now().Sub(began)
	return p, err
}

// tryStable asks stable, and another of its servers when the first could not be reached.
func (q *request) tryStable(ctx context.Context) (answer.Result, error) {
	q.tried = ""
	result, err := q.try(ctx, q.decided.stable, sideStable)
	if err == nil || q.sink.started || q.tried == "" || ctx.Err() != nil {
		return result, err
	}
	again, againErr := q.try(ctx, q.decided.stable, sideStable, q.tried)
	if errors.Is(againErr, errNone) {
		return result, err // there is no other server; the first one's failure says more
	}
	return again, againErr
}

// rescuable says whether stable may still answer: nothing was sent, the client is there, and the fault is not
// the request's own.
func (q *request) rescuable(ctx context.Context, result answer.Result, err error) bool {
	return err != nil && !q.sink.started && !result.Started && ctx.Err() == nil && !lifecycle.Is(err, lifecycle.Invalid)
}

// handOut is the token for the conversation's next request.
func (q *request) handOut() token {
	t := token{hash: q.token.hash}
	if q.decided.canary != nil {
		t.tag = q.g.signer.tag(q.decided.rollout)
	}
	return t
}

// theirWords puts what a model server said in the API's own shape in place of the gateway's words: clients look for
// codes such as context_length_exceeded.
func (p problem) theirWords(body []byte) problem {
	var said struct {
		Error struct {
			Message string `json:"message"`
			Type    any    `json:"type"`
			Param   any    `json:"param"`
			Code    any    `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error.Message == "" {
		return p
	}
	p.message = said.Error.Message
	set := func(field *string, value any) {
		if s, ok := value.(string); ok && s != "" {
			*field = s
		}
	}
	set(&p.kind, said.Error.Type)
	set(&p.param, said.Error.Param)
	set(&p.code, said.Error.Code)
	return p
}

// refusal says what the client is told where no model server answered.
func (q *request) refusal(ctx context.Context, err error) problem {
	var upstream *answer.UpstreamError
	blamed := errors.As(err, &upstream) && lifecycle.Is(err, lifecycle.Invalid)
	p := failed(err)
	switch {
	case overdue(ctx) || answer.TooSlow(err):
		p = late()
	case errors.Is(err, errFull) || errors.As(err, &upstream) && upstream.Status == http.StatusTooManyRequests:
		q.g.metrics.shed.WithLabelValues(q.lane.name, "busy").Inc()
		p = busy(err)
	case blamed:
		p = badRequest("the model server refused the request")
		p.status = upstream.Status
		p = p.theirWords(upstream.Body)
	}
	return p
}

// finish counts how one side's part of the request ended.
func (q *request) finish(served *bundle, side string, result answer.Result, outcome string) {
	q.lane.account(q.decided, side, result.Usage)
	result.Latency.Queue = q.queued.Seconds()
	served.meter.ended(q.endpoint, side, outcome, result.Latency, result.Usage)
	served.meter.minded(side, result.Guardrails)
}

// capture hands on what happened. A rescued request stays the canary's, as an error: that is what its
// judge must see. Texts cross only where the service says so.
func (q *request) capture(served *bundle, result answer.Result) {
	i := q.record
	q.fill(&i, served, result)
	i.Latency.Queue = q.queued.Seconds()
	i.Used.RescuedBy = q.record.Used.RescuedBy
	if i.Rescued {
		i.Outcome = answer.OutcomeError
	}
	q.captured = true
	q.g.config.Capture.Interaction(i)
}

// fill puts into an interaction what came of asking a release.
func (q *request) fill(i *lifecycle.Interaction, asked *bundle, result answer.Result) {
	i.Latency, i.Usage, i.Status = result.Latency, result.Usage, result.Status
	i.Outcome, i.Finish, i.Guardrails, i.Passages = result.Outcome, result.Finish, result.Guardrails, result.Passages
	i.Scores, i.Parameters, i.Used = result.Scores, result.Parameters, asked.used
	i.Content = q.record.Content
	q.decided.keeping.fill(i, result, q.g.config.Path.MaxText())
}
