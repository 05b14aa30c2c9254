package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// series counts what stands on the registry, and gives one histogram's count by the labels that name it.
func series(t *testing.T, registry *prometheus.Registry) (int, func(name string, labels ...string) uint64) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	count := 0
	for _, f := range families {
		count += len(f.Metric)
	}
	return count, func(name string, labels ...string) uint64 {
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == name && hasLabels(m, labels) {
					return m.Histogram.GetSampleCount()
				}
			}
		}
		return 0
	}
}

func hasLabels(m *dto.Metric, want []string) bool {
	for _, w := range want {
		found := false
		for _, l := range m.Label {
			found = found || l.GetName()+"="+l.GetValue() == w
		}
		if !found {
			return false
		}
	}
	return true
}

// Whatever clients send, no label value is made of it.
func TestLabelsAreBoundedWhateverClientsSend(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics = registry })
	w.rollout(5000)
	secret, _ := w.key(func(k *lifecycle.APIKey) { k.RequestsPerMinute = 10_000 })
	random := rand.New(rand.NewPCG(1, 2))
	odd := func() string { return fmt.Sprintf("odd-%d", random.IntN(1_000_000)) }
	storm := func(n int) {
		for range n {
			path := []string{chatPath, "/v1/completions", "/v1/embeddings", "/v1/feedback", "/v1/" + odd(), "/metrics"}[random.IntN(6)]
			model := []string{"docs", "docs", odd()}[random.IntN(3)]
			body := []string{
				fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"prompt":"x","input":"x"}`, model, odd()),
				`{"model":` + odd(), odd(),
			}[random.IntN(3)]
			w.do(func(r *http.Request) {
				r.Method = []string{http.MethodPost, http.MethodGet, "ODD"}[random.IntN(3)]
				r.Header.Set("Authorization", []string{"Bearer " + secret, "Bearer rfk_" + odd(), "Bearer " + odd()}[random.IntN(3)])
				r.Header.Set("X-Refit-Release", odd())
				r.Header.Set("X-Request-Id", odd())
				r.Header.Set("User-Agent", odd())
			}, path, body, odd())
		}
	}
	storm(400)
	before, _ := series(t, registry)
	storm(1000)
	after, _ := series(t, registry)
	// A counter that nothing touched in the first storm may appear in the second, a label of a client's never.
	require.LessOrEqual(t, after, before+20)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				require.NotContains(t, l.GetValue(), "odd", "%s{%s}", f.GetName(), l.GetName())
			}
		}
	}
}

func TestWhatAClientThatLeftCostIsMetered(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics = registry })
	w.upstream.behave(func(out http.ResponseWriter, r *http.Request, _ string) bool {
		out.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(out, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n")
		out.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.listen()+chatPath,
		strings.NewReader(`{"model":"docs","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	require.NoError(t, err)
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	_, err = bufio.NewReader(reply.Body).ReadString('\n')
	require.NoError(t, err)
	leave()
	reply.Body.Close()
	w.await(func() bool {
		_, of := series(t, registry)
		for _, component := range []string{"queue", "first_token", "model", "total"} {
			if of("refit_gateway_component_seconds", "component="+component, "outcome=canceled", "side=stable") != 1 {
				return false
			}
		}
		return true
	})
}

// The hot path looks no label up and makes nothing.
func TestMeteringARequestAllocatesNothing(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics(registry).meter("docs", lifecycle.DigestOf([]byte("release")))
	l := lifecycle.Latency{Retrieval: 0.1, Queue: 0.1, FirstToken: 0.1, Model: 1.1, PostProcessing: 0.1, Total: 1.5}
	u := lifecycle.Usage{Prompt: 10, Completion: 11}
	count := func() { m.ended(answer.Chat, sideStable, answer.OutcomeOK, l, u) }
	count()
	require.Zero(t, testing.AllocsPerRun(100, count))
	_, of := series(t, registry)
	for _, component := range componentNames {
		require.EqualValues(t, 102, of("refit_gateway_component_seconds", "component="+component), component)
	}
}
