package telemetry_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/telemetry"
)

func TestNewLogger(t *testing.T) {
	t.Parallel()
	t.Run("JSON from the level on", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		log, err := telemetry.NewLogger(telemetry.LogConfig{Level: "warn", Format: "json", Out: &out})
		require.NoError(t, err)
		log.Info("not shown")
		log.Warn("shown", "service", "docs")
		var line map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &line), "exactly one line is expected")
		require.Equal(t, "shown", line["msg"])
		require.Equal(t, "docs", line["service"])
	})
	t.Run("unknown words are refused", func(t *testing.T) {
		t.Parallel()
		_, err := telemetry.NewLogger(telemetry.LogConfig{Level: "loud"})
		require.ErrorContains(t, err, "loud")
		_, err = telemetry.NewLogger(telemetry.LogConfig{Format: "xml"})
		require.ErrorContains(t, err, "xml")
	})
}

func TestHandlerServesWhatIsRegistered(t *testing.T) {
	t.Parallel()
	registry := telemetry.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "refit_test_total"})
	registry.MustRegister(counter)
	counter.Add(3)
	answer := httptest.NewRecorder()
	telemetry.Handler(registry).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	require.Contains(t, answer.Body.String(), "refit_test_total 3")
	require.Contains(t, answer.Body.String(), "go_goroutines")
}

func TestLatencyBucketsGrow(t *testing.T) {
	t.Parallel()
	require.True(t, slices.IsSorted(telemetry.LatencyBuckets()))
}
