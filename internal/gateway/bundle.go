package gateway

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// bundle is a release made ready in this gateway, with the servers that have its weights.
type bundle struct {
	answer    *answer.Bundle
	endpoints atomic.Pointer[[]lifecycle.Endpoint] // ready ones
	apiKey    func() string
	used      lifecycle.Used // of every answer
	named     []string       // its ID, as a header's value
	meter     *meter
}

func (b *bundle) id() lifecycle.Digest { return b.answer.ID }

func (b *bundle) servers() []lifecycle.Endpoint {
	if list := b.endpoints.Load(); list != nil {
		return *list
	}
	return nil
}

// setServers changes where the release is served. A release whose servers are all gone keeps its last ones:
// asking them costs a refused connection, and they may come back.
func (b *bundle) setServers(servers []lifecycle.Endpoint) {
	if len(servers) > 0 {
		b.endpoints.Store(&servers)
	}
}

// serversOf gives those of the endpoints that serve the release and are ready.
func serversOf(release lifecycle.Digest, all []lifecycle.Endpoint) []lifecycle.Endpoint {
	return slices.DeleteFunc(slices.Clone(all), func(e lifecycle.Endpoint) bool {
		return e.Release != release || !e.Ready || e.URL == ""
	})
}

// upstream is how the path asks one of the servers.
func (b *bundle) upstream(e lifecycle.Endpoint) answer.Upstream {
	return answer.Upstream{URL: e.URL, Model: e.Model, EmbedModel: e.Embedder, APIKey: b.apiKey}
}

// prepare makes a release ready. It is Unavailable as long as no server has the weights.
func (g *Gateway) prepare(ctx context.Context, service lifecycle.Service, id lifecycle.Digest, release lifecycle.Release, endpoints []lifecycle.Endpoint) (*bundle, error) {
	if release.ID() != id {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "what came as release %s is another one", id.Short())
	}
	b := &bundle{used: release.Used(), named: []string{string(id)}, meter: g.metrics.meter(service.Name, id)}
	b.setServers(serversOf(id, endpoints))
	if len(b.servers()) == 0 {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "no model server is ready for release %s", id.Short())
	}
	if reference := service.Serving.APIKey; reference != "" {
		if g.config.Secret == nil {
			return nil, lifecycle.Errorf(lifecycle.Refused, "service %s names an api_key, but this gateway cannot read secrets", service.Name)
		}
		key, err := g.config.Secret(reference)
		if err != nil {
			return nil, lifecycle.Wrap(err, "read serving.api_key of %s", service.Name)
		}
		b.apiKey = func() string { return key }
	}
	var index answer.Searcher
	if release.Index != "" && release.Parameters.TopK > 0 {
		var err error
		if index, err = g.config.Indexes.Open(ctx, release, g.embedder(b, release)); err != nil {
			return nil, lifecycle.Wrap(err, "open the index of release %s", id.Short())
		}
	}
	made, err := answer.NewBundle(release, index)
	if err != nil {
		return nil, err
	}
	b.answer = made
	return b, nil
}

// embedder asks the bundle's own servers, whichever they are at that moment. Queries do not take a
// place on the server: they are part of a request that holds one.
func (g *Gateway) embedder(b *bundle, release lifecycle.Release) answer.Embedder {
	var turn atomic.Uint64
	upstream := func() (answer.Upstream, error) {
		servers := slices.DeleteFunc(slices.Clone(b.servers()), func(e lifecycle.Endpoint) bool { return e.Embedder == "" })
		if len(servers) == 0 {
			return answer.Upstream{}, lifecycle.Errorf(lifecycle.Unavailable, "no server of release %s has its embedder", release.ID().Short())
		}
		return b.upstream(servers[turn.Add(1)%uint64(len(servers))]), nil
	}
	model := ""
	if release.Embedder != "" {
		model = lifecycle.ServedName(release.Embedder, "")
	}
	return answer.Embedder{Path: g.config.Path, Upstream: upstream, Model: model}
}
