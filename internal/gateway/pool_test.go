package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
	"github.com/refitml/refit/internal/rollout"
)

// controller holds a rollout of the canary in a registry of its own.
type controller struct {
	t        *testing.T
	registry *registry.Registry
	claim    lifecycle.Claim
	canary   lifecycle.Digest
}

var tester = lifecycle.Actor{Name: "test", Via: "test"}

// newController declares the service docs with two releases and begins a rollout of the second.
func newController(t *testing.T, stable, canary lifecycle.Release) *controller {
	t.Helper()
	c := &controller{t: t, registry: registrytest.New(t).Registry}
	ctx := t.Context()
	_, err := c.registry.ApplyService(ctx, registrytest.Service("docs"), tester)
	require.NoError(t, err)
	first, err := c.registry.AddRelease(ctx, stable, tester)
	require.NoError(t, err)
	c.canary, err = c.registry.AddRelease(ctx, canary, tester)
	require.NoError(t, err)
	c.claim, err = c.registry.TakeClaim(ctx, "docs", lifecycle.PromotionLoop,
		lifecycle.Owner{Namespace: "refit", WorkflowID: "promote/docs", FirstRunID: "run-1"}, tester)
	require.NoError(t, err)
	_, err = c.registry.SetFirstStable(ctx, registry.FirstStable{Service: "docs", Fence: c.claim.Fence, Release: first, By: tester})
	require.NoError(t, err)
	require.NoError(t, c.registry.StartRollout(ctx, registry.RolloutStart{
		Service: "docs", Fence: c.claim.Fence, ID: c.claim.Owner.FirstRunID, Release: c.canary, Owner: c.claim.Owner, By: tester,
	}))
	return c
}

func (c *controller) share(share lifecycle.BasisPoints) {
	c.t.Helper()
	_, err := c.registry.SetShare(c.t.Context(), registry.ShareChange{
		Service: "docs", Fence: c.claim.Fence, Rollout: c.claim.Owner.FirstRunID, Share: share, By: tester, Reason: "test",
	})
	require.NoError(c.t, err)
}

func (c *controller) renew() {
	_, err := c.registry.RenewLease(c.t.Context(), "docs", c.claim.Fence)
	require.NoError(c.t, err)
}

func TestTheRegistryKeepsThePoolAsTheRoomOfThoughtDoes(t *testing.T) {
	t.Parallel()
	c := newController(t, registrytest.Release("docs", 1), registrytest.Release("docs", 2))
	c.share(9000)
	store := Record{c.registry}
	var pool rollout.Pool
	steps := 0
	rapid.Check(t, func(t *rapid.T) {
		d := rollout.Draw{
			Gateway: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "gateway"), Epoch: pool.Epoch,
			Cap: rapid.Int64Range(0, 400_000).Draw(t, "cap"), Base: rapid.Int64Range(0, 300_000).Draw(t, "base"),
			Earned: rapid.Int64Range(-1, 200_000).Draw(t, "earned") + int64(steps)*20_000,
			Given:  rapid.Int64Range(0, 10).Draw(t, "given") + int64(steps)/4,
			Held:   rapid.Int64Range(0, 15).Draw(t, "held"), Want: rapid.Int64Range(0, 30).Draw(t, "want"),
		}
		steps++
		got, err := store.DrawCredit(t.Context(), "docs", c.claim.Owner.FirstRunID, d)
		require.NoError(t, err)
		require.Equal(t, pool.Draw(d), got, "%+v", d)
		if steps%30 == 0 { // a step down, and up again
			c.share(100)
			pool.Void()
			c.share(9000)
			d.Epoch = pool.Epoch - 1
			got, err := store.DrawCredit(t.Context(), "docs", c.claim.Owner.FirstRunID, d)
			require.NoError(t, err)
			require.Equal(t, rollout.Grant{Epoch: pool.Epoch}, got)
		}
	})
	_, err := store.DrawCredit(t.Context(), "docs", "another rollout", rollout.Draw{})
	require.True(t, lifecycle.Is(err, lifecycle.NotFound))
}

// fleet is several gateways on one real registry, in front of one model server.
type fleet struct {
	*world
	*controller
	members []*world
	started int
}

func newFleet(t *testing.T, gateways int) *fleet {
	t.Helper()
	w := newWorld(t, nil)
	w.stop() // it made the releases and the model server; its gateway is on a registry in memory
	f := &fleet{world: w, controller: newController(t, w.stable, w.canary), members: make([]*world, gateways)}
	for _, e := range w.store.endpoints {
		require.NoError(t, f.registry.SetEndpoints(t.Context(), "docs", e.Release, []lifecycle.Endpoint{e}))
	}
	for i := range gateways {
		f.begin(i)
	}
	return f
}

// begin starts a gateway anew, as after a crash: nothing of it is left.
func (f *fleet) begin(i int) {
	if f.members[i] != nil {
		f.members[i].stop()
	}
	f.started++
	m := *f.world
	m.config.ID, m.config.StateDir = fmt.Sprint("gateway-", f.started), f.world.t.TempDir()
	m.config.Store, m.config.Now = Record{f.registry}, time.Now
	m.config.Refresh = time.Second
	m.start()
	f.members[i] = &m
}

// inForceEverywhere waits until every gateway has a share in force.
func (f *fleet) inForceEverywhere(share lifecycle.BasisPoints) {
	f.world.t.Helper()
	renewed := time.Time{}
	require.Eventually(f.world.t, func() bool {
		if time.Since(renewed) > 200*time.Millisecond { // a gateway must see the lease change
			f.renew()
			renewed = time.Now()
		}
		for _, m := range f.members {
			if m.gateway.lane("docs") == nil || m.inForce() != share {
				return false
			}
		}
		return true
	}, 30*time.Second, 5*time.Millisecond)
	for _, m := range f.members {
		m.settled()
	}
}

func TestGatewaysThatShareARegistryKeepOneBound(t *testing.T) {
	t.Parallel()
	const gateways = 5
	f := newFleet(t, gateways)
	random := rand.New(rand.NewPCG(5, 6))
	var accesses []rollout.Access
	canaries, turns, tokens := 0, map[int]int{}, map[int]string{}
	ask := func(share lifecycle.BasisPoints, n int) {
		t.Helper()
		for i := range n {
			if i%20 == 0 { // however slow this machine is, the lease is held and what was earned is drawn
				f.renew()
				for _, m := range f.members {
					m.settled()
				}
			}
			m := f.members[random.IntN(gateways)] // clients hand back their token, and come to any gateway
			talk := random.IntN(400)
			if turns[talk] > 3 {
				turns[talk], tokens[talk] = 0, ""
			}
			before := len(f.upstream.asked())
			r := m.ask(chatPath, chat(fmt.Sprint("talk ", talk, " ", canaries), turns[talk]), tokens[talk])
			require.Equal(t, http.StatusOK, r.Code, r.Body.String())
			turns[talk]++
			tokens[talk] = r.Header().Get(headerConversation)
			served := f.upstream.asked()[before:]
			require.Len(t, served, 1)
			a := rollout.Access{Canary: served[0] == f.world.canary.ServedName(), Share: share}
			if a.Canary {
				canaries++
			}
			accesses = append(accesses, a)
		}
	}
	f.share(2500)
	f.inForceEverywhere(2500)
	ask(2500, sized(500, 5000))
	began := canaries
	require.Positive(t, began)
	f.begin(0) // a crash
	f.inForceEverywhere(2500)
	ask(2500, sized(300, 3000))
	require.Greater(t, canaries, began, "it goes on without the units that were lost")
	f.share(5000)
	f.inForceEverywhere(5000)
	ask(5000, sized(300, 3000))
	f.share(100) // down: all credit is gone
	f.inForceEverywhere(100)
	before := canaries
	ask(100, 100)
	require.LessOrEqual(t, canaries, before+1)

	audit := rollout.Audit(accesses, 0)
	require.Zero(t, audit.Prefix, "every prefix, counted at the model server")
	bound := rollout.Bound(lifecycle.Exposure{Cap: 60, Threshold: 12}, f.started)
	require.LessOrEqual(t, audit.Window, bound+1, "every window")
	t.Logf("%d requests, %d on the canary, allowed %.0f, worst window %.1f of %.1f", audit.Requests, audit.Canary, audit.Allowed, audit.Window, bound)
	require.Greater(t, float64(audit.Canary), audit.Allowed*0.6)
}

func TestWithoutTheRegistryNothingIsGranted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9000)
	for i := range 30 {
		w.ask(chatPath, chat(fmt.Sprint("a", i), 0), "")
	}
	lane := w.gateway.lane("docs")
	credit := func() float64 {
		lane.mu.Lock()
		defer lane.mu.Unlock()
		return lane.exposure.splitter.Credit()
	}
	had := int(credit())
	require.Positive(t, had)
	w.store.change(func(s *store) { s.down = true })
	w.ask(chatPath, chat("notices", 0), "")
	before := len(w.upstream.asked())
	for i := range 60 {
		w.ask(chatPath, chat(fmt.Sprint("b", i), 0), "")
	}
	require.NotContains(t, w.upstream.asked()[before:], w.canary.ServedName(), "nobody new goes to the canary")
	for i := range 30 { // who is there goes on, for as long as there are units
		w.ask(chatPath, chat(fmt.Sprint("a", i), 1), "")
	}
	left := 0
	for _, model := range w.upstream.asked()[before:] {
		if model == w.canary.ServedName() {
			left++
		}
	}
	require.LessOrEqual(t, left, had)
}

func TestConversationsScatteredOverTwentyGatewaysStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(5000)
	w.config.Refresh, w.config.ReportAll = time.Second, time.Second // of the others
	members := []*world{w}
	for len(members) < 20 {
		members = append(members, w.second())
	}
	random := rand.New(rand.NewPCG(8, 9))
	type talk struct {
		words        string
		turns        int
		began, moved bool // on the canary
	}
	var open []*talk
	var accesses []rollout.Access
	canaries, went := 0, 0
	ask := func(c *talk) {
		m := members[random.IntN(len(members))]
		r := m.ask(chatPath, chat(c.words, c.turns), "") // nothing is handed back
		require.Equal(t, http.StatusOK, r.Code)
		canary := r.release() == string(w.canary.ID())
		accesses = append(accesses, rollout.Access{Canary: canary, Share: 5000})
		last := w.captured.last(t)
		switch {
		case c.turns == 0:
			c.began = canary
		case canary:
			require.True(t, c.began, "begun on stable it never comes to the canary")
			went++
		case c.began:
			require.True(t, c.moved || last.Moved, "begun on the canary it goes on there, or is moved and counted")
			c.moved = true
		}
		if canary && c.turns == 0 {
			canaries++
			require.Eventually(t, func() bool { // it is written behind
				w.store.mu.Lock()
				defer w.store.mu.Unlock()
				return w.store.conversations["rollout-1/"+last.Conversation]
			}, 10*time.Second, time.Millisecond)
		}
		c.turns++
	}
	for i := range sized(900, 9000) {
		if len(open) < 20 {
			open = append(open, &talk{words: fmt.Sprint("scattered ", i)})
		}
		at := random.IntN(len(open))
		ask(open[at])
		if open[at].turns > 5 {
			open = append(open[:at], open[at+1:]...)
		}
	}
	require.Positive(t, canaries)
	require.Greater(t, went, canaries, "conversations go on at gateways that did not begin them")
	require.Zero(t, rollout.Audit(accesses, 0).Prefix)
}

func TestAMovedConversationIsOnStableAtEveryGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9000)
	words, token := w.canaryTalk()
	other, third := w.second(), w.second()
	for i := range 40 {
		other.ask(chatPath, chat(fmt.Sprint("other ", i), 0), "")
		third.ask(chatPath, chat(fmt.Sprint("third ", i), 0), "")
	}
	require.Equal(t, string(w.canary.ID()), other.ask(chatPath, chat(words, 1), token).release())
	lane := w.gateway.lane("docs") // its units are gone and no others come, so the conversation is moved
	w.store.change(func(s *store) { s.dry = true })
	for range cap(lane.draw) + 1 { // a draw that was under way is over
		lane.draw <- struct{}{}
	}
	lane.mu.Lock()
	lane.exposure.splitter.Reset()
	lane.mu.Unlock()
	moved := w.ask(chatPath, chat(words, 1), token)
	require.Equal(t, string(w.stable.ID()), moved.release())
	last := w.captured.last(t)
	require.True(t, last.Moved)
	t.Run("by the token that it got then, where it is remembered on the canary", func(t *testing.T) {
		require.Equal(t, string(w.stable.ID()), other.ask(chatPath, chat(words, 2), moved.Header().Get(headerConversation)).release())
	})
	t.Run("by the registry", func(t *testing.T) {
		require.Eventually(t, func() bool {
			w.store.mu.Lock()
			defer w.store.mu.Unlock()
			on, known := w.store.conversations["rollout-1/"+last.Conversation]
			return known && !on
		}, 10*time.Second, time.Millisecond)
		require.Equal(t, string(w.stable.ID()), third.ask(chatPath, chat(words, 2), "").release())
	})
}
