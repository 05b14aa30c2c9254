package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
)

// user is one request as a naive splitter sees it.
type user struct {
	id      int    // of the account
	words   string // that the conversation began with
	turns   int    // of the assistant so far
	request int    // its number
	pods    []bool // round robin over the model servers; true: the canary's
	fails   bool   // what serves stable fails it at the first try
}

// old is one way in which a canary that was meant to get 5% got far more.
type old struct {
	name  string
	users func(i int, random *rand.Rand) (id int, words string, turns int)
	// naive says how many requests for the canary the usual splitter makes of one user request.
	naive func(u user) int
	// fails is the part of stable's answers that fail.
	fails float64
	// pods are the model servers of stable and canary.
	stablePods, canaryPods int
}

func hundredth(id int) bool { return id%100 < 5 }

func oldFailures() []old {
	anybody := func(i int, random *rand.Rand) (int, string, int) {
		return random.IntN(100_000), fmt.Sprint("question ", i), 0
	}
	podRatio := func(u user) int { return count(u.pods[u.request%len(u.pods)]) }
	return []old{
		{name: "the share is the ratio of pods", users: anybody, naive: podRatio, stablePods: 3, canaryPods: 2},
		{name: "stable was scaled down and the ratio of pods grew", users: anybody, naive: podRatio, stablePods: 1, canaryPods: 1},
		{
			name: "user IDs in strides, taken modulo a hundred",
			users: func(i int, random *rand.Rand) (int, string, int) {
				return 50 * random.IntN(2000), fmt.Sprint("question ", i), 0
			},
			naive: func(u user) int { return count(hundredth(u.id)) },
		},
		{
			name: "stable fails, and the retry goes to whoever is left",
			// 5% at random, and all that stable failed on top.
			users: anybody, naive: func(u user) int { return count(u.id%20 == 0) + count(u.id%20 != 0 && u.fails) }, fails: 0.4,
		},
		{
			name: "one heavy user is among the 5%",
			users: func(i int, random *rand.Rand) (int, string, int) {
				if random.Float64() < 0.4 {
					return 100_003, "the same long conversation", i % 50
				}
				return random.IntN(100_000), fmt.Sprint("question ", i), 0
			},
			naive: func(u user) int { return count(hundredth(u.id)) },
		},
		{
			name: "everybody comes under one user, which is among the 5%",
			users: func(i int, _ *rand.Rand) (int, string, int) {
				return 3, fmt.Sprint("question ", i), 0
			},
			naive: func(u user) int { return count(hundredth(u.id)) },
		},
		{
			name: "long conversations stick to the canary, short ones end",
			users: func(i int, random *rand.Rand) (int, string, int) {
				if id := random.IntN(100); hundredth(id) || i%3 == 0 { // who is on it asks on and on
					return id % 5, fmt.Sprint("talk ", id%5), i % 40
				}
				return 5 + random.IntN(95), fmt.Sprint("question ", i), 0
			},
			naive: func(u user) int { return count(hundredth(u.id)) },
		},
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// TestFivePercentIsNeverForty plays the ways in which 5% became 40% against the gateway, counted at the model
// servers, and prints what the usual splitter would have served.
func TestFivePercentIsNeverForty(t *testing.T) {
	t.Parallel()
	for _, tc := range oldFailures() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *Config) { c.ClientHeader = "X-Client" })
			w.pods(tc.stablePods-1, tc.canaryPods-1)
			pods := append(make([]bool, max(1, tc.stablePods)), repeat(true, max(1, tc.canaryPods))...)
			w.rollout(500)
			random := rand.New(rand.NewPCG(4, 0))
			var fails bool
			w.upstream.behave(func(rw http.ResponseWriter, _ *http.Request, model string) bool {
				if fails && model == w.stable.ServedName() {
					rw.WriteHeader(http.StatusInternalServerError)
					return true
				}
				return false
			})
			var accesses []rollout.Access
			naive, canary := 0, 0
			for i := range sized(1000, 20_000) {
				id, words, turns := tc.users(i, random)
				fails = random.Float64() < tc.fails
				naive += tc.naive(user{id: id, words: words, turns: turns, request: i, pods: pods, fails: fails})
				before := w.allAsked()
				w.do(func(r *http.Request) { r.Header.Set("X-Client", fmt.Sprint(id)) }, chatPath, chat(words, turns), "")
				served := w.allAsked() - before
				require.LessOrEqual(t, served, 1, "one user request is at most one of the canary's")
				canary += served
				accesses = append(accesses, rollout.Access{Canary: served > 0, Share: 500})
			}
			audit := rollout.Audit(accesses, 100)
			t.Logf("%-55s naive %5.1f%%, here %4.1f%%, at most %4.1f%% of any 100 requests", tc.name,
				float64(naive)/float64(len(accesses))*100, float64(canary)/float64(len(accesses))*100, audit.Highest.Fraction()*100)
			require.Greater(t, float64(naive)/float64(len(accesses)), 0.15, "the old failure is one")
			require.Zero(t, audit.Prefix)
			require.LessOrEqual(t, audit.Window, rollout.Bound(lifecycle.Exposure{Cap: 60, Threshold: 12}, 1)+1)
		})
	}
}

func repeat(value bool, n int) []bool {
	out := make([]bool, n)
	for i := range out {
		out[i] = value
	}
	return out
}

// pods adds model servers of stable and of the canary.
func (w *world) pods(stable, canary int) {
	for id, n := range map[lifecycle.Digest]int{w.stable.ID(): stable, w.canary.ID(): canary} {
		for range n {
			pod := newUpstream(w.t)
			w.more = append(w.more, pod)
			release := w.store.releases[id]
			w.store.change(func(s *store) {
				s.endpoints = append(s.endpoints, lifecycle.Endpoint{
					Release: id, URL: pod.server.URL, Model: release.ServedName(), Capacity: 64, Ready: true, Attribution: "verified",
				})
			})
		}
	}
}

// allAsked counts the requests for the canary over all model servers.
func (w *world) allAsked() int {
	n := 0
	for _, u := range append(w.more, w.upstream) {
		u.mu.Lock()
		for _, model := range u.models {
			if model == w.canary.ServedName() {
				n++
			}
		}
		u.mu.Unlock()
	}
	return n
}
