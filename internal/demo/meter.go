package demo

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
)

// Poll is what the model servers had counted at one moment, by served name.
type Poll struct {
	At     time.Time
	Served map[string]int64
}

func (p Poll) has(name string) bool { _, ok := p.Served[name]; return ok }

// Meter counts from the model servers' side: it polls their own counters and believes nobody else. Run it beside a
// rollout, then ask for Exposure.
type Meter struct {
	Endpoints func(ctx context.Context) ([]lifecycle.Endpoint, error) // servers that are there now
	HTTP      *http.Client
	Every     time.Duration // between polls; default 200 ms
	Refresh   time.Duration // between looks at which servers there are; default 2 s

	mu    sync.Mutex
	polls []Poll
}

// Run polls until ctx ends. A poll that fails is left out: counters only grow, so the next one holds what it
// would have held.
func (m *Meter) Run(ctx context.Context) {
	setDefault(&m.Every, 200*time.Millisecond)
	setDefault(&m.Refresh, 2*time.Second)
	ticker := time.NewTicker(m.Every)
	defer ticker.Stop()
	var servers []lifecycle.Endpoint
	var looked time.Time
	for {
		if now := time.Now(); now.Sub(looked) >= m.Refresh {
			if found, err := m.Endpoints(ctx); err == nil {
				servers, looked = found, now
			}
		}
		if len(servers) > 0 {
			served, err := serving.Served(ctx, m.HTTP, servers)
			if err == nil {
				m.mu.Lock()
				m.polls = append(m.polls, Poll{time.Now(), served})
				m.mu.Unlock()
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Polls gives what was seen so far, in order.
func (m *Meter) Polls() []Poll {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Poll(nil), m.polls...)
}

// Exposure is the share that a canary was really given.
type Exposure struct {
	Requests int64
	Canary   int64
	Reached  *lifecycle.BasisPoints // nil: could not be counted
	Highest  *lifecycle.BasisPoints // nil: likewise
}

// block is what was served between two polls.
type block struct{ canary, stable int64 }

// CountExposure counts the requests for two served names between two moments, in the blocks between polls that lie
// wholly inside. Highest is the canary's largest share in a window: the shortest run of blocks up to a poll that holds
// at least width requests, or everything where there are fewer. A counter that fell (a server was started again), a
// beginning that nobody saw, or nothing counted at all gives nil, because the number is not known.
func CountExposure(polls []Poll, canary, stable string, from, to time.Time, width int64) Exposure {
	var inside []Poll
	for _, p := range polls {
		if !p.At.Before(from) && !p.At.After(to) {
			inside = append(inside, p)
		}
	}
	var out Exposure
	if canary == stable || len(inside) < 2 || polls[0].At.After(from) {
		return out
	}
	var blocks []block
	for i, p := range inside[1:] {
		if !inside[i].has(canary) || !inside[i].has(stable) {
			continue // a server that is only just known: what it counted before is not of this block
		}
		b := block{p.Served[canary] - inside[i].Served[canary], p.Served[stable] - inside[i].Served[stable]}
		if b.canary < 0 || b.stable < 0 {
			return Exposure{}
		}
		blocks = append(blocks, b)
		out.Canary += b.canary
		out.Requests += b.canary + b.stable
	}
	if out.Requests == 0 {
		return out
	}
	out.Reached = share(out.Canary, out.Requests)
	out.Highest = highest(blocks, min(width, out.Requests))
	return out
}

func highest(blocks []block, width int64) *lifecycle.BasisPoints {
	var best lifecycle.BasisPoints
	var first int
	var canary, all int64
	for _, b := range blocks {
		canary += b.canary
		all += b.canary + b.stable
		for {
			f := blocks[first]
			if all-f.canary-f.stable < width {
				break
			}
			canary -= f.canary
			all -= f.canary + f.stable
			first++
		}
		if all >= width {
			best = max(best, *share(canary, all))
		}
	}
	return &best
}

func share(part, whole int64) *lifecycle.BasisPoints {
	bp := lifecycle.BasisPoints(part * int64(lifecycle.Whole) / whole)
	return &bp
}
