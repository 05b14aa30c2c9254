package gateway

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0" // the conventions that docs/production.md names
	"go.opentelemetry.io/otel/trace"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// provider is gen_ai.provider.name: who answers is the service, whatever model server stands behind it.
const provider = "refit"

// operations are endpoints as the conventions call them.
var operations = map[string]attribute.KeyValue{
	answer.Chat:        semconv.GenAIOperationNameChat,
	answer.Completions: semconv.GenAIOperationNameTextCompletion,
	answer.Embeddings:  semconv.GenAIOperationNameEmbeddings,
	answer.Images:      semconv.GenAIOperationNameGenerateContent,
}

// trip is the spans of one request that was sampled; nil for all others, which costs them nothing. No span
// holds a word of prompt or answer.
type trip struct {
	tracer trace.Tracer
	now    func() time.Time
	root   trace.Span
	ctx    context.Context // holds root
	call   trace.Span      // to the model server that is asked; nil: none was yet
}

var traceContext propagation.TraceContext

// depart begins the spans of a request, below the caller's span where it names one.
func (g *Gateway) depart(r *http.Request, started time.Time) *trip {
	if g.tracer == nil {
		return nil
	}
	ctx := r.Context()
	if r.Header["Traceparent"] != nil {
		ctx = traceContext.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	ctx, root := g.tracer.Start(ctx, r.Method+" "+r.URL.Path, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(started))
	if !root.IsRecording() {
		return nil
	}
	return &trip{tracer: g.tracer, now: g.config.Now, root: root, ctx: ctx}
}

// moment is now, where it matters.
func (t *trip) moment() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.now()
}

// part draws a component that took its time and is over.
func (t *trip) part(name string, from time.Time, took time.Duration, attributes ...attribute.KeyValue) {
	if t == nil || took <= 0 {
		return
	}
	_, span := t.tracer.Start(t.ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(from.Add(took)))
}

// sending gives what answer calls when a request goes to a model server: that server's spans belong below the call's.
func (t *trip) sending() func(http.Header) {
	if t == nil {
		return nil
	}
	return func(header http.Header) {
		var ctx context.Context
		ctx, t.call = t.tracer.Start(t.ctx, "call", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(t.now()))
		traceContext.Inject(ctx, propagation.HeaderCarrier(header))
	}
}

// tried ends one attempt at a model server, which began at a time.
func (t *trip) tried(began time.Time, q *request, p *place, side string, err error) {
	if t == nil {
		return
	}
	result := q.result
	l := result.Latency
	t.part("retrieval", began, length(l.Retrieval), semconv.GenAIOperationNameRetrieval, attribute.Int("refit.passages", len(result.Passages)))
	if t.call == nil {
		return
	}
	now, model := t.now(), p.Model
	if model == "" {
		model = p.bundle.answer.Release.ServedName()
	}
	t.call.SetName(operations[q.endpoint].Value.AsString() + " " + model)
	t.call.SetAttributes(operations[q.endpoint], semconv.GenAIProviderNameKey.String(provider), semconv.GenAIRequestModel(model),
		semconv.GenAIRequestStream(result.Stream), semconv.GenAIConversationID(q.record.Conversation),
		attribute.String("refit.release", string(p.bundle.id())), attribute.String("refit.side", side))
	t.call.SetAttributes(serverOf(p.URL)...)
	if result.Usage != (lifecycle.Usage{}) {
		t.call.SetAttributes(semconv.GenAIUsageInputTokens(result.Usage.Prompt), semconv.GenAIUsageOutputTokens(result.Usage.Completion))
	}
	if result.Finish != "" {
		t.call.SetAttributes(semconv.GenAIResponseFinishReasons(finishReason(result.Finish)))
	}
	if l.FirstToken > 0 {
		t.call.SetAttributes(semconv.GenAIResponseTimeToFirstChunk(l.FirstToken))
	}
	if err != nil {
		t.call.SetAttributes(semconv.ErrorTypeKey.String(string(lifecycle.KindOf(err))))
		t.call.SetStatus(codes.Error, result.Outcome)
	}
	t.call.End(trace.WithTimestamp(now))
	t.call = nil
	// A stream is cleaned while it comes: drawn is how long that took in sum, at the call's end.
	t.part("post-processing", now.Add(-length(l.PostProcessing)), length(l.PostProcessing), attribute.StringSlice("refit.guardrails", result.Guardrails))
}

// arrive ends the request's spans.
func (t *trip) arrive(q *request, served *bundle, side string, result *answer.Result) {
	if t == nil {
		return
	}
	t.root.SetAttributes(semconv.HTTPRequestMethodPost, semconv.HTTPRoute(routes[q.endpoint]), semconv.HTTPResponseStatusCode(result.Status),
		attribute.String("refit.service", q.lane.name), attribute.String("refit.interaction", q.record.ID),
		attribute.String("refit.release", string(served.id())), attribute.String("refit.side", side),
		attribute.String("refit.outcome", result.Outcome), attribute.Bool("refit.rescued", q.record.Rescued))
	if q.record.Rollout != "" {
		t.root.SetAttributes(attribute.String("refit.rollout", q.record.Rollout), attribute.Int("refit.step", q.record.Step))
	}
	if result.Outcome == answer.OutcomeError {
		t.root.SetStatus(codes.Error, result.Outcome)
	}
	t.root.End(trace.WithTimestamp(t.now()))
}

// routes are the paths of endpoints; they are asked for with POST.
var routes = map[string]string{
	answer.Chat: "/v1/chat/completions", answer.Completions: "/v1/completions", answer.Embeddings: "/v1/embeddings",
	answer.Images: "/v1/images/generations",
}

// finishReason bounds what a model server may put into a span.
func finishReason(said string) string { return said[:min(len(said), 64)] }

func length(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func serverOf(address string) []attribute.KeyValue {
	at, err := url.Parse(address)
	if err != nil {
		return nil
	}
	attributes := []attribute.KeyValue{semconv.ServerAddress(at.Hostname())}
	if _, port, err := net.SplitHostPort(at.Host); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			attributes = append(attributes, semconv.ServerPort(n))
		}
	}
	return attributes
}
