package serving_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
)

// listing is a server that lists names, and wants a key where one is given.
func listing(t *testing.T, key string, names ...string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key != "" && r.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		data := []map[string]string{}
		for _, name := range names {
			data = append(data, map[string]string{"id": name})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestStatic(t *testing.T) {
	t.Parallel()
	p := placement("a")
	served := p.Release.ServedName()
	other := lifecycle.DigestOf([]byte("another release"))
	type want struct {
		kind        lifecycle.Kind
		says        string
		attribution string
	}
	for name, tc := range map[string]struct {
		endpoints []lifecycle.StaticEndpoint
		require   bool
		want      want
	}{
		"a server that lists the served name is verified": {
			endpoints: []lifecycle.StaticEndpoint{{URL: listing(t, "", served)}},
			require:   true,
			want:      want{attribution: serving.Verified},
		},
		"another name is unverified": {
			endpoints: []lifecycle.StaticEndpoint{{URL: listing(t, "", "llama"), Model: "llama"}},
			want:      want{attribution: serving.Unverified},
		},
		"and refused where attribution is required": {
			endpoints: []lifecycle.StaticEndpoint{{URL: listing(t, "", "llama"), Model: "llama"}},
			require:   true,
			want:      want{kind: lifecycle.Refused, says: "require_attribution"},
		},
		"a server without the name is not used": {
			endpoints: []lifecycle.StaticEndpoint{{URL: listing(t, "", "llama")}},
			want:      want{kind: lifecycle.Unavailable, says: "does not list"},
		},
		"a server pinned to another release is left out": {
			endpoints: []lifecycle.StaticEndpoint{{URL: listing(t, "", served), Release: other}},
			want:      want{kind: lifecycle.Unavailable, says: "declares no server"},
		},
		"one of two that answers is enough": {
			endpoints: []lifecycle.StaticEndpoint{{URL: "http://127.0.0.1:1"}, {URL: listing(t, "", served)}},
			want:      want{attribution: serving.Verified},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := p
			p.Service.Serving = lifecycle.Serving{Engine: "static", Endpoints: tc.endpoints, Verified: tc.require, Capacity: 7}
			endpoints, err := serving.NewStatic(serving.StaticConfig{}).Load(t.Context(), p)
			if tc.want.kind != "" {
				require.Equal(t, tc.want.kind, lifecycle.KindOf(err), "%v", err)
				require.ErrorContains(t, err, tc.want.says)
				return
			}
			require.NoError(t, err)
			require.Len(t, endpoints, 1)
			require.Equal(t, tc.want.attribution, endpoints[0].Attribution)
			require.Equal(t, 7, endpoints[0].Capacity)
			require.Equal(t, p.ID, endpoints[0].Release)
		})
	}
}

func TestStaticEmbedderAlone(t *testing.T) {
	t.Parallel()
	embedder := lifecycle.DigestOf([]byte("e"))
	service := placement("a").Service
	service.Serving = lifecycle.Serving{Engine: "static", Endpoints: []lifecycle.StaticEndpoint{
		{URL: listing(t, "", "llama")},
		{URL: listing(t, "", serving.EmbedderName(embedder)), Release: lifecycle.DigestOf([]byte("pinned"))},
	}}
	engine := serving.NewStatic(serving.StaticConfig{})

	endpoints, err := engine.Load(t.Context(), serving.EmbedderAlone(service, embedder, ""))
	require.NoError(t, err)
	require.Len(t, endpoints, 1, "only the server that lists it")
	require.Equal(t, serving.EmbedderName(embedder), endpoints[0].Embedder)
	require.Empty(t, endpoints[0].Model)

	_, err = engine.Load(t.Context(), serving.EmbedderAlone(service, lifecycle.DigestOf([]byte("f")), ""))
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	require.ErrorContains(t, err, "does not list the embedder")
}

func TestStaticKey(t *testing.T) {
	t.Parallel()
	p := placement("a")
	p.Service.Serving = lifecycle.Serving{
		Engine: "static", APIKey: "env:KEY",
		Endpoints: []lifecycle.StaticEndpoint{{URL: listing(t, "sesame", p.Release.ServedName())}},
	}
	_, err := serving.NewStatic(serving.StaticConfig{}).Load(t.Context(), p)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	engine := serving.NewStatic(serving.StaticConfig{Secret: func(reference string) (string, error) {
		require.Equal(t, "env:KEY", reference)
		return "sesame", nil
	}})
	_, err = engine.Load(t.Context(), p)
	require.NoError(t, err)
}

func TestServedCountsEachServerOnce(t *testing.T) {
	t.Parallel()
	metrics := func(text string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }))
		t.Cleanup(server.Close)
		return server.URL
	}
	const head = "# TYPE refit_runtime_requests_total counter\n"
	one := metrics(head +
		"refit_runtime_requests_total{model=\"m1\",endpoint=\"chat\",outcome=\"ok\"} 5\n" +
		"refit_runtime_requests_total{model=\"m1\",endpoint=\"completions\",outcome=\"canceled\"} 2\n" +
		"refit_runtime_requests_total{model=\"e\",endpoint=\"embeddings\",outcome=\"ok\"} 40\n")
	two := metrics(head + "refit_runtime_requests_total{model=\"m1\",endpoint=\"chat\",outcome=\"ok\"} 1\n")
	idle := metrics("# TYPE other gauge\nother 1\n")

	counts, err := serving.Served(t.Context(), nil, []lifecycle.Endpoint{{URL: one}, {URL: one + "/"}, {URL: two}, {URL: idle}})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"m1": 8}, counts)

	for _, broken := range []string{"<html>", "# TYPE refit_runtime_requests_total gauge\nrefit_runtime_requests_total 1\n"} {
		_, err = serving.Served(t.Context(), nil, []lifecycle.Endpoint{{URL: one}, {URL: metrics(broken)}})
		require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	}
}
