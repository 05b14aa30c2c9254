package gateway

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/telemetry"
)

func TestCanaryTokensStayWithinTheirShare(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics, c.MetricsHandler = metrics, telemetry.Handler(metrics) })
	w.store.change(func(s *store) { s.service.Rollout.Exposure.Tokens, s.service.Rollout.Exposure.Reserve = 3000, 150 })
	require.Eventually(t, func() bool {
		l := w.gateway.lane("docs")
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.service.Rollout.Exposure.Tokens == 3000
	}, 10*time.Second, time.Millisecond)
	w.rollout(5000)
	all, canary, failed := 0, 0, 0
	w.upstream.behave(func(rw http.ResponseWriter, _ *http.Request, model string) bool {
		tokens := 10
		if model == w.canary.ServedName() { // it talks ten times as much
			tokens = 100
			if failed++; failed%7 == 0 { // and now and then nobody knows how much
				rw.WriteHeader(http.StatusInternalServerError)
				canary += 150 // as much as it may have been
				all += 150
				return true
			}
			canary += tokens
		}
		all += tokens
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":%d}}`, model, tokens)
		return true
	})
	for i := range 400 {
		r := w.ask(chatPath, chat(fmt.Sprint("words ", i), 0), "")
		require.Equal(t, http.StatusOK, r.Code)
		require.LessOrEqual(t, float64(canary), 0.5*float64(all), "request %d", i)
	}
	require.Greater(t, float64(canary), 0.4*float64(all), "it is used")
	require.Less(t, failed, 100, "by far fewer requests than half")
	page := w.get("/metrics").Body.String()
	require.Contains(t, page, `refit_gateway_exposure_tokens_reserved{service="docs"} 0`)
	require.Contains(t, page, fmt.Sprintf(`refit_gateway_exposure_tokens_total{service="docs",side="canary"} %d`, canary))
	require.Contains(t, page, `refit_gateway_tokens_short_total{service="docs"}`)
}
