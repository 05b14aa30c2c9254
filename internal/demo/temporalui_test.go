package demo

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

const busyHistory = `{"history": {"events": [{"eventId": "11", "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_FAILED",
"workflowExecutionFailedEventAttributes": {"failure": {"message": "activity error", "activityFailureInfo": {"activityId": "6"},
"cause": {"message": "promotion of docs is held by workflow promote/docs", "applicationFailureInfo": {"type": "Busy", "nonRetryable": true,
"details": {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "eyJ3b3JrZmxvd19pZCI6InByb21vdGUvZG9jcyJ9"}]}}}}}}]}}`

func TestReadFailure(t *testing.T) {
	t.Parallel()
	got, ended, err := readFailure([]byte(busyHistory))
	require.NoError(t, err)
	require.True(t, ended)
	require.Equal(t, failure{"Busy", "promotion of docs is held by workflow promote/docs", map[string]string{"workflow_id": "promote/docs"}}, got)

	_, ended, err = readFailure([]byte(`{"history": {"events": [{"eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"}]}}`))
	require.NoError(t, err)
	require.False(t, ended, "it goes on")

	_, ended, err = readFailure([]byte(`{"history": {"events": [{"eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"}]}}`))
	require.True(t, ended)
	require.True(t, lifecycle.Is(err, lifecycle.Conflict), "a second promotion that ran through is no refusal")
}

func TestTheUIsCookieIsHandedBackAsAHeader(t *testing.T) {
	t.Parallel()
	var started map[string]any
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/settings", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "_csrf", Value: "secret", Path: "/"})
		_, _ = w.Write([]byte("{}"))
	})
	mux.HandleFunc("POST /api/v1/namespaces/refit/workflows/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-CSRF-TOKEN") != "secret" || json.NewDecoder(r.Body).Decode(&started) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte("{}"))
	})
	mux.HandleFunc("GET /api/v1/namespaces/refit/workflows/{id}/history", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(busyHistory))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	ui, err := newTemporalUI(server.URL, "refit")
	require.NoError(t, err)
	id, err := ui.start(context.Background(), steps.PromoteRelease, map[string]string{"service": "docs"})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"name": "refit"}, started["taskQueue"])
	require.Equal(t, map[string]any{"payloads": []any{map[string]any{
		"metadata": map[string]any{"encoding": "anNvbi9wbGFpbg=="}, "data": "eyJzZXJ2aWNlIjoiZG9jcyJ9",
	}}}, started["input"])
	refusal, err := ui.await(context.Background(), id)
	require.NoError(t, err)
	require.Equal(t, "promote/docs", refusal.Fields["workflow_id"])
}
