package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// second starts another gateway beside the world's, on the same registry and key.
func (w *world) second() *world {
	w.t.Helper()
	other := *w
	other.config.ID, other.config.StateDir = "gateway-2", w.t.TempDir()
	other.start()
	other.awaitLease()
	require.Eventually(w.t, func() bool { // ready, and with a lease that it saw change
		other.store.change(func(s *store) { s.route.Lease++ })
		return other.inForce() == w.inForce()
	}, 10*time.Second, time.Millisecond)
	return &other
}

// canaryTalk opens conversations until one is on the canary, and gives its words and token.
func (w *world) canaryTalk() (words, token string) {
	w.t.Helper()
	for i := range 200 {
		words = fmt.Sprint("talk ", i)
		if r := w.ask(chatPath, chat(words, 0), ""); r.release() == string(w.canary.ID()) {
			return words, r.Header().Get(headerConversation)
		}
	}
	w.t.Fatal("no conversation came to the canary")
	return "", ""
}

func TestConversationGoesOnAtAnotherGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9000)
	words, token := w.canaryTalk()
	other := w.second()
	for i := range 40 { // credit for it
		other.ask(chatPath, chat(fmt.Sprint("other ", i), 0), "")
	}

	t.Run("by its token", func(t *testing.T) {
		r := other.ask(chatPath, chat(words, 1), token)
		require.Equal(t, string(w.canary.ID()), r.release())
	})
	t.Run("a forged token is none", func(t *testing.T) {
		forged := strings.Repeat("A", len(token))
		require.Equal(t, string(w.stable.ID()), other.ask(chatPath, chat("unknown to all", 1), forged).release())
	})
	t.Run("by the registry", func(t *testing.T) {
		third := w.second()
		for i := range 40 {
			third.ask(chatPath, chat(fmt.Sprint("third ", i), 0), "")
		}
		require.Eventually(t, func() bool { // it is written behind
			w.store.mu.Lock()
			defer w.store.mu.Unlock()
			return len(w.store.conversations) > 0
		}, 10*time.Second, time.Millisecond)
		require.Equal(t, string(w.canary.ID()), third.ask(chatPath, chat(words, 1), "").release())
		require.Equal(t, string(w.stable.ID()), third.ask(chatPath, chat("begun by nobody", 1), "").release())
	})
	t.Run("without an answer in time it goes to stable, for good", func(t *testing.T) {
		fourth := w.second()
		for i := range 40 {
			fourth.ask(chatPath, chat(fmt.Sprint("fourth ", i), 0), "")
		}
		w.store.change(func(s *store) { s.slow = make(chan struct{}) })
		require.Equal(t, string(w.stable.ID()), fourth.ask(chatPath, chat(words, 1), "").release())
		w.store.change(func(s *store) { s.slow = nil })
		require.Equal(t, string(w.stable.ID()), fourth.ask(chatPath, chat(words, 2), "").release())
	})
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := newSigner(bytes.Repeat([]byte("k"), 32))
	sealed := token{hash: conversationHash{1, 2, 3}, tag: s.tag("rollout-1")}
	text := s.seal("docs", sealed)
	got, ok := s.open("docs", text)
	require.True(t, ok)
	require.Equal(t, sealed, got)
	require.NotEqual(t, s.tag("rollout-1"), s.tag("rollout-2"))

	_, ok = s.open("other", text)
	require.False(t, ok, "a token is one service's")
	_, ok = newSigner(bytes.Repeat([]byte("x"), 32)).open("docs", text)
	require.False(t, ok, "another key")
	for i := range len(text) {
		changed := []byte(text)
		changed[i] ^= 4
		if reopened, ok := s.open("docs", string(changed)); ok {
			require.Equal(t, sealed, reopened, "position %d", i) // unused bits of the last character
		}
	}
}

func FuzzOpenToken(f *testing.F) {
	s := newSigner(bytes.Repeat([]byte("k"), 32))
	f.Add(s.seal("docs", token{}))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if got, ok := s.open("docs", text); ok {
			require.True(t, strings.HasPrefix(text, s.seal("docs", got)[:50]), "only what was sealed opens")
		}
	})
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"":                       "int-1",
		"mine":                   "mine",
		"refit-warm-up":          "int-1",
		"Refit-Warm-Up":          "int-1",
		"two words":              "int-1",
		strings.Repeat("x", 129): "int-1",
	} {
		require.Equal(t, want, requestID(http.Header{headerRequest: {given}}, "int-1"), given)
	}
}

func places(n int, capacity int) *bundle {
	var list []lifecycle.Endpoint
	for i := range n {
		list = append(list, lifecycle.Endpoint{URL: fmt.Sprint("http://", i), Capacity: capacity, Ready: true})
	}
	b := &bundle{}
	b.setServers(list)
	return b
}

func TestBalancerGoesRound(t *testing.T) {
	t.Parallel()
	b := newBalancer(time.Second, 4, time.Second, time.Now)
	used := map[string]int{}
	for range 30 {
		p, err := b.acquire(t.Context(), places(3, 1))
		require.NoError(t, err)
		used[p.URL]++
		p.done(serverAnswered)
	}
	require.Equal(t, map[string]int{"http://0": 10, "http://1": 10, "http://2": 10}, used)
}

func TestBalancerKeepsCapacityAndQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(2*time.Second, 1, time.Second, time.Now)
		server := places(1, 2)
		first, err := b.acquire(t.Context(), server)
		require.NoError(t, err)
		_, err = b.acquire(t.Context(), server)
		require.NoError(t, err)

		var wg sync.WaitGroup
		wg.Go(func() { // waits, and gets the place that is given back
			p, err := b.acquire(t.Context(), server)
			if err == nil {
				p.done(serverAnswered)
			} else {
				t.Error(err)
			}
		})
		synctest.Wait()
		_, err = b.acquire(t.Context(), server)
		require.ErrorIs(t, err, errFull, "the queue holds one")
		first.done(serverAnswered)
		first.done(serverAnswered) // giving back twice changes nothing
		wg.Wait()

		again, err := b.acquire(t.Context(), server)
		require.NoError(t, err)
		began := time.Now()
		_, err = b.acquire(t.Context(), server)
		require.ErrorIs(t, err, errFull)
		require.Equal(t, 2*time.Second, time.Since(began), "the wait is bounded")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = b.acquire(ctx, server)
		require.ErrorIs(t, err, context.Canceled)
		again.done(serverAnswered)
		require.Equal(t, 1, b.servers["http://0"].inUse)
		require.Empty(t, b.waiters)
	})
}

func TestBalancerLeavesUnreachableServersAlone(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	b := newBalancer(time.Second, 4, time.Second, c.Now)
	p, err := b.acquire(t.Context(), places(2, 8))
	require.NoError(t, err)
	bad := p.URL
	p.done(serverAway)
	for range 10 {
		p, err := b.acquire(t.Context(), places(2, 8))
		require.NoError(t, err)
		require.NotEqual(t, bad, p.URL)
		p.done(serverAnswered)
	}
	other, err := b.acquire(t.Context(), places(2, 8))
	require.NoError(t, err)
	other.done(serverAway)
	_, err = b.acquire(t.Context(), places(2, 8))
	require.NoError(t, err, "when all are unreachable they are still tried")
	c.move(2 * time.Second)
	seen := map[string]bool{}
	for range 4 {
		p, err := b.acquire(t.Context(), places(2, 8))
		require.NoError(t, err)
		seen[p.URL] = true
	}
	require.True(t, seen[bad])

	_, err = b.acquire(t.Context(), &bundle{})
	require.ErrorIs(t, err, errNone)
	_, err = b.acquire(t.Context(), places(1, 1), "http://0")
	require.ErrorIs(t, err, errNone, "a server that was tried is not tried again")
}

func TestStableIsTriedAtAnotherServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.store.change(func(s *store) {
		dead := s.endpoints[0]
		dead.URL = "http://127.0.0.1:1"
		s.endpoints = append(s.endpoints, dead)
	})
	require.Eventually(t, func() bool { return len(w.servers()) == 2 }, 10*time.Second, time.Millisecond)
	for i := range 10 {
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat(fmt.Sprint(i), 0), "").Code)
		w.clock.move(2 * time.Second) // the dead one is tried again and again
	}
}

func TestFullServersAnswer503(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.QueueTime = 10 * time.Millisecond })
	w.store.change(func(s *store) { s.endpoints[0].Capacity = 1 })
	arrived, free := make(chan struct{}, 8), make(chan struct{})
	w.upstream.behave(func(http.ResponseWriter, *http.Request, string) bool {
		arrived <- struct{}{}
		<-free
		return false
	})
	require.Eventually(t, func() bool { return w.servers()[0].Capacity == 1 }, 10*time.Second, time.Millisecond)
	var wg sync.WaitGroup
	wg.Go(func() { w.ask(chatPath, chat("one", 0), "") })
	<-arrived
	r := w.ask(chatPath, chat("two", 0), "")
	require.Equal(t, http.StatusServiceUnavailable, r.Code)
	require.Equal(t, "1", r.Header().Get("Retry-After"))
	close(free)
	wg.Wait()
}
