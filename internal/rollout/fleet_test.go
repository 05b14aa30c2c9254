package rollout

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// fleet is gateways with one pool in a simulated time. They ask the pool as package gateway does: one question at a
// time, at once where it is urgent, else every pace; no request waits for an answer.
type fleet struct {
	t     require.TestingT
	pool  Pool
	rtt   float64 // seconds from a question to its answer
	pace  float64
	away  bool // the registry: questions get no answer
	now   float64
	asked int // questions

	config   Config
	share    lifecycle.BasisPoints
	gateways []*node
	started  int
	events   events
	heard    int64 // earned and not reported, in basis points, the most that there ever was
}

// node is one gateway of the fleet.
type node struct {
	splitter *Splitter
	name     string
	flying   bool
	again    bool    // asked for while a question was under way
	ticking  bool    // a question at the pace is planned
	last     float64 // when it asked last
	answered float64
	pending  int64 // earned since the pool heard last
}

// event is something that happens at a time.
type event struct {
	at float64
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newFleet(t require.TestingT, gateways int, c Config, share lifecycle.BasisPoints) *fleet {
	c.Key, c.Pooled = testKey, true
	f := &fleet{t: t, rtt: 0.004, pace: 0.1, config: c, share: share, gateways: make([]*node, gateways)}
	for g := range gateways {
		f.start(g)
	}
	return f
}

// start begins a gateway anew, as after a crash; what it had is gone.
func (f *fleet) start(g int) {
	s, err := NewSplitter(f.config)
	require.NoError(f.t, err)
	require.NoError(f.t, s.SetShare(f.share))
	f.started++
	f.gateways[g] = &node{splitter: s, name: fmt.Sprint("gateway-", f.started), last: -1, answered: f.now}
	f.ask(f.gateways[g])
	f.beat(g, f.gateways[g])
}

// beat lets the pool know of a gateway that nobody asks.
func (f *fleet) beat(g int, n *node) {
	f.after(lifecycle.LeaseRenewal.Seconds(), func() {
		if f.gateways[g] == n {
			f.ask(n)
			f.beat(g, n)
		}
	})
}

func (f *fleet) after(d float64, do func()) { heap.Push(&f.events, event{f.now + d, do}) }

// pass lets time pass, and what happens in it.
func (f *fleet) pass(d float64) {
	until := f.now + d
	for len(f.events) > 0 && f.events[0].at <= until {
		e := heap.Pop(&f.events).(event)
		f.now = max(f.now, e.at)
		e.do()
	}
	f.now = until
}

func (f *fleet) ask(n *node) {
	if n.flying {
		n.again = true
		return
	}
	n.flying, n.again, n.last = true, false, f.now
	f.asked++
	d := n.splitter.Draw(n.name)
	began := f.now
	f.after(f.rtt/2, func() {
		var grant Grant
		answered := !f.away
		if answered {
			grant = f.pool.Draw(d)
			n.pending = 0
		}
		f.after(f.rtt/2, func() {
			n.flying = false
			if !answered {
				n.splitter.Unanswered(d)
				return
			}
			require.NoError(f.t, n.splitter.Deposit(d, grant))
			n.answered = began
			if _, urgent := n.splitter.Due(); urgent || n.again {
				f.ask(n)
			}
		})
	})
}

func (f *fleet) admit(g int, r Request) Choice {
	n := f.gateways[g]
	if f.now-n.answered >= lifecycle.LeaseTime.Seconds() {
		n.splitter.Reset()
		n.answered = f.now
	}
	n.pending += int64(n.splitter.Share())
	c := n.splitter.Admit(r)
	unheard := int64(0)
	for _, n := range f.gateways {
		unheard += n.pending
	}
	f.heard = max(f.heard, unheard)
	worth, urgent := n.splitter.Due()
	switch {
	case urgent:
		f.ask(n)
	case worth && !n.ticking:
		n.ticking = true
		f.after(max(0, n.last+f.pace-f.now), func() {
			n.ticking = false
			f.ask(n)
		})
	}
	return c
}

// setShare changes the step at every gateway; a step down takes all credit away.
func (f *fleet) setShare(share lifecycle.BasisPoints) {
	if share < f.share {
		f.pool.Void()
	}
	f.share = share
	for _, n := range f.gateways {
		require.NoError(f.t, n.splitter.SetShare(share))
	}
}

// load is what users do.
type load struct {
	rate    float64 // requests a second, over all gateways
	think   float64 // seconds between two requests of a conversation
	tail    float64 // index of the Pareto lengths; smaller is heavier; 0: one request each
	scatter bool    // every request comes to any gateway
}

// serve sends n requests of the load through the fleet.
func (f *fleet) serve(n int, l load, seed uint64) served {
	tr := newTraffic(seed, len(f.gateways))
	tr.width = max(20, int(l.rate*l.think))
	tr.tail = l.tail
	// At the start the conversations are not all new.
	random := rand.New(rand.NewPCG(seed, 7))
	return tr.run(n, f.share, func(t *talk, r Request) Choice {
		f.pass(random.ExpFloat64() / l.rate)
		if l.scatter {
			t.gateway = random.IntN(len(f.gateways))
		}
		r.OnCanary = t.side == Canary && t.asked > 0
		return f.admit(t.gateway, r)
	})
}

func pareto(random *rand.Rand, tail float64) int {
	if tail == 0 {
		return 1
	}
	return int(min(400, math.Pow(1-random.Float64(), -1/tail)))
}
