package activities_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/serving"
)

// machine is an engine whose servers can be killed.
type machine struct {
	mu      sync.Mutex
	servers map[string]bool // by name: alive
	loads   []string
	fails   int // loads that fail first
}

func (m *machine) Load(_ context.Context, p serving.Placement) ([]lifecycle.Endpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails > 0 {
		m.fails--
		return nil, errors.New("no memory")
	}
	name := serving.ServerName(p.Release)
	m.servers[name] = true
	m.loads = append(m.loads, name)
	return []lifecycle.Endpoint{{Release: p.ID, URL: "http://127.0.0.1:1", Model: p.Release.ServedName(), Capacity: 1, Ready: true}}, nil
}

func (m *machine) Unload(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.servers, name)
	return nil
}

func (m *machine) List(context.Context) ([]serving.Server, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []serving.Server
	for name, alive := range m.servers {
		list = append(list, serving.Server{Name: name, Alive: alive})
	}
	return list, nil
}

// set says which servers there are: true lives, false is gone.
func (m *machine) set(servers map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers, m.loads = servers, nil
}

func (m *machine) loaded() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.loads)
}

// A server that a route needs comes back when it is gone; what nobody needs, or lives, is left alone.
func TestServersThatAreGoneAreLoadedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.apply(t, lifecycle.Service{Name: "docs", Serving: lifecycle.Serving{Engine: "local"}})
	var ids []lifecycle.Digest
	var names []string
	for _, content := range []string{"stable", "unused"} {
		model, _, err := w.Store.PutFiles(t.Context(), lifecycle.ModelArtifact, map[string][]byte{"model": []byte(content)})
		require.NoError(t, err)
		release := lifecycle.Release{Service: service.Name, Model: model.Digest}
		id, err := w.Registry.AddRelease(t.Context(), release, by)
		require.NoError(t, err)
		ids, names = append(ids, id), append(names, serving.ServerName(release))
	}
	claim, err := w.Registry.TakeClaim(t.Context(), service.Name, lifecycle.PromotionLoop, lifecycle.Owner{Namespace: "n", WorkflowID: "w", FirstRunID: "r"}, by)
	require.NoError(t, err)
	_, err = w.Registry.SetFirstStable(t.Context(), registry.FirstStable{Service: service.Name, Fence: claim.Fence, Release: ids[0], By: by})
	require.NoError(t, err)

	m := &machine{fails: 1}
	m.set(map[string]bool{names[0]: false, names[1]: false})
	p := activities.Promotion{Registry: w.Registry, Cache: w.Cache, Engines: map[string]serving.Engine{"local": m}, Log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- p.Keep(ctx, 10*time.Millisecond) }()
	require.Eventually(t, func() bool { return slices.Equal(m.loaded(), names[:1]) }, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		endpoints, err := w.Registry.Endpoints(t.Context(), service.Name)
		return err == nil && len(endpoints) == 1 && endpoints[0].Release == ids[0]
	}, time.Minute, 10*time.Millisecond, "gateways are told")

	m.set(map[string]bool{names[0]: false})
	require.Eventually(t, func() bool { return slices.Equal(m.loaded(), names[:1]) }, time.Minute, 10*time.Millisecond, "and every time")
	stop()
	require.ErrorIs(t, <-kept, context.Canceled)
	require.Equal(t, names[:1], m.loaded(), "a server that lives is not loaded again")
}
