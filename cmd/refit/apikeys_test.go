package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// A key as people meet it: made by the command, asked for by the gateway, gone when it is revoked.
func TestAPIKeysFromCommandToGateway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.onStack()
	s.values["gateway"]["keys"] = "required"
	up := s.start("up")
	up.says("worker polls")
	s.values["control"]["url"] = up.addresses["console"]
	settings := s.file()
	o := command(t.Context(), "apply", "../../configs/examples/docs-assistant.yaml", "--settings", settings)
	require.Zero(t, o.code, o.errors)
	o = command(t.Context(), "keys", "create", "nothing", "--name", "app", "--settings", settings)
	require.Equal(t, 2, o.code, o.errors)
	o = command(t.Context(), "keys", "create", "docs-assistant", "--name", "app", "--requests", "1000", "--valid", "1h", "--settings", settings)
	require.Zero(t, o.code, o.errors)
	secret := strings.TrimSpace(o.out)
	id, _, ok := lifecycle.ReadAPIKey(secret)
	require.True(t, ok, "the key alone stands on standard output: %q", o.out)
	require.Contains(t, o.errors, "the only time")
	o = command(t.Context(), "keys", "list", "docs-assistant", "--settings", settings)
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, id+"  app")
	require.NotContains(t, o.out, secret)

	models := func(secret string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, up.addresses["gateway"]+"/v1/models", nil)
		require.NoError(t, err)
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		return answer.StatusCode
	}
	require.Eventually(t, func() bool { return models(secret) == http.StatusOK }, patience, tick)
	require.Equal(t, http.StatusUnauthorized, models(""))
	token := readFile(t, s.path("control-token"))
	require.Equal(t, http.StatusUnauthorized, models(token), "an admin's token opens nothing at the gateway")
	c := control.Client{URL: up.addresses["console"], Token: secret}
	_, err := control.Call(t.Context(), c, control.Services, struct{}{})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "a client's key opens nothing at the control API: %v", err)

	o = command(t.Context(), "keys", "revoke", id, "--reason", "leaked", "-o", "json", "--settings", settings)
	require.Zero(t, o.code, o.errors)
	var revoked lifecycle.APIKey
	require.NoError(t, json.Unmarshal([]byte(o.out), &revoked))
	require.False(t, revoked.RevokedAt.IsZero())
	require.Eventually(t, func() bool { return models(secret) == http.StatusUnauthorized }, patience, tick)
	require.NotContains(t, up.log.String(), secret)
	require.Zero(t, up.end(), up.log)
}

func TestKeysAreRequiredWhereOthersReachTheGateway(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]int{"127.0.0.1:0": http.StatusOK, "0.0.0.0:0": http.StatusServiceUnavailable} {
		s := newSite(t)
		s.values["gateway"]["listen"] = listen
		gateway := s.start("gateway")
		code, _ := get(t, strings.Replace(gateway.addresses["gateway"], "[::]", "127.0.0.1", 1)+"/v1/models")
		require.Equal(t, want, code, "%s, and no key is known", listen)
		require.Zero(t, gateway.end())
	}
	s := newSite(t)
	s.values["gateway"]["keys"] = "sometimes"
	o := command(t.Context(), "gateway", "--settings", s.file())
	require.Equal(t, 2, o.code)
	require.Contains(t, o.errors, "gateway.keys")
}

func TestTracesGoWhereTheSettingsSay(t *testing.T) {
	t.Parallel()
	for fault, traces := range map[string]map[string]any{
		"endpoint of traces": {"endpoint": "localhost:4318"},
		"ratio of traces":    {"endpoint": "http://127.0.0.1:4318", "ratio": 1.5},
		"traces.headers":     {"endpoint": "http://127.0.0.1:4318", "headers": map[string]any{"x-key": "the key itself"}},
	} {
		s := newSite(t)
		s.values["traces"] = traces
		o := command(t.Context(), "gateway", "--settings", s.file())
		require.Equal(t, 2, o.code, fault)
		require.Contains(t, o.out+o.errors, fault)
		require.NotContains(t, o.out+o.errors, "the key itself")
	}
	s := newSite(t)
	s.values["traces"] = map[string]any{"endpoint": "http://127.0.0.1:1"}
	gateway := s.start("gateway")
	code, _ := get(t, gateway.addresses["gateway"]+"/healthz")
	require.Equal(t, http.StatusOK, code, "a receiver that is away holds nothing up")
	require.Zero(t, gateway.end())
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSpace(string(raw))
}
