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
	// Unload stops the server of that name (see ServerName), or every server that serves weights under that
	// name. A name that is not loaded is no error.
	Unload(ctx context.Context, name string) error
	// List gives every server that the engine started, dead ones too.
	List(ctx context.Context) ([]Server, error)
}

// Placement is a release together with the folders that hold its verified artifacts on this machine.
type Placement struct {
	Service     lifecycle.Service // with defaults filled in
	ID          lifecycle.Digest  // of the release
	Release     lifecycle.Release
	ModelDir    string // for the local engine; empty for an embedder alone
	EmbedderDir string // for the local engine; empty where the release has no embedder
}

// EmbedderAlone places an embedder without a model: how an index is built before there is any release. Its
// endpoints name the embedder and no model.
func EmbedderAlone(service lifecycle.Service, embedder lifecycle.Digest, dir string) Placement {
	return Placement{
		Service: service, Release: lifecycle.Release{Service: service.Name, Embedder: embedder}, EmbedderDir: dir,
	}
}

// Server is a model server that an engine started.
type Server struct {
	Name      string    `json:"name"`               // see ServerName
	Model     string    `json:"model,omitempty"`    // name that the weights are asked for by; empty: an embedder alone
	Embedder  string    `json:"embedder,omitempty"` // name that embeddings are asked for by
	URL       string    `json:"url"`                // base, without /v1
	PID       int       `json:"pid"`
	Alive     bool      `json:"alive"`
	StartedAt time.Time `json:"started_at"`
	Log       string    `json:"log"`        // file
	AccessLog string    `json:"access_log"` // file, one JSON line per admitted request
}

// aloneName begins the name of a server that has an embedder and no model.
const aloneName = "embedder-"

// ServerName names the server that a release needs: releases that share model, adapter and embedder share one.
func ServerName(r lifecycle.Release) string {
	switch {
	case r.Embedder == "":
		return r.ServedName()
	case r.Model == "":
		return aloneName + r.Embedder.Short()
	}
	return r.ServedName() + "-" + r.Embedder.Short()
}

// modelName is the name that a release's weights are served under; empty where it has none.
func modelName(r lifecycle.Release) string {
	if r.Model == "" {
		return ""
	}
	return r.ServedName()
}

// EmbedderName is the name under which a model server serves an embedder; empty for none. Embedders and
// weights share one kind of name, so that whoever knows the digest knows the name.
func EmbedderName(embedder lifecycle.Digest) string {
	if embedder == "" {
		return ""
	}
	return lifecycle.ServedName(embedder, "")
}
