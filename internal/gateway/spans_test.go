package gateway

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/refitml/refit/internal/telemetry"
)

// receiver takes spans as an OTLP/HTTP collector does.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	raw    []byte // everything that came
	schema []string
	spans  []*otlp.Span
	keys   []string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, got *http.Request) {
		body, err := gzip.NewReader(got.Body)
		if err != nil || got.URL.Path != "/v1/traces" || got.Header.Get("Content-Type") != "application/x-protobuf" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		raw, _ := io.ReadAll(body)
		var said collector.ExportTraceServiceRequest
		if proto.Unmarshal(raw, &said) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw = append(r.raw, raw...)
		r.keys = append(r.keys, got.Header.Get("X-Key"))
		for _, resource := range said.ResourceSpans {
			r.schema = append(r.schema, resource.SchemaUrl)
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

// traced gives a gateway whose spans go to the receiver, and what sends the rest of them.
func traced(t *testing.T, ratio float64, parents bool) (*world, *receiver, func()) {
	t.Helper()
	r := newReceiver(t)
	traces, err := telemetry.NewTraces(telemetry.TraceConfig{
		Endpoint: r.URL, Headers: map[string]string{"X-Key": "the receiver's"}, Ratio: ratio, Parents: parents,
		Process: "refit-gateway", Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	w := newWorld(t, func(c *Config) { c.Traces = traces.Provider() })
	return w, r, func() { require.NoError(t, traces.Close(context.WithoutCancel(t.Context()))) }
}

func (r *receiver) named(t *testing.T, name string) *otlp.Span {
	t.Helper()
	for _, s := range r.spans {
		if s.Name == name {
			return s
		}
	}
	require.Failf(t, "no such span", "%s; there are %v", name, r.spans)
	return nil
}

func attributes(s *otlp.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		switch {
		case a.Value.GetStringValue() != "":
			out[a.Key] = a.Value.GetStringValue()
		case a.Value.GetArrayValue() != nil:
			for _, v := range a.Value.GetArrayValue().Values {
				out[a.Key] += v.GetStringValue()
			}
		default:
			out[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return out
}

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"

func TestSpansReachAReceiverAndHoldNoText(t *testing.T) {
	t.Parallel()
	w, r, send := traced(t, 1, false)
	answer := w.do(func(r *http.Request) { r.Header.Set("Traceparent", parent+"0"); r.Header.Set("Tracestate", "vendor=1") },
		chatPath, chat("the prompt's own words", 0), "")
	require.Equal(t, http.StatusOK, answer.Code)
	send()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Contains(t, r.keys, "the receiver's")
	require.Contains(t, r.schema, "https://opentelemetry.io/schemas/1.41.0")
	root, call := r.named(t, "POST "+chatPath), r.named(t, "chat "+w.stable.ServedName())
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", hex.EncodeToString(root.TraceId))
	require.Equal(t, "00f067aa0ba902b7", hex.EncodeToString(root.ParentSpanId))
	require.Equal(t, otlp.Span_SPAN_KIND_SERVER, root.Kind)
	require.Equal(t, root.SpanId, call.ParentSpanId)
	require.Equal(t, otlp.Span_SPAN_KIND_CLIENT, call.Kind)
	is := attributes(root)
	require.Equal(t, "docs", is["refit.service"])
	require.Equal(t, string(w.stable.ID()), is["refit.release"])
	require.Equal(t, answer.Header().Get(headerInteraction), is["refit.interaction"])
	require.Equal(t, "200", is["http.response.status_code"])
	is = attributes(call)
	for key, want := range map[string]string{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "refit", "gen_ai.request.model": w.stable.ServedName(),
		"gen_ai.usage.input_tokens": "3", "gen_ai.usage.output_tokens": "1", "gen_ai.response.finish_reasons": "stop",
		"gen_ai.conversation.id": w.captured.last(t).Conversation, "server.address": "127.0.0.1", "refit.side": "stable",
	} {
		require.Equal(t, want, is[key], key)
	}
	// The model server goes on below the call's span, in the client's trace.
	w.upstream.mu.Lock()
	defer w.upstream.mu.Unlock()
	require.Equal(t, fmt.Sprintf("00-%x-%x-01", call.TraceId, call.SpanId), w.upstream.header[0].Get("Traceparent"))
	require.Equal(t, "vendor=1", w.upstream.header[0].Get("Tracestate"))
	for _, text := range []string{"the prompt's own words", "hello"} {
		require.NotContains(t, string(r.raw), text)
	}
}

func TestTheRatioDecidesWhatIsSampled(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ratio    float64
		parents  bool
		sampled  string // flag of the client's traceparent
		expected bool
	}{
		"none":                                      {0, false, "0", false},
		"a client that asks for it gets none":       {0, false, "1", false},
		"a client that asks for it where it may":    {0, true, "1", true},
		"a client that asks for none is no refusal": {1, true, "0", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r, send := traced(t, tc.ratio, tc.parents)
			header := parent + tc.sampled
			require.Equal(t, http.StatusOK, w.do(func(r *http.Request) { r.Header.Set("Traceparent", header) }, chatPath, chat("hi", 0), "").Code)
			send()
			r.mu.Lock()
			defer r.mu.Unlock()
			require.Equal(t, tc.expected, len(r.spans) > 0)
			if !tc.expected {
				require.Equal(t, header, w.upstream.header[0].Get("Traceparent"), "the client's own context crosses")
			}
		})
	}
}

func TestAFailedCallIsSeen(t *testing.T) {
	t.Parallel()
	w, r, send := traced(t, 1, false)
	w.rollout(5000)
	w.upstream.behave(func(out http.ResponseWriter, _ *http.Request, model string) bool {
		if model == w.canary.ServedName() {
			out.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(out, `{"error":{"message":"the server quotes the prompt"}}`)
			return true
		}
		return false
	})
	rescued := false
	for i := range 200 {
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat(fmt.Sprint("hi ", i), 0), "").Code)
		if rescued = w.captured.last(t).Rescued; rescued {
			break
		}
	}
	require.True(t, rescued)
	send()
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := r.named(t, "chat "+w.canary.ServedName())
	require.Equal(t, otlp.Status_STATUS_CODE_ERROR, failed.Status.GetCode())
	require.Equal(t, "Unavailable", attributes(failed)["error.type"])
	require.NotContains(t, string(r.raw), "quotes")
	root := r.spans[len(r.spans)-1]
	require.True(t, strings.HasPrefix(root.Name, "POST "))
	require.Equal(t, "stable", attributes(root)["refit.side"])
}

// Where no receiver is named nothing is made.
func TestWithoutAReceiverSpansCostNothing(t *testing.T) {
	w := newWorld(t, nil)
	r := httptest.NewRequest(http.MethodPost, chatPath, nil)
	r.Header.Set("Traceparent", parent+"1")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		trip := w.gateway.depart(r, w.clock.Now())
		trip.part("queue", w.clock.Now(), 1)
		if trip.sending() != nil {
			t.Error("somebody is told")
		}
	}))
}
