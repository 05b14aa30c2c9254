package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/telemetry"
)

func TestWhatPassesThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	model := w.stable.ServedName()
	for name, tc := range map[string]struct{ path, body, upstream string }{
		"fields that nobody here knows, in order and as written": {
			chatPath,
			`{"z":1e3, "model":"docs","messages":[{"role":"user","content":"x"}],"a":{"b":[1.0,null]}}`,
			`{"z":1e3, "model":"MODEL","messages":[{"role":"user","content":"x"}],"a":{"b":[1.0,null]}}`,
		},
		"tools": {
			chatPath,
			`{"model":"docs","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto"}`,
			`{"model":"MODEL","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto"}`,
		},
		"parts of a message": {
			chatPath,
			`{"model":"docs","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`,
			`{"model":"MODEL","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`,
		},
		"scoring": {
			"/v1/completions",
			`{"model":"docs","prompt":"x","echo":true,"logprobs":1,"max_tokens":0}`,
			`{"model":"MODEL","prompt":"x","echo":true,"logprobs":1,"max_tokens":0}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.ask(tc.path, tc.body, "")
			require.Equal(t, http.StatusOK, r.Code, r.Body.String())
			w.upstream.mu.Lock()
			defer w.upstream.mu.Unlock()
			require.Equal(t, strings.Replace(tc.upstream, "MODEL", model, 1), string(w.upstream.bodies[len(w.upstream.bodies)-1]))
		})
	}
}

func TestMetricsSayWhatHappened(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) {
		c.Metrics, c.MetricsHandler = registry, telemetry.Handler(registry)
	})
	w.ask(chatPath, chat("hello", 0), "")
	w.ask(chatPath, chat("hello", 1), "")
	r := w.get("/metrics")
	require.Equal(t, http.StatusOK, r.Code)
	short := w.stable.ID().Short()
	require.Contains(t, r.Body.String(), `refit_gateway_requests_total{endpoint="chat",outcome="ok",release="`+short+`",service="docs",side="stable"} 2`)
	require.Contains(t, r.Body.String(), `refit_gateway_component_seconds_count{component="model",outcome="ok",release="`+short+`",service="docs",side="stable"} 2`)
	require.Contains(t, r.Body.String(), `refit_gateway_route_generation{service="docs"} 1`)

	next := w.release("next", nil)
	w.route(func(r *lifecycle.Route) { r.Stable = next.ID() })
	w.await(func() bool {
		w.gateway.metrics.mu.Lock()
		defer w.gateway.metrics.mu.Unlock()
		return len(w.gateway.metrics.leaving) == 1
	})
	require.Contains(t, w.get("/metrics").Body.String(), short, "answers that are under way are still counted")
	w.clock.move(leavingTime)
	require.Eventually(t, func() bool { return !strings.Contains(w.get("/metrics").Body.String(), short) },
		10*time.Second, time.Millisecond, "releases that no route names leave the labels")
}

func TestShutdownLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.stop() // the world's gateway serves no listener
	gateway, err := New(w.config)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Serve(ctx, listener) }()
	url := "http://" + listener.Addr().String()
	require.Eventually(t, func() bool {
		response, err := http.Get(url + "/readyz")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	}, 10*time.Second, 5*time.Millisecond)

	arrived, free := make(chan struct{}), make(chan struct{})
	w.upstream.behave(func(http.ResponseWriter, *http.Request, string) bool { close(arrived); <-free; return false })
	answered := make(chan string, 1)
	go func() {
		response, err := http.Post(url+chatPath, "application/json", strings.NewReader(chat("hello", 0)))
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answered <- string(body)
	}()
	<-arrived
	cancel()
	require.Eventually(t, func() bool { // new connections are refused while the old request goes on
		_, err := net.Dial("tcp", listener.Addr().String())
		return err != nil
	}, 10*time.Second, time.Millisecond)
	select {
	case err := <-ended:
		t.Fatalf("ended before its request did: %v", err)
	default:
	}
	close(free)
	require.Contains(t, <-answered, "hello")
	require.NoError(t, <-ended)
	require.Equal(t, "ok", w.captured.last(t).Outcome)
}

func TestGatewaysOfOneFolderShareTheirKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := ownKey(dir)
	require.NoError(t, err)
	require.Len(t, first, minKey)
	second, err := ownKey(dir)
	require.NoError(t, err)
	require.Equal(t, first, second)
}

func TestConfigFaultsComeAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Key: []byte("short")})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	for _, fault := range []string{"store", "state folder", "key"} {
		require.ErrorContains(t, err, fault)
	}
}

// BenchmarkChat is the gateway's own cost of a request, with the model server's and the connection to it.
func BenchmarkChat(b *testing.B) {
	w := newWorld(b, nil)
	body := chat("hello", 2)
	for b.Loop() {
		if r := w.ask(chatPath, body, ""); r.Code != http.StatusOK {
			b.Fatal(r.Body.String())
		}
	}
}

func TestRulesAreCountedByName(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics, c.MetricsHandler = registry, telemetry.Handler(registry) })
	next := w.release("guarded", func(r *lifecycle.Release) {
		r.PostProcess = []lifecycle.Rule{
			{Kind: lifecycle.RulePII}, {Kind: lifecycle.RuleRefusal, Value: "I cannot"}, {Kind: lifecycle.RuleJSON},
		}
	})
	w.route(func(r *lifecycle.Route) { r.Stable = next.ID() })
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"I cannot give a@b.co to 10.0.0.1"},"finish_reason":"stop"}]}`)
		return true
	})
	r := w.ask(chatPath, chat("hello", 0), "")
	require.Contains(t, r.Body.String(), "I cannot give [email] to [ip]")
	require.Equal(t, []string{"pii[0]:email", "pii[0]:ip", "refusal-phrase[1]", "json[2]"}, w.captured.last(t).Guardrails)
	require.Equal(t, "refused", w.captured.last(t).Outcome)
	said := w.get("/metrics").Body.String()
	for _, rule := range w.captured.last(t).Guardrails {
		require.Contains(t, said, `refit_gateway_guardrail_hits_total{release="`+next.ID().Short()+`",rule="`+rule+`",service="docs",side="stable"} 1`)
	}
}
