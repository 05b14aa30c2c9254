package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// castsShadows gives a world whose service copies every request to a release on a server of its own.
func castsShadows(t *testing.T, edit func(*lifecycle.Shadow)) (*world, *upstream, lifecycle.Release, *prometheus.Registry) {
	t.Helper()
	metrics := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics = metrics })
	server := newUpstream(t)
	release := lifecycle.Release{Service: "docs", Model: lifecycle.DigestOf([]byte("shadow"))}
	w.store.change(func(s *store) {
		s.releases[release.ID()] = release
		s.endpoints = append(s.endpoints, lifecycle.Endpoint{Release: release.ID(), URL: server.server.URL, Model: release.ServedName(), Capacity: 64, Ready: true})
		s.service.Shadow = lifecycle.Shadow{Release: release.ID(), Share: lifecycle.Whole, AtOnce: 4, PerMinute: 1000, Deadline: lifecycle.Duration(time.Minute)}
		if edit != nil {
			edit(&s.service.Shadow)
		}
	})
	l := w.gateway.lane("docs")
	w.await(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.service.Shadow.Release != "" && l.bundles[release.ID()] != nil
	})
	return w, server, release, metrics
}

// pairs splits what was captured into users' interactions and shadows'.
func (w *world) pairs() (users, shadows []lifecycle.Interaction) {
	w.captured.mu.Lock()
	defer w.captured.mu.Unlock()
	for _, i := range w.captured.interactions {
		if strings.HasPrefix(i.ID, lifecycle.ShadowPrefix) {
			shadows = append(shadows, i)
		} else {
			users = append(users, i)
		}
	}
	return users, shadows
}

func (w *world) dropped(reason string) int {
	value := 0.0
	families, err := w.config.Metrics.(*prometheus.Registry).Gather()
	require.NoError(w.t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "refit_gateway_shadows_dropped_total" && hasLabels(m, []string{"reason=" + reason}) {
				value += m.Counter.GetValue()
			}
		}
	}
	return int(value)
}

func TestAShadowGetsACopyAndNobodySeesItsAnswer(t *testing.T) {
	t.Parallel()
	w, server, release, metrics := castsShadows(t, nil)
	w.rollout(5000) // of another release
	before := w.counts()
	stream := strings.Replace(chat("streamed", 0), `{"messages"`, `{"stream":true,"messages"`, 1)
	for i, body := range []string{chat("one", 0), chat("two", 1), chat("three", 0), stream} {
		r := w.do(func(r *http.Request) { r.Header.Set("Authorization", "Bearer sk-mine") }, chatPath, body, "")
		if i < 3 {
			require.Equal(t, http.StatusOK, r.Code)
		}
		require.NotEqual(t, string(release.ID()), r.release())
	}
	w.await(func() bool { _, s := w.pairs(); return len(s) == 4 })
	users, shadows := w.pairs()
	for _, s := range shadows {
		var own *lifecycle.Interaction
		for i := range users {
			if lifecycle.ShadowPrefix+users[i].ID == s.ID {
				own = &users[i]
			}
		}
		require.NotNil(t, own, "each copy has its user's interaction: %s", s.ID)
		require.Equal(t, own.Conversation, s.Conversation)
		require.Equal(t, release.ID(), s.Release)
		require.Empty(t, s.Rollout, "it enters no rollout's statistics")
		require.False(t, s.Canary || s.Coin)
		require.Zero(t, s.Propensity)
	}
	require.Len(t, server.asked(), 4)
	for _, h := range server.header {
		require.Empty(t, h.Get("Authorization"))
	}
	require.Equal(t, before.requests+4, w.counts().requests, "copies are no requests that count for the exposure")
	require.LessOrEqual(t, w.counts().canary, int64(2))
	_, of := series(t, metrics)
	require.EqualValues(t, 3, of("refit_gateway_component_seconds", "component=total", "side=shadow", "outcome=ok"))
}

func (w *world) counts() struct{ requests, canary int64 } {
	l := w.gateway.lane("docs")
	l.mu.Lock()
	defer l.mu.Unlock()
	return struct{ requests, canary int64 }{l.counts.requests, l.counts.canary}
}

// Whatever a shadow's server does, users get their answers, and nobody waits for it.
func TestAShadowChangesNothingForUsers(t *testing.T) {
	t.Parallel()
	for name, behave := range map[string]func(free chan struct{}) func(http.ResponseWriter, *http.Request, string) bool{
		"it hangs": func(free chan struct{}) func(http.ResponseWriter, *http.Request, string) bool {
			return func(_ http.ResponseWriter, r *http.Request, _ string) bool {
				select {
				case <-free:
				case <-r.Context().Done():
				}
				return true
			}
		},
		"it fails": func(chan struct{}) func(http.ResponseWriter, *http.Request, string) bool {
			return func(out http.ResponseWriter, _ *http.Request, _ string) bool {
				out.WriteHeader(http.StatusInternalServerError)
				return true
			}
		},
		"it breaks off": func(chan struct{}) func(http.ResponseWriter, *http.Request, string) bool {
			return func(http.ResponseWriter, *http.Request, string) bool { panic(http.ErrAbortHandler) }
		},
		"it talks nonsense": func(chan struct{}) func(http.ResponseWriter, *http.Request, string) bool {
			return func(out http.ResponseWriter, _ *http.Request, _ string) bool {
				_, _ = out.Write([]byte(`{"choices":7}`))
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, server, _, _ := castsShadows(t, nil)
			free := make(chan struct{})
			defer close(free)
			server.behave(behave(free))
			const n = 50
			for i := range n {
				r := w.ask(chatPath, chat(fmt.Sprint(i), 0), "")
				require.Equal(t, http.StatusOK, r.Code)
				require.Equal(t, string(w.stable.ID()), r.release())
			}
			require.Len(t, w.upstream.asked(), n)
			users, _ := w.pairs()
			require.Len(t, users, n)
			for _, u := range users {
				require.Equal(t, answer.OutcomeOK, u.Outcome)
			}
			if name == "it hangs" {
				require.Equal(t, n-4, w.dropped("at_once"), "four at once, the others are dropped and counted")
			}
		})
	}
}

func TestAShadowsTimeAndRateAreBounded(t *testing.T) {
	t.Parallel()
	w, server, _, _ := castsShadows(t, func(s *lifecycle.Shadow) { s.Deadline, s.PerMinute = lifecycle.Duration(50*time.Millisecond), 3 })
	server.behave(func(_ http.ResponseWriter, r *http.Request, _ string) bool { <-r.Context().Done(); return true })
	for i := range 10 {
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat(fmt.Sprint(i), 0), "").Code)
	}
	w.await(func() bool { _, s := w.pairs(); return len(s) == 3 })
	_, shadows := w.pairs()
	for _, s := range shadows {
		require.Equal(t, answer.OutcomeError, s.Outcome, "it was too slow; nobody left")
	}
	require.Equal(t, 7, w.dropped("per_minute"))
	l := w.gateway.lane("docs")
	w.await(func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.shadow.atOnce == 0 })
	w.clock.move(2 * time.Minute)
	w.ask(chatPath, chat("later", 0), "")
	w.await(func() bool { _, s := w.pairs(); return len(s) == 4 })
}

// movesToStablesServer lets a release be served by the server that stable has, and waits until the gateway knows.
func (w *world) movesToStablesServer(release lifecycle.Release) {
	w.store.change(func(s *store) {
		for i := range s.endpoints {
			if s.endpoints[i].Release == release.ID() {
				s.endpoints[i].URL = w.upstream.server.URL
			}
		}
	})
	l := w.gateway.lane("docs")
	w.await(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.bundles[release.ID()].servers()[0].URL == w.upstream.server.URL
	})
}

// What users' answers come from gets no copies: their servers, and a release whose requests are counted as theirs.
func TestAShadowTakesNothingFromUsers(t *testing.T) {
	t.Parallel()
	t.Run("a server that stable uses", func(t *testing.T) {
		t.Parallel()
		w, server, release, _ := castsShadows(t, nil)
		w.movesToStablesServer(release)
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat("one", 0), "").Code)
		w.await(func() bool { return w.dropped("no_server") == 1 })
		require.Empty(t, server.asked())
		require.Len(t, w.upstream.asked(), 1)
	})
	t.Run("while it is the canary", func(t *testing.T) {
		t.Parallel()
		w, server, release, _ := castsShadows(t, nil)
		w.canary = release
		w.rollout(0)
		for i := range 20 {
			require.Equal(t, http.StatusOK, w.ask(chatPath, chat(fmt.Sprint(i), 0), "").Code)
		}
		require.Empty(t, server.asked(), "its server counts what it answers as the canary's")
		require.Zero(t, w.counts().canary)
	})
	t.Run("requests for embeddings", func(t *testing.T) {
		t.Parallel()
		w, server, _, _ := castsShadows(t, nil)
		w.ask("/v1/embeddings", `{"model":"docs","input":"x"}`, "")
		w.stop() // which waits for shadows
		require.Empty(t, server.asked())
	})
}

func TestAStopEndsShadows(t *testing.T) {
	t.Parallel()
	w, server, _, _ := castsShadows(t, nil)
	arrived := make(chan struct{}, 1)
	server.behave(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		arrived <- struct{}{}
		<-r.Context().Done()
		return true
	})
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("one", 0), "").Code)
	<-arrived
	w.stop()
	_, shadows := w.pairs()
	require.Len(t, shadows, 1)
	require.Equal(t, answer.OutcomeCanceled, shadows[0].Outcome)
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("two", 0), "").Code)
	require.Equal(t, 1, w.dropped("stopping"))
}
