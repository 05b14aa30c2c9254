package gateway

import (
	"encoding/json"
	"net/http"
)

// Handler gives the data plane's routes. Metrics are served by whoever owns the registry of metrics.
func (g *Gateway) Handler() http.Handler {
	answering := map[string]http.HandlerFunc{}
	for endpoint, path := range routes {
		answering[path] = g.answering(endpoint)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/feedback", g.feedback)
	mux.HandleFunc("GET /v1/models", g.models)
	mux.HandleFunc("GET /v1/models/{name}", g.model)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", g.ready)
	if g.config.MetricsHandler != nil {
		mux.Handle("GET /metrics", g.config.MetricsHandler)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem{
			status: http.StatusNotFound, kind: "invalid_request_error", code: "not_found",
			message: "this gateway has no " + r.Method + " at this path",
		}.write(w)
	})
	return notProxied(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if serve := answering[r.URL.Path]; serve != nil && r.Method == http.MethodPost { // past the mux, which takes its time
			serve(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client may be gone; there is nobody left to tell
}

// model is a service as clients see it.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (g *Gateway) modelOf(l *lane) model {
	return model{ID: l.name, Object: "model", Created: g.started.Unix(), OwnedBy: "refit"}
}

// models lists the services that can answer now: to clients, a service is a model.
func (g *Gateway) models(w http.ResponseWriter, r *http.Request) {
	caller, p := g.keys.enter(w, r)
	if p != nil {
		g.refuseCaller(w, *p)
		return
	}
	list := []model{}
	for _, l := range g.allLanes() {
		if _, ok := l.ready(); ok && caller.may(l.name) {
			list = append(list, g.modelOf(l))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

// model shows one service. One that cannot answer now, or that the caller may not use, is not there, as in the list.
func (g *Gateway) model(w http.ResponseWriter, r *http.Request) {
	caller, p := g.keys.enter(w, r)
	if p != nil {
		g.refuseCaller(w, *p)
		return
	}
	if l := g.lane(r.PathValue("name")); l != nil && caller.may(l.name) {
		if _, ok := l.ready(); ok {
			writeJSON(w, http.StatusOK, g.modelOf(l))
			return
		}
	}
	noService(r.PathValue("name")).write(w)
}

// notProxied refuses requests that name a host as a proxy's do: nothing here is fetched for anybody.
func notProxied(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "" || r.URL.Scheme != "" || r.Method == http.MethodConnect {
			w.Header().Set("Connection", "close")
			badRequest("the request names a host as if this were a proxy; ask for a path").write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ready is for load balancers: 200 when at least one service can answer and none of those that this gateway
// was told to serve is missing, 503 else and while the gateway drains.
func (g *Gateway) ready(w http.ResponseWriter, _ *http.Request) {
	type state struct {
		Service string `json:"service"`
		Ready   bool   `json:"ready"`
		Stable  string `json:"stable,omitempty"`
	}
	g.mu.RLock()
	draining := g.draining
	g.mu.RUnlock()
	states := []state{}
	some, all := false, true
	for _, l := range g.allLanes() {
		stable, ok := l.ready()
		states = append(states, state{Service: l.name, Ready: ok, Stable: stable.Short()})
		some, all = some || ok, all && ok
	}
	told := len(g.config.Services) > 0
	status := http.StatusServiceUnavailable
	if !draining && some && (all || !told) && g.keys.ready() {
		status = http.StatusOK
	}
	writeJSON(w, status, map[string]any{"services": states, "draining": draining})
}
