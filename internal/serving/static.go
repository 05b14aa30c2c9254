package serving

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// StaticConfig sets up the static engine. The zero value works for servers that ask for no key.
type StaticConfig struct {
	Client  *http.Client                           // default http.DefaultClient
	Timeout time.Duration                          // of one question to one server; default 5s
	Secret  func(reference string) (string, error) // reads env:NAME or file:PATH; needed where a service names an api_key
	Now     func() time.Time                       // default time.Now
}

// Static uses the model servers that a service names.
type Static struct{ config StaticConfig }

// NewStatic makes a static engine.
func NewStatic(config StaticConfig) *Static {
	if config.Client == nil {
		config.Client = http.DefaultClient
	}
	if config.Timeout <= 0 {
		config.Timeout = 5 * time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Static{config: config}
}

// Load asks the declared servers whether they serve the release. Servers pinned to another release are left
// out, unless an embedder alone is asked for. It is Unavailable when none answers with the name, Refused when attribution is required and a server
// is asked by a name that does not tell the release.
func (s *Static) Load(ctx context.Context, p Placement) ([]lifecycle.Endpoint, error) {
	key, err := s.apiKey(p.Service.Serving.APIKey)
	if err != nil {
		return nil, err
	}
	var endpoints []lifecycle.Endpoint
	var reasons []string
	for _, declared := range p.Service.Serving.Endpoints {
		ask := s.ask
		switch {
		case p.Release.Model == "":
			ask = s.askEmbedder
		case declared.Release != "" && declared.Release != p.ID:
			continue
		}
		endpoint, reason, err := ask(ctx, p, declared, key)
		if err != nil {
			return nil, err
		}
		if reason != "" {
			reasons = append(reasons, declared.URL+": "+reason)
			continue
		}
		endpoints = append(endpoints, endpoint)
	}
	if len(endpoints) == 0 {
		if len(reasons) == 0 {
			reasons = []string{"the service declares no server for it"}
		}
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "no server serves %s: %s", ServerName(p.Release), strings.Join(reasons, "; "))
	}
	return endpoints, nil
}

// ask gives the endpoint, or the reason why the server cannot be used now, or an error that no other server mends.
func (s *Static) ask(ctx context.Context, p Placement, declared lifecycle.StaticEndpoint, key string) (lifecycle.Endpoint, string, error) {
	served := p.Release.ServedName()
	name := declared.Model
	if name == "" {
		name = served
	}
	attribution := Verified
	if name != served {
		attribution = Unverified
		if p.Service.Serving.Verified {
			return lifecycle.Endpoint{}, "", lifecycle.Errorf(lifecycle.Refused,
				"server %s is asked for model %q, which does not tell that release %s answered; serve it as %s, or drop require_attribution",
				declared.URL, name, p.ID.Short(), served)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	names, err := listModels(ctx, s.config.Client, declared.URL, key)
	if err != nil {
		return lifecycle.Endpoint{}, err.Error(), nil
	}
	if !names[name] {
		return lifecycle.Endpoint{}, "it does not list the model " + name, nil
	}
	capacity := declared.Capacity
	if capacity <= 0 {
		capacity = p.Service.Serving.Capacity
	}
	endpoint := lifecycle.Endpoint{
		Release: p.ID, URL: strings.TrimRight(declared.URL, "/"), Model: name, Capacity: capacity,
		Ready: true, Attribution: attribution, SeenAt: s.config.Now(),
	}
	if embedder := EmbedderName(p.Release.Embedder); embedder != "" && names[embedder] {
		endpoint.Embedder = embedder
	}
	return endpoint, "", nil
}

// askEmbedder is ask for an embedder alone.
func (s *Static) askEmbedder(ctx context.Context, p Placement, declared lifecycle.StaticEndpoint, key string) (lifecycle.Endpoint, string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	names, err := listModels(ctx, s.config.Client, declared.URL, key)
	if err != nil {
		return lifecycle.Endpoint{}, err.Error(), nil
	}
	embedder := EmbedderName(p.Release.Embedder)
	if !names[embedder] {
		return lifecycle.Endpoint{}, "it does not list the embedder " + embedder, nil
	}
	return lifecycle.Endpoint{
		URL: strings.TrimRight(declared.URL, "/"), Embedder: embedder, Capacity: max(1, declared.Capacity),
		Ready: true, Attribution: Verified, SeenAt: s.config.Now(),
	}, "", nil
}

// Unload does nothing: the servers belong to somebody else.
func (s *Static) Unload(context.Context, string) error { return nil }

// List gives none: this engine starts no server.
func (s *Static) List(context.Context) ([]Server, error) { return nil, nil }

func (s *Static) apiKey(reference string) (string, error) {
	if reference == "" {
		return "", nil
	}
	if s.config.Secret == nil {
		return "", lifecycle.Errorf(lifecycle.Refused, "the service names an api_key, but this worker cannot read secrets")
	}
	key, err := s.config.Secret(reference)
	return key, lifecycle.Wrap(err, "read serving.api_key")
}
