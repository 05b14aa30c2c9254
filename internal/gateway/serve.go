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

// request is one request on its way through the gateway. It waits for its answer, so what its way in and out needs is
// kept here and on no stack: a stream is held for minutes.
type request struct {
	g        *Gateway
	endpoint string
	started  time.Time
	caller   *caller
	lane     *lane // nil until the request was read
	asked    *answer.Asked
	header   http.Header // that answer may pass on
	spent    spending
	limits   limits
	end      func() // of its limits; nil: it is under none
	counted  bool   // it came to an account, which waits for its end
	admitted bool
	token    token
	decided  decision
	sink     sink
	entered  *place        // on stable, taken before anything was decided
	place    *place        // the same; nil once it was used or given back
	queued   time.Duration // for places, so far
	tried    string        // address of a server that could not be reached
	record   lifecycle.Interaction
	result   *answer.Result // of the side that answers, or came last; nil: nobody was asked
	captured bool
	trip     *trip // nil: not sampled
}

// answering serves one endpoint of the API.
func (g *Gateway) answering(endpoint string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := &request{g: g, endpoint: endpoint, started: g.config.Now(), sink: sink{patience: patience{w: w, limit: g.config.Patience}}}
		defer q.leave()
		if ctx, ok := q.enter(w, r); ok {
			q.run(ctx, w)
		}
	}
}

// enter brings a request to where a release can be asked, under its limits, or tells the client why not.
func (q *request) enter(w http.ResponseWriter, r *http.Request) (context.Context, bool) {
	g, came := q.g, time.Now() // contexts know no clock but the system's
	var p *problem
	if q.caller, p = g.keys.enter(w, r); p != nil {
		g.refuseCaller(w, *p)
		return nil, false
	}
	if q.lane, q.asked, p = g.read(w, r, q.endpoint); p != nil {
		p.write(w)
		return nil, false
	}
	l := q.lane
	if !q.caller.may(l.name) {
		noService(l.name).write(w)
		return nil, false
	}
	g.config.Capture.Arrived(l.name)
	q.counted = true
	if q.spent, p = g.keys.reserve(w, q.caller, q.asked.Size()); p != nil {
		g.refuseCaller(w, *p)
		return nil, false
	}
	arrived := g.config.Now()
	q.limits = l.limitsOf(r.Header, q.asked.Stream())
	var ctx context.Context
	ctx, q.sink.begun, q.end = q.limits.hold(r.Context(), came)
	if q.entered, p = l.enter(ctx); p != nil {
		p.write(w)
		return nil, false
	}
	q.place, q.queued = q.entered, q.entered.taken.Sub(arrived)
	q.admit(ctx, r)
	q.trip = g.depart(r, q.started)
	q.trip.part("queue", arrived, q.queued)
	q.sink.wait(r)
	return ctx, true
}

// admit decides who answers, and begins the record of it.
func (q *request) admit(ctx context.Context, r *http.Request) {
	g, l := q.g, q.lane
	client := g.signer.client(r, g.config.ClientHeader, q.caller.id())
	var signed bool
	q.token, signed = g.signer.identify(l.name, client, q.asked.First(), r.Header, g.config.named(r.Header))
	q.decided = l.admit(ctx, conversation{token: q.token, signed: signed, turns: q.asked.Turns(), endpoint: q.endpoint, asked: q.asked})
	q.admitted = true
	l.numbers.inFlight.Inc()
	d, i := &q.decided, &q.record
	i.Owner = q.caller.owns()
	i.ID, i.Conversation = g.signer.newInteraction(l.name, i.Owner), q.token.hash.String()
	i.Service, i.Turn, i.Client, i.Endpoint, i.Started = l.name, q.asked.Turns(), client, q.endpoint, d.at.UTC()
	i.Rollout, i.Step, i.Canary = d.rollout, d.step, d.canary != nil
	i.Coin, i.Propensity, i.Moved = d.coin, d.propensity, d.moved
	i.Content = d.keeping.of(g.signer, l.name, i.Conversation)
	q.header = make(http.Header, 4)
	values := [2]string{requestID(r.Header, i.ID), i.Conversation}
	q.header[headerRequest], q.header[headerHash] = values[:1:1], values[1:]
	for _, name := range [...]string{"Traceparent", "Tracestate"} {
		if values := r.Header[name]; len(values) > 0 && values[0] != "" {
			q.header[name] = values[:1:1]
		}
	}
}

// leave gives back what a request holds, however it ended; it is in one account then. Its copy for a shadow goes out
// after the answer, which it can neither hold up nor change.
func (q *request) leave() {
	if q.asked == nil {
		return
	}
	defer q.asked.Free()
	if q.admitted {
		q.castShadow()
		q.lane.numbers.inFlight.Dec()
	}
	if q.entered != nil {
		q.entered.done(serverUnasked)
	}
	if q.end != nil {
		q.end()
	}
	q.g.keys.settle(q.spent, q.result)
	if q.counted && !q.captured {
		q.g.config.Capture.Shed(q.lane.name)
	}
	if q.admitted {
		q.lane.settled(q.decided)
	}
}

// run answers: by the canary where that was decided, and by stable where it was not or where the canary failed
// before the first byte. Never the other way round.
func (q *request) run(ctx context.Context, w http.ResponseWriter) {
	served, side := q.decided.stable, sideStable
	var err error
	if q.decided.canary != nil {
		q.place.done(serverUnasked)
		q.place = nil
		served, side = q.decided.canary, sideCanary
		q.record.Release = served.id()
		err = q.try(ctx, served, side)
		if q.rescuable(ctx, err) {
			q.record.Rescued, q.record.Used.RescuedBy = true, q.decided.stable.id()
			q.g.metrics.rescued.WithLabelValues(q.lane.name).Inc()
			q.lane.log.WarnContext(ctx, "the canary failed; stable answers", "interaction", q.record.ID, "release", served.id().Short(), "error", err)
			q.finish(served, side, answer.OutcomeError)
			served, side = q.decided.stable, sideStable
			err = q.tryStable(ctx)
		}
	} else {
		q.record.Release = served.id()
		err = q.tryStable(ctx)
	}
	q.conclude(ctx, w, served, side, err)
}

// conclude records what came of a request and lets its client see the end.
func (q *request) conclude(ctx context.Context, w http.ResponseWriter, served *bundle, side string, err error) {
	result := q.result
	result.Latency.Total = q.g.config.Now().Sub(q.started).Seconds() // with the time spent in the queue
	var refusal *problem
	if err != nil && !q.sink.started && (result.Outcome != answer.OutcomeCanceled || overdue(ctx)) {
		p := q.refusal(ctx, err)
		refusal, result.Status = &p, p.status
	}
	q.finish(served, side, result.Outcome)
	q.trip.arrive(q, served, side, result)
	q.capture(served) // before the answer's end goes out: what a client saw complete is kept
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

// try asks one server of the release; what came of it is in the result.
func (q *request) try(ctx context.Context, b *bundle, side string, not ...string) error {
	p, err := q.takePlace(ctx, b, not...)
	if err != nil {
		q.result = &answer.Result{Outcome: outcomeOf(ctx)}
		return err
	}
	became := serverUnasked
	defer func() { p.done(became) }()
	q.sink.place = p
	values := [2]string{q.record.ID, q.g.signer.seal(q.lane.name, q.handOut())}
	q.sink.own = [3]field{{headerRelease, b.named}, {headerInteraction, values[:1:1]}, {headerConversation, values[1:]}}
	began := q.trip.moment()
	q.result, err = q.g.config.Path.Do(ctx, b.answer, b.upstream(p.Endpoint), answer.Request{
		Asked: q.asked, Header: q.header, Sending: q.trip.sending(), FirstByte: q.limits.server,
		Unkept: q.record.Content != lifecycle.ContentFull,
	}, &q.sink)
	q.trip.tried(began, q, p, side, err)
	if became = attemptOf(ctx, q.result, err); q.limits.tooSlow(ctx, q.result) {
		became = serverSlow
	}
	var refused *answer.UpstreamError
	if err != nil && ctx.Err() == nil && lifecycle.Is(err, lifecycle.Unavailable) && !errors.As(err, &refused) {
		q.tried = p.URL
	}
	return err
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
func (q *request) tryStable(ctx context.Context) error {
	q.tried = ""
	err := q.try(ctx, q.decided.stable, sideStable)
	if err == nil || q.sink.started || q.tried == "" || ctx.Err() != nil {
		return err
	}
	first := q.result
	again := q.try(ctx, q.decided.stable, sideStable, q.tried)
	if errors.Is(again, errNone) {
		q.result = first
		return err // there is no other server; the first one's failure says more
	}
	return again
}

// rescuable says whether stable may still answer: nothing was sent, the client is there, and the fault is not
// the request's own.
func (q *request) rescuable(ctx context.Context, err error) bool {
	return err != nil && !q.sink.started && !q.result.Started && ctx.Err() == nil && !lifecycle.Is(err, lifecycle.Invalid)
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
func (q *request) finish(served *bundle, side, outcome string) {
	q.lane.account(q.decided, side, q.result.Usage)
	q.result.Latency.Queue = q.queued.Seconds()
	served.meter.ended(q.endpoint, side, outcome, q.result.Latency, q.result.Usage)
	served.meter.minded(side, q.result.Guardrails)
}

// capture hands on what happened. A rescued request stays the canary's, as an error: that is what its
// judge must see. Texts cross only where the service says so.
func (q *request) capture(served *bundle) {
	i := q.record
	q.fill(&i, served, q.result)
	i.Latency.Queue = q.queued.Seconds()
	i.Used.RescuedBy = q.record.Used.RescuedBy
	if i.Rescued {
		i.Outcome = answer.OutcomeError
	}
	q.captured = true
	q.g.config.Capture.Interaction(i)
}

// fill puts into an interaction what came of asking a release.
func (q *request) fill(i *lifecycle.Interaction, asked *bundle, result *answer.Result) {
	i.Latency, i.Usage, i.Status = result.Latency, result.Usage, result.Status
	i.Outcome, i.Finish, i.Guardrails, i.Passages = result.Outcome, result.Finish, result.Guardrails, result.Passages
	i.Scores, i.Parameters, i.Used = result.Scores, result.Parameters, asked.used
	i.Content = q.record.Content
	q.decided.keeping.fill(i, result, q.g.config.Path.MaxText())
}
