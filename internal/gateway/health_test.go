package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// ward is a balancer with a clock that stands still, over a release's servers.
type ward struct {
	*balancer
	t       *testing.T
	clock   *clock
	servers *bundle
}

func newWard(t *testing.T, servers int) *ward {
	t.Helper()
	c := &clock{now: time.Now()}
	return &ward{newBalancer(time.Millisecond, 4, time.Second, c.Now), t, c, places(servers, 8)}
}

// give takes a place and says what became of it.
func (w *ward) give(what attempt) (url string) {
	w.t.Helper()
	p, err := w.acquire(w.t.Context(), w.servers)
	require.NoError(w.t, err)
	p.done(what)
	return p.URL
}

// spoil lets the next place fail until one server is out, and gives that.
func (w *ward) spoil(what attempt) (out string) {
	w.t.Helper()
	w.told = func(server patient, isOut bool, _ time.Duration) {
		if isOut {
			out = server.url
		}
	}
	for range 20 {
		if w.give(what); out != "" {
			return out
		}
	}
	require.Fail(w.t, "no server was taken out")
	return ""
}

// used counts who gets the next requests.
func (w *ward) used(n int) map[string]int {
	used := map[string]int{}
	for range n {
		used[w.give(serverUnasked)]++
	}
	return used
}

func TestAServerThatFailsIsTakenOutAndTriedAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		what attempt
		most int // attempts at two servers until one is out
	}{"5xx": {serverFailed, 9}, "too slow": {serverSlow, 3}, "no connection": {serverAway, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, 2)
			bad := ""
			w.told = func(server patient, isOut bool, _ time.Duration) { bad = server.url }
			for range tc.most - 1 {
				w.give(tc.what)
			}
			require.Empty(t, bad, "too early")
			w.give(tc.what)
			require.NotEmpty(t, bad)
			require.Zero(t, w.used(10)[bad])
			w.clock.move(time.Second)
			p, err := w.acquire(t.Context(), w.servers)
			require.NoError(t, err)
			require.Equal(t, bad, p.URL, "one request tries it")
			require.Zero(t, w.used(10)[bad], "no other does meanwhile")
			p.done(tc.what)
			w.clock.move(2*time.Second - 1)
			require.Zero(t, w.used(10)[bad], "it failed again: out for twice as long")
			w.clock.move(1)
			p, err = w.acquire(t.Context(), w.servers)
			require.NoError(t, err)
			require.Equal(t, bad, p.URL)
			p.done(serverAnswered)
			require.Equal(t, 5, w.used(10)[bad], "it is in again")
			require.Nil(t, w.health[patient{url: bad}], "and forgiven")
		})
	}
}

// A server to which no connection comes about has gone, and is not tried by four more users first.
func TestAServerThatIsNotThereIsAway(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	breaks := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(breaks.Close)
	b, err := answer.NewBundle(lifecycle.Release{Model: lifecycle.DigestOf([]byte("m"))}, nil)
	require.NoError(t, err)
	for url, want := range map[string]attempt{"http://" + gone.Addr().String(): serverAway, breaks.URL: serverFailed} {
		result, err := answer.New(answer.Settings{}).Do(t.Context(), b, answer.Upstream{URL: url}, answer.Request{
			Endpoint: answer.Chat, Body: []byte(`{"messages":[{"role":"user","content":"hello"}]}`),
		}, nowhere{})
		require.Error(t, err)
		require.Equal(t, want, attemptOf(t.Context(), result, err), err)
	}
}

func TestFailuresCountInARowOnly(t *testing.T) {
	t.Parallel()
	w := newWard(t, 1)
	w.told = func(patient, bool, time.Duration) { t.Error("it answers between its failures") }
	for range 10 {
		for range tooManyFailures - 1 {
			w.give(serverFailed)
			w.give(serverUnasked)
		}
		w.give(serverAnswered)
	}
}

// A server that begins its answers and breaks them off gets requests when it began, and is out again when it broke
// off.
func TestBeginningAnAnswerIsNoForgiveness(t *testing.T) {
	t.Parallel()
	w := newWard(t, 2)
	bad := w.spoil(serverFailed)
	for range 10 {
		out := w.health[patient{url: bad}].out
		w.clock.move(out)
		p, err := w.acquire(t.Context(), w.servers)
		require.NoError(t, err)
		require.Equal(t, bad, p.URL)
		p.began()
		require.Equal(t, 5, w.used(10)[bad])
		p.done(serverFailed)
		require.Zero(t, w.used(10)[bad])
		require.Equal(t, min(2*out, longestOut), w.health[patient{url: bad}].out)
	}
}

func TestOneServerIsAlwaysTried(t *testing.T) {
	t.Parallel()
	w := newWard(t, 3)
	for range 3 {
		w.spoil(serverAway)
	}
	require.Len(t, w.used(9), 3, "all are out, so all are tried")
	w.give(serverAnswered)
	require.Len(t, w.used(9), 1, "one is in again")
}

// Whatever happens: where there is room on a usable server that is in, or where none is in, a place is given; never
// more than the capacity, never a server that was left out.
func TestPlacesAreGivenWhereThereIsRoom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{now: time.Now()}
		b := newBalancer(time.Microsecond, 0, time.Second, c.Now)
		count, capacity := rapid.IntRange(1, 4).Draw(t, "servers"), rapid.IntRange(1, 3).Draw(t, "capacity")
		servers := places(count, capacity)
		taken := map[string][]*place{}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			c.move(time.Duration(rapid.IntRange(0, 3000).Draw(t, "passes")) * time.Millisecond)
			if rapid.Bool().Draw(t, "gives back") {
				for url, held := range taken {
					if len(held) > 0 {
						held[0].done(attempt(rapid.IntRange(0, 4).Draw(t, "became")))
						taken[url] = held[1:]
						break
					}
				}
				continue
			}
			p, err := b.acquire(context.Background(), servers)
			if err == nil {
				taken[p.URL] = append(taken[p.URL], p)
				if len(taken[p.URL]) > capacity {
					t.Fatalf("%d at once on %s", len(taken[p.URL]), p.URL)
				}
				continue
			}
			room, anyIn := false, false
			for _, e := range servers.servers() {
				if b.health[patient{url: e.URL}].standing(c.Now()) == in {
					anyIn = true
					room = room || len(taken[e.URL]) < capacity
				}
			}
			all := 0
			for _, held := range taken {
				all += len(held)
			}
			if room || !anyIn && all < count*capacity {
				t.Fatalf("refused though there is room: %v", err)
			}
		}
	})
}

func TestWhoWouldWaitInVainIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(2*time.Second, 4, time.Second, time.Now)
		slow, other := places(1, 1), places(2, 1)
		p, err := b.acquire(t.Context(), slow)
		require.NoError(t, err)
		time.Sleep(20 * time.Second) // of the test's own clock
		p.done(serverAnswered)
		_, err = b.acquire(t.Context(), slow)
		require.NoError(t, err)
		began := time.Now()
		_, err = b.acquire(t.Context(), slow)
		require.ErrorIs(t, err, errFull)
		require.Zero(t, time.Since(began))
		require.True(t, lifecycle.Is(err, lifecycle.Unavailable))
		require.Equal(t, 20, busy(err).retry)
		_, err = b.acquire(t.Context(), other, "http://0")
		require.NoError(t, err, "others are not held up by it")
	})
}

func TestAFullQueueIsItsServersOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(2*time.Second, 2, time.Second, time.Now)
		crowded := places(1, 1)
		_, err := b.acquire(t.Context(), crowded)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := b.acquire(t.Context(), crowded); !errors.Is(err, errFull) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		quiet := &bundle{}
		quiet.setServers([]lifecycle.Endpoint{{URL: "http://quiet", Capacity: 1, Ready: true}})
		p, err := b.acquire(t.Context(), quiet)
		require.NoError(t, err)
		wg.Go(func() {
			if _, err := b.acquire(t.Context(), quiet); err != nil {
				t.Error("another service's queue is full: ", err)
			}
		})
		synctest.Wait()
		p.done(serverAnswered)
		wg.Wait()
	})
}

// failingFor answers 500 to everybody who asks for one of the models.
func failingFor(models ...string) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, _ *http.Request, model string) bool {
		for _, m := range models {
			if m == model {
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = io.WriteString(w, `{"error":{"message":"no"}}`)
				return true
			}
		}
		return false
	}
}

func TestAServerThatAnswers500LeavesTheTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	bad := newUpstream(t)
	bad.behave(failingFor(w.stable.ServedName()))
	w.store.change(func(s *store) {
		second := s.endpoints[0]
		second.URL = bad.server.URL
		s.endpoints = append(s.endpoints, second)
	})
	w.await(func() bool { return len(w.servers()) == 2 })
	failures := 0
	for i := range 40 {
		if w.ask(chatPath, chat(fmt.Sprint(i), 0), "").Code != http.StatusOK {
			failures++
		}
	}
	require.Equal(t, tooManyFailures, failures)
	bad.behave(nil)
	w.clock.move(time.Second)
	before := len(bad.asked())
	for i := range 10 {
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat(fmt.Sprint(i), 0), "").Code)
	}
	require.GreaterOrEqual(t, len(bad.asked())-before, 5, "it has its half again")
}

// A stable side of which every server is out sends nothing to the canary: the canary gets what it was allowed.
func TestAnEjectedStableSendsNothingToTheCanary(t *testing.T) {
	t.Parallel()
	for _, share := range []lifecycle.BasisPoints{0, 500} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.rollout(share)
			w.upstream.behave(failingFor(w.stable.ServedName()))
			const n = 300
			for i := range n {
				w.ask(chatPath, chat(fmt.Sprint("words ", i), 0), "")
			}
			canary := 0
			for _, model := range w.upstream.asked() {
				if model == w.canary.ServedName() {
					canary++
				}
			}
			require.LessOrEqual(t, canary*10_000, n*int(share))
			require.Greater(t, len(w.upstream.asked())-canary, n*8/10, "stable is always tried")
		})
	}
}

// Both releases share one server. A canary that breaks on it takes nothing from stable.
func TestACanarysFailuresDoNotEjectStable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(5000)
	w.upstream.behave(failingFor(w.canary.ServedName()))
	for i := range 200 {
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat(fmt.Sprint("words ", i), 0), "").Code)
	}
	b := w.gateway.balancer
	b.mu.Lock()
	defer b.mu.Unlock()
	require.True(t, b.health[patient{w.upstream.server.URL, w.canary.ID()}].isOut)
	require.Nil(t, b.health[patient{w.upstream.server.URL, w.stable.ID()}])
}

// A client that leaves says nothing about the server.
func TestWhoLeavesBlamesNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	arrived := make(chan struct{}, 16)
	w.upstream.behave(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		arrived <- struct{}{}
		<-r.Context().Done()
		return true
	})
	address := w.listen()
	for range 2 * tooManyFailures {
		ctx, leave := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+chatPath, strings.NewReader(chat("hi", 0)))
		require.NoError(t, err)
		go func() { <-arrived; leave() }()
		_, err = http.DefaultClient.Do(r)
		require.Error(t, err)
	}
	w.await(func() bool { return w.upstream.inUse(w) == 0 })
	w.gateway.balancer.mu.Lock()
	defer w.gateway.balancer.mu.Unlock()
	require.Empty(t, w.gateway.balancer.health)
}
