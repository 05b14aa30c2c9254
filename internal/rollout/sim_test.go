package rollout

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// sized gives the small number in the inner loop and the full one when REFIT_LONG is 1.
func sized(short, long int) int {
	if os.Getenv("REFIT_LONG") == "1" {
		return long
	}
	return short
}

var testKey = []byte("a key of this rollout's band, 32")

func hashOf(n uint64) (h Hash) {
	binary.BigEndian.PutUint64(h[:], n)
	return h
}

// talk is a conversation of the simulation.
type talk struct {
	hash    Hash
	left    int
	asked   int
	gateway int
	seen    bool
	choice  Choice // of its first request
	side    Side   // now
	moved   bool
}

// traffic draws requests of heavy-tailed conversations (Pareto, tail index 1.5, at most 400 turns) that are held side
// by side, each at one gateway.
type traffic struct {
	random   *rand.Rand
	gateways int
	width    int     // conversations side by side
	tail     float64 // index of their lengths
	open     []*talk
	next     uint64
}

func newTraffic(seed uint64, gateways int) *traffic {
	return &traffic{random: rand.New(rand.NewPCG(seed, 42)), gateways: gateways, width: 60, tail: 1.5, next: seed << 32}
}

func (tr *traffic) request() *talk {
	for len(tr.open) < tr.width {
		tr.next++
		tr.open = append(tr.open, &talk{hash: hashOf(tr.next), left: pareto(tr.random, tr.tail), gateway: tr.random.IntN(tr.gateways)})
	}
	i := tr.random.IntN(len(tr.open))
	t := tr.open[i]
	if t.left--; t.left == 0 {
		tr.open[i] = tr.open[len(tr.open)-1]
		tr.open = tr.open[:len(tr.open)-1]
	}
	return t
}

// served is what a run of the simulation showed.
type served struct {
	accesses []Access
	talks    []*talk // that asked at least once, in order of first requests
	first    int     // requests until the first canary conversation; -1: none
}

// run serves n requests. answer decides each; it is the rule under test.
func (tr *traffic) run(n int, share lifecycle.BasisPoints, answer func(*talk, Request) Choice) served {
	out := served{first: -1}
	for i := range n {
		t := tr.request()
		c := answer(t, Request{Conversation: t.hash, Running: t.asked > 0})
		if !t.seen {
			t.seen, t.choice = true, c
			out.talks = append(out.talks, t)
		}
		t.asked++
		t.side, t.moved = c.Side, t.moved || c.Moved
		if c.Side == Canary && out.first < 0 {
			out.first = i + 1
		}
		out.accesses = append(out.accesses, Access{Canary: c.Side == Canary, Share: share})
	}
	return out
}

// reached is the part of the allowed share that was served.
func (s served) reached() float64 {
	a := Audit(s.accesses, 0)
	return float64(a.Canary) / a.Allowed
}

// movedPart is the part of conversations begun on the canary that were moved.
func (s served) movedPart() float64 {
	begun, moved := 0, 0
	for _, t := range s.talks {
		if t.choice.Side == Canary {
			begun++
			if t.moved {
				moved++
			}
		}
	}
	return float64(moved) / float64(max(1, begun))
}

// conversations is what the judge would see, with no events yet.
func (s served) conversations() []Conversation {
	out := make([]Conversation, len(s.talks))
	for i, t := range s.talks {
		out[i] = Conversation{Coin: t.choice.Coin, Propensity: t.choice.Propensity, Canary: t.choice.Side == Canary}
	}
	return out
}

func splitter(t testing.TB, c Config, share lifecycle.BasisPoints) *Splitter {
	t.Helper()
	c.Key = testKey
	s, err := NewSplitter(c)
	require.NoError(t, err)
	require.NoError(t, s.SetShare(share))
	return s
}

func TestFivePercentIsFivePercent(t *testing.T) {
	t.Parallel()
	n := sized(200_000, 2_000_000)
	type row struct{ reached, moved, first float64 }
	measure := func(c Config, gateways int) row {
		var local []*Splitter
		for range gateways {
			local = append(local, splitter(t, c, 500))
		}
		run := newTraffic(1, gateways).run(n, 500, func(k *talk, r Request) Choice { return local[k.gateway].Admit(r) })
		audit := Audit(run.accesses, 0)
		require.Zero(t, audit.Prefix)
		limit := c.Cap
		if limit == 0 {
			limit = Bound(lifecycle.Exposure{Cap: 60, Threshold: 12}, 1)
		}
		require.LessOrEqual(t, audit.Window, limit*float64(gateways))
		return row{run.reached(), run.movedPart(), float64(run.first)}
	}
	full := measure(Config{}, 1)
	plain := measure(Config{Band: 1, Cap: 10, Threshold: 1}, 1)
	twenty := measure(Config{}, 20)
	t.Logf("defaults %.4f, plain %.4f, 20 gateways %.4f (reached, moved, first)", full, plain, twenty)
	require.Greater(t, full.reached, 0.97)
	require.Less(t, full.moved, 0.01)
	require.InDelta(t, 250, full.first, 60)
	require.Less(t, plain.reached, full.reached, "the plain rule reaches less")
	require.Greater(t, plain.moved, full.moved, "and moves more")
	require.Less(t, twenty.reached, full.reached)
}

func TestPooledCreditIsAsGoodAsOneGateway(t *testing.T) {
	t.Parallel()
	for _, gateways := range []int{5, 20} {
		f := newFleet(t, gateways, Config{}, 500)
		run := f.serve(sized(60_000, 2_000_000), load{rate: 100, think: 20, tail: 1.5}, 2)
		audit := Audit(run.accesses, 0)
		t.Logf("%d gateways pooled: reached %.4f, moved %.4f, first %d, window %.2f, %.2f questions a request", gateways,
			run.reached(), run.movedPart(), run.first, audit.Window, float64(f.asked)/float64(audit.Requests))
		require.Zero(t, audit.Prefix)
		bound := Bound(lifecycle.Exposure{Cap: 60, Threshold: 12}, gateways) + float64(f.heard)/float64(unit)
		require.LessOrEqual(t, audit.Window, bound)
		require.Greater(t, run.reached(), 0.97)
		require.Less(t, run.movedPart(), 0.01)
	}
}

func TestShareTestKeepsItsLevelOnTheRule(t *testing.T) {
	t.Parallel()
	runs, alarms := sized(60, 1000), 0
	for seed := range runs {
		s := splitter(t, Config{Key: nil}, 500)
		s.key = append([]byte{byte(seed), byte(seed >> 8)}, testKey...)
		tr := newTraffic(uint64(seed+10), 1)
		run := tr.run(10_000, 500, func(_ *talk, r Request) Choice { return s.Admit(r) })
		log, _, err := Overexposure(run.conversations(), levels.Share)
		require.NoError(t, err)
		if math.Exp(log) > 1/levels.Share {
			alarms++
		}
	}
	require.LessOrEqual(t, float64(alarms)/float64(runs), 0.02)
}
