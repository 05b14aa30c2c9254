package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// WayBack says how fast a rollback would be now.
type WayBack struct {
	To    lifecycle.Digest `json:"to,omitempty"`
	Speed string           `json:"speed"` // "instant", "about 2 min: must load", "none"
	Why   string           `json:"why"`
}

// Instant is the speed of a way back whose model servers answer now.
const Instant = "instant"

// NoWayBack is the speed where there is nothing to go back to.
const NoWayBack = "none"

// Loading is estimated, not measured: bytes come to the machine at this pace, and a server starts in about this time.
const (
	loadBytesPerSecond = 100 << 20
	loadStart          = time.Minute
)

// probeTime bounds one question to one model server.
const probeTime = time.Second

// ReleaseServers says how many of a release's model servers answer now. What the record says of a server is not
// believed: it is asked.
type ReleaseServers struct {
	Release   lifecycle.Digest `json:"release"`
	Asked     int              `json:"asked"`
	Answering int              `json:"answering"`
}

// servers asks the model servers of every release that the route names, all at once.
func (c *Control) servers(ctx context.Context, route lifecycle.Route, endpoints []lifecycle.Endpoint) []ReleaseServers {
	out := []ReleaseServers{}
	for _, release := range []lifecycle.Digest{route.Stable, route.Canary, route.Previous} {
		if release != "" {
			out = append(out, ReleaseServers{Release: release})
		}
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	for i := range out {
		for _, e := range endpoints {
			if e.Release != out[i].Release {
				continue
			}
			out[i].Asked++
			wait.Go(func() {
				if c.answers(ctx, e) {
					mu.Lock()
					defer mu.Unlock()
					out[i].Answering++
				}
			})
		}
	}
	wait.Wait()
	return out
}

// wayBack says how fast a rollback would be. With a canary out the way back is to stable, else to the release
// before.
func (c *Control) wayBack(ctx context.Context, service lifecycle.Service, route lifecycle.Route, servers []ReleaseServers) WayBack {
	out := WayBack{To: route.Previous}
	if route.Canary != "" {
		out.To = route.Stable
	}
	if out.To == "" {
		return WayBack{Speed: NoWayBack, Why: "there is no release to go back to"}
	}
	var there ReleaseServers
	for _, s := range servers {
		if s.Release == out.To {
			there = s
		}
	}
	switch {
	case there.Answering > 0:
		out.Speed, out.Why = Instant, fmt.Sprintf("%d of %d model servers of release %s answer", there.Answering, there.Asked, out.To.Short())
	case service.Serving.Engine == "static":
		out.Speed, out.Why = NoWayBack, fmt.Sprintf("no model server of release %s answers, and they are not Refit's to start", out.To.Short())
	default:
		took, size := c.loadTime(ctx, out.To, service.Name)
		out.Speed = fmt.Sprintf("about %d min: must load", int((took+time.Minute-1)/time.Minute))
		out.Why = fmt.Sprintf("no model server of release %s answers; estimated from its size (%s)", out.To.Short(), size)
	}
	return out
}

// answers says whether a server lists the weights by their name. One that asks for a key lives; more cannot be
// known of it here.
func (c *Control) answers(ctx context.Context, e lifecycle.Endpoint) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(e.URL, "/")+"/v1/models", nil)
	if err != nil {
		return false
	}
	answer, err := c.cfg.Servers.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		return true
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if answer.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&list) != nil {
		return false
	}
	for _, model := range list.Data {
		if model.ID == e.Model {
			return true
		}
	}
	return false
}

// loadTime estimates how long it takes to bring a release onto a model server.
func (c *Control) loadTime(ctx context.Context, id lifecycle.Digest, service string) (time.Duration, string) {
	_, release, err := c.cfg.Registry.Release(ctx, service, string(id))
	if err != nil {
		return loadStart, "unknown"
	}
	var bytes int64
	for _, digest := range []lifecycle.Digest{release.Model, release.Adapter, release.Embedder, release.Index} {
		if digest == "" {
			continue
		}
		artifact, err := c.cfg.Registry.Artifact(ctx, digest)
		if err != nil {
			return loadStart, "unknown"
		}
		bytes += artifact.Size
	}
	size := fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	return loadStart + time.Duration(bytes/loadBytesPerSecond)*time.Second, size
}
