package serving

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Attribution of an endpoint: whether it can tell which weights answered.
const (
	Verified   = "verified"
	Unverified = "unverified"
)

// Engine brings releases onto model servers.
type Engine interface {
	// Load ensures that the placement's weights are served and returns where. It returns after the endpoints
	// answered; calling it again changes nothing while they do. Unavailable means that trying again may help.
	Load(ctx context.Context, p Placement) ([]lifecycle.Endpoint, error)
	// Unload stops what serves under a server name (see ServerName). A name that is not loaded is no error.
	Unload(ctx context.Context, name string) error
	// List gives every server that the engine started, dead ones too.
	List(ctx context.Context) ([]Server, error)
}

// Placement is a release together with the folders that hold its verified artifacts on this machine.
type Placement struct {
	Service     lifecycle.Service // with defaults filled in
	ID          lifecycle.Digest  // of the release
	Release     lifecycle.Release
	ModelDir    string // for the local engine
	EmbedderDir string // for the local engine; empty where the release has no embedder
}

// Server is a model server that an engine started.
type Server struct {
	Name      string    `json:"name"`               // see ServerName
	Model     string    `json:"model"`              // name that the weights are asked for by
	Embedder  string    `json:"embedder,omitempty"` // name that embeddings are asked for by
	URL       string    `json:"url"`                // base, without /v1
	PID       int       `json:"pid"`
	Alive     bool      `json:"alive"`
	StartedAt time.Time `json:"started_at"`
	Log       string    `json:"log"`        // file
	AccessLog string    `json:"access_log"` // file, one JSON line per admitted request
}

// ServerName names the server that a release needs: releases that share model, adapter and embedder share one.
func ServerName(r lifecycle.Release) string {
	if r.Embedder == "" {
		return r.ServedName()
	}
	return r.ServedName() + "-" + r.Embedder.Short()
}

// EmbedderName is the name under which a model server serves an embedder; empty for none.
func EmbedderName(embedder lifecycle.Digest) string {
	if embedder == "" {
		return ""
	}
	return "refit-embedder-" + embedder.Short()
}

// Engines picks the engine that a service declares.
type Engines struct {
	Local  Engine
	Static Engine
}

// Load gives the placement to its service's engine. An engine that this worker lacks is Refused.
func (e Engines) Load(ctx context.Context, p Placement) ([]lifecycle.Endpoint, error) {
	var engine Engine
	switch p.Service.Serving.Engine {
	case "", "local":
		engine = e.Local
	case "static":
		engine = e.Static
	}
	if engine == nil {
		return nil, lifecycle.Errorf(lifecycle.Refused, "this worker has no serving engine %q", p.Service.Serving.Engine)
	}
	return engine.Load(ctx, p)
}

// Unload stops the name at every engine.
func (e Engines) Unload(ctx context.Context, name string) error {
	for _, engine := range e.all() {
		if err := engine.Unload(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// List gives the servers of every engine.
func (e Engines) List(ctx context.Context) ([]Server, error) {
	var servers []Server
	for _, engine := range e.all() {
		more, err := engine.List(ctx)
		if err != nil {
			return nil, err
		}
		servers = append(servers, more...)
	}
	return servers, nil
}

func (e Engines) all() []Engine {
	var engines []Engine
	for _, engine := range []Engine{e.Local, e.Static} {
		if engine != nil {
			engines = append(engines, engine)
		}
	}
	return engines
}
