package gateway

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// counted is the number of requests per side as the model server saw them, against what was allowed.
type counted struct {
	t       *testing.T
	w       *world
	allowed float64 // Σp
	canary  float64
	seen    int
	low     float64 // least of canary-allowed so far
	worst   float64 // highest window over its Σp
}

// after takes the requests that the model server got since the last look: one request was sent meanwhile with
// the given share allowed.
func (c *counted) after(share lifecycle.BasisPoints) {
	c.t.Helper()
	asked := c.w.upstream.asked()
	c.allowed += share.Fraction()
	for _, model := range asked[c.seen:] {
		if model == c.w.canary.ServedName() {
			c.canary++
		}
	}
	c.seen = len(asked)
	require.LessOrEqual(c.t, c.canary, c.allowed+1e-9, "every prefix is at most Σp")
	c.worst = max(c.worst, c.canary-c.allowed-c.low)
	c.low = min(c.low, c.canary-c.allowed)
}

// traffic is many conversations at once with a heavy tail of lengths. Half of them hand their token back.
type traffic struct {
	w       *world
	random  *rand.Rand
	running []*talk
	begun   int
}

type talk struct {
	words string
	turns int
	left  int
	token string
	keeps bool
}

// next sends one request of some conversation.
func (f *traffic) next() {
	f.w.t.Helper()
	if len(f.running) < 20 || f.random.Float64() < 0.1 {
		f.begun++
		length := int(math.Min(400, math.Pow(f.random.Float64(), -1/1.2))) // Pareto
		f.running = append(f.running, &talk{words: fmt.Sprint("question ", f.begun), left: length, keeps: f.begun%2 == 0})
	}
	i := f.random.IntN(len(f.running))
	c := f.running[i]
	token := ""
	if c.keeps {
		token = c.token
	}
	r := f.w.ask(chatPath, chat(c.words, min(c.turns, 3)), token)
	require.Equal(f.w.t, http.StatusOK, r.Code, r.Body.String())
	c.token = r.Header().Get(headerConversation)
	c.turns++
	if c.left--; c.left <= 0 {
		f.running = append(f.running[:i], f.running[i+1:]...)
	}
}

func TestExposureIsBoundedAtTheModelServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	cap := w.store.service.Rollout.Exposure.Cap
	count := &counted{t: t, w: w}
	load := &traffic{w: w, random: rand.New(rand.NewPCG(1, 2))}
	w.rollout(500)
	run := func(requests int, share lifecycle.BasisPoints) float64 {
		before := count.canary
		for range requests {
			load.next()
			count.after(share)
		}
		return (count.canary - before) / (float64(requests) * share.Fraction())
	}
	run(1500, 500) // finds its level
	require.Greater(t, run(3000, 500), 0.9, "5% allowed is nearly reached")
	w.route(func(r *lifecycle.Route) { r.Share = 2500 })
	require.Greater(t, run(1500, 2500), 0.8)
	w.route(func(r *lifecycle.Route) { r.Share = 100 })
	run(300, 100)

	w.stop() // a restart begins without credit; what is allowed goes on
	w.start()
	w.awaitLease()
	w.route(func(r *lifecycle.Route) { r.Share = 5000 })
	require.Eventually(t, func() bool { return w.inForce() == 5000 }, 10*time.Second, time.Millisecond)
	count.low = count.canary - count.allowed // windows that span the restart start anew: nothing is lent over it
	run(500, 5000)
	require.LessOrEqual(t, count.worst, cap+1e-9, "every window is at most Σp + B")
	require.Greater(t, count.worst, 1.0, "the test saw real windows")
}

func TestConversationsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(5000)
	onCanary, onStable := 0, 0
	for i := range 60 {
		first := w.ask(chatPath, chat(fmt.Sprint("words ", i), 0), "")
		i1 := w.captured.last(t)
		second := w.ask(chatPath, chat(fmt.Sprint("words ", i), 1), first.Header().Get(headerConversation))
		i2 := w.captured.last(t)
		require.Equal(t, i1.Conversation, i2.Conversation)
		if i2.Moved {
			continue
		}
		require.Equal(t, first.release(), second.release())
		require.Equal(t, i1.Coin, i2.Coin)
		if i1.Canary {
			onCanary++
			require.True(t, i1.Coin)
			require.Positive(t, i1.Propensity)
			require.Equal(t, "rollout-1", i1.Rollout)
		} else {
			onStable++
		}
	}
	require.Positive(t, onCanary)
	require.Positive(t, onStable)
}

func TestLeaseThatIsNotRenewedEndsTheShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9999)
	lane := w.gateway.lane("docs")
	for i := range 40 {
		w.ask(chatPath, chat(fmt.Sprint("a", i), 0), "")
	}
	require.Contains(t, w.upstream.asked(), w.canary.ServedName())

	w.clock.move(lifecycle.LeaseTime - time.Millisecond)
	require.Equal(t, lifecycle.BasisPoints(9999), w.inForce())
	w.store.change(func(s *store) { s.route.Lease++ }) // renewed in time
	require.Eventually(t, func() bool {
		lane.mu.Lock()
		defer lane.mu.Unlock()
		return lane.route.Lease == w.store.route.Lease
	}, 10*time.Second, time.Millisecond)
	w.clock.move(lifecycle.LeaseTime - time.Millisecond)
	w.ask(chatPath, chat("b", 0), "")
	require.Equal(t, lifecycle.BasisPoints(9999), w.inForce())

	before := len(w.upstream.asked())
	w.clock.move(time.Millisecond)
	for i := range 60 {
		w.ask(chatPath, chat(fmt.Sprint("a", i), 1), "") // also conversations that were on the canary
	}
	require.NotContains(t, w.upstream.asked()[before:], w.canary.ServedName(), "all users are on stable")
	require.Zero(t, w.inForce())

	w.store.change(func(s *store) { s.route.Lease++ })
	require.Eventually(t, func() bool { return w.inForce() == 9999 }, 10*time.Second, time.Millisecond)
	before = len(w.upstream.asked())
	w.ask(chatPath, chat("c", 0), "")
	require.NotContains(t, w.upstream.asked()[before:], w.canary.ServedName(), "after a lapse credit begins at 0")
}

func TestGatewayThatNeverSawTheLeaseChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9999)
	w.stop()
	w.start() // the controller is gone: the lease it finds may be a day old
	w.awaitLease()
	for i := range 60 {
		require.Equal(t, string(w.stable.ID()), w.ask(chatPath, chat(fmt.Sprint("a", i), 0), "").release())
	}
}

// failing makes the model server fail for one release only.
func failing(name string, how func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, _ *http.Request, model string) bool {
		if model != name {
			return false
		}
		how(w)
		return true
	}
}

func TestStableRescuesTheCanary(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(http.ResponseWriter){
		"a server error":         func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"the release is unknown": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"it is full":             func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"the connection breaks":  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"nonsense":               func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.rollout(9999)
			w.upstream.behave(failing(w.canary.ServedName(), how))
			rescued := 0
			for i := range 60 {
				r := w.ask(chatPath, chat(fmt.Sprint("a", i), 0), "")
				require.Equal(t, http.StatusOK, r.Code)
				require.Equal(t, string(w.stable.ID()), r.release(), "the header names who answered")
				if last := w.captured.last(t); last.Rescued {
					rescued++
					require.True(t, last.Canary)
					require.Equal(t, w.canary.ID(), last.Release, "the failure is the canary's")
					require.Equal(t, w.stable.ID(), last.Used.RescuedBy, "and it says who answered")
					require.Equal(t, "error", last.Outcome)
				}
			}
			require.Positive(t, rescued)
		})
	}
}

func TestCanaryNeverRescuesStable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(100) // no new conversation has credit for the canary
	w.upstream.behave(failing(w.stable.ServedName(), func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }))
	for i := range 20 {
		require.Equal(t, http.StatusServiceUnavailable, w.ask(chatPath, chat(fmt.Sprint(i), 0), "").Code)
	}
	require.NotContains(t, w.upstream.asked(), w.canary.ServedName())
}

func TestFaultOfTheRequestIsNotRescued(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9999)
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.WriteHeader(http.StatusBadRequest)
		return true
	})
	for i := range 60 {
		require.Equal(t, http.StatusBadRequest, w.ask(chatPath, chat(fmt.Sprint(i), 0), "").Code)
		require.False(t, w.captured.last(t).Rescued)
	}
	require.Len(t, w.upstream.asked(), 60)
}

func TestStableGoesOnWithoutTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	file := filepath.Join(w.config.StateDir, "stable-docs.json")
	require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, 10*time.Second, time.Millisecond)
	w.store.change(func(s *store) { s.down = true })
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("hello", 0), "").Code)

	w.stop()
	w.start()
	require.Eventually(t, func() bool {
		return w.ask(chatPath, chat("hello", 0), "").release() == string(w.stable.ID())
	}, 10*time.Second, time.Millisecond, "a restart without the registry serves the last stable release")

	w.store.change(func(s *store) { s.down = false; s.route.Generation++ })
	w.awaitGeneration(2)
}

func TestDiskHoldsNoCanary(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9999)
	state, err := w.gateway.shelf.get("docs")
	require.NoError(t, err)
	require.Equal(t, w.stable.ID(), state.Route.Stable)
	require.Empty(t, state.Route.Canary)
	require.Empty(t, state.Route.BandKey)
	require.Zero(t, state.Route.Share)

	state.Route = w.store.route
	require.NoError(t, w.gateway.shelf.put(state))
	raw, err := os.ReadFile(w.gateway.shelf.path("docs"))
	require.NoError(t, err)
	require.NotContains(t, string(raw), "rollout-1")
	require.NotContains(t, string(raw), string(w.canary.ID()))
	for name, content := range map[string]string{
		"torn":            string(raw[:len(raw)/2]),
		"another release": `{"version":1,"service":{"service":"docs"},"route":{"service":"docs","stable":"00"},"release":{"service":"docs"}}`,
	} {
		dir := shelf{dir: t.TempDir()}
		require.NoError(t, os.WriteFile(dir.path("docs"), []byte(content), 0o600))
		_, err = dir.get("docs")
		require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%s: %v", name, err)
	}
}

func TestReleaseThatIsNotReadyGetsNoTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	absent := lifecycle.Release{Service: "docs", Model: lifecycle.DigestOf([]byte("absent"))}
	w.store.change(func(s *store) { s.releases[absent.ID()] = absent }) // no server has it
	w.route(func(r *lifecycle.Route) { r.Canary, r.Rollout, r.Share = absent.ID(), "rollout-1", 9999 })
	for i := range 40 {
		require.Equal(t, string(w.stable.ID()), w.ask(chatPath, chat(fmt.Sprint(i), 0), "").release())
	}

	w.store.change(func(s *store) {
		s.route.Stable, s.route.Canary, s.route.Rollout, s.route.Share = absent.ID(), "", "", 0
		s.route.Generation++
	})
	for range 20 { // many reports later the old stable still serves, and the new route is not called applied
		r := <-w.store.reports
		require.Less(t, r.Generation, w.store.route.Generation)
		require.Equal(t, string(w.stable.ID()), w.ask(chatPath, chat("x", 0), "").release())
	}
	w.store.change(func(s *store) {
		s.endpoints = append(s.endpoints, lifecycle.Endpoint{
			Release: absent.ID(), URL: w.upstream.server.URL, Model: absent.ServedName(), Capacity: 4, Ready: true,
		})
	})
	w.awaitGeneration(w.store.route.Generation)
	require.Equal(t, string(absent.ID()), w.ask(chatPath, chat("x", 0), "").release())
}

func TestOlderRouteIsNeverApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9999)
	newest := w.store.route.Generation
	w.route(func(r *lifecycle.Route) { r.Canary, r.Rollout, r.Share = "", "", 0 }) // rolled back
	old := w.store.route
	old.Canary, old.Rollout, old.Share, old.Generation, old.Lease = w.canary.ID(), "rollout-1", 9999, newest, 99
	w.gateway.lane("docs").see(old)
	for i := range 40 {
		require.Equal(t, string(w.stable.ID()), w.ask(chatPath, chat(fmt.Sprint(i), 0), "").release())
	}
	require.Equal(t, newest+1, w.gateway.lane("docs").snapshot().Generation)
}
