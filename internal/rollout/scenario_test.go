package rollout

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// scenario is traffic and what happens to the gateways meanwhile. What is counted is what the model servers get.
type scenario struct {
	load load
	// happens is called before request i.
	happens func(s *stage, i int)
	// change edits what the gateway is asked; nil: as the load has it.
	change      func(s *stage, r *Request)
	stableFails float64 // part of the requests that stable's servers fail; they are tried again at stable
	canaryFails bool    // always; stable answers for it
	ejected     func(i int) bool
	lostUnits   bool // the pool may count units as lost that are still taken: no window is promised beyond that
}

// stage is a scenario that is played.
type stage struct {
	*fleet
	random   *rand.Rand
	accesses []Access
	bound    float64 // B of the most gateways that there were
	fault    fault
}

// fault is planted to see that the test can fail.
type fault int

const (
	none         fault = iota
	fullPurse          // a gateway begins with credit
	triesCanary        // what stable failed is tried again at the canary
	countsTwice        // what was reported is counted again with every report
	takesLate          // an answer is taken as often as it comes
	givesLost          // units of a dead gateway go back to the pool while it still has them
	hashOnly           // the band alone decides
	earnsWithout       // what stable's ejected servers turned away earns credit, and is offered to the canary
)

func everyRequest(t require.TestingT, sc scenario, gateways, n int, share lifecycle.BasisPoints, seed uint64, planted fault) *stage {
	s := &stage{fleet: newFleet(t, gateways, Config{Remember: 2000}, share), random: rand.New(rand.NewPCG(seed, 11)), fault: planted}
	s.observe()
	tr := newTraffic(seed, gateways)
	tr.width, tr.tail = max(20, int(sc.load.rate*sc.load.think)), sc.load.tail
	for i := range n {
		s.plant()
		s.pass(s.random.ExpFloat64() / sc.load.rate)
		if sc.happens != nil {
			sc.happens(s, i)
			s.observe()
		}
		if sc.ejected != nil && sc.ejected(i) && planted != earnsWithout {
			continue // no place on stable: turned away before anything is decided
		}
		k := tr.request()
		if sc.load.scatter {
			k.gateway = s.random.IntN(gateways)
		}
		r := Request{Conversation: k.hash, Running: k.asked > 0, OnCanary: k.side == Canary && k.asked > 0}
		if sc.change != nil {
			sc.change(s, &r)
		}
		c := s.admit(k.gateway, r)
		if planted == hashOnly {
			c.Side = Side(s.gateways[k.gateway].splitter.inBand(r.Conversation))
		}
		k.asked++
		k.side = c.Side
		s.served(sc, c.Side, sc.ejected != nil && sc.ejected(i))
	}
	return s
}

// served notes what the model servers got for one user request.
func (s *stage) served(sc scenario, side Side, ejected bool) {
	if ejected { // planted: nobody but the canary is there
		s.accesses = append(s.accesses, Access{Canary: true})
		return
	}
	s.accesses = append(s.accesses, Access{Canary: side == Canary, Share: s.share})
	if side == Stable && s.random.Float64() < sc.stableFails && s.fault == triesCanary {
		s.accesses = append(s.accesses, Access{Canary: true}) // no request of a user: nothing is allowed for it
	}
	if side == Canary && sc.canaryFails {
		s.accesses = append(s.accesses, Access{})
	}
}

// observe notes how many gateways share the pool at most.
func (s *stage) observe() {
	n := 0
	for _, h := range s.pool.Gateways {
		if !h.Silent {
			n++
		}
	}
	s.bound = max(s.bound, Bound(lifecycle.Exposure{Cap: 60, Threshold: 12}, max(n, len(s.gateways))))
}

// plant does wrong what the fault says.
func (s *stage) plant() {
	switch s.fault {
	case countsTwice:
		for name, h := range s.pool.Gateways {
			h.Earned = 0
			s.pool.Gateways[name] = h
		}
	case takesLate:
		for _, n := range s.gateways {
			if n.splitter.credit >= unit {
				n.splitter.credit += unit
			}
		}
	}
}

func (s *stage) crash(g int) {
	old := s.gateways[g]
	s.start(g)
	if s.fault == fullPurse {
		s.gateways[g].splitter.credit = s.gateways[g].splitter.limit(1)
	}
	s.after(2*lifecycle.LeaseTime.Seconds(), func() {
		if s.fault == givesLost {
			s.pool.Level += s.pool.Gateways[old.name].Drawn*unit + 20*unit
		}
		s.pool.Lose(old.name)
	})
}

// crashes restarts gateways in a loop, two thousand times at most.
func crashes(s *stage, i int) {
	if i%15 == 14 && s.started < 2000 {
		s.crash(s.random.IntN(len(s.gateways)))
	}
}

func scenarios() map[string]scenario {
	usual := load{rate: 50, think: 10, tail: 1.5}
	return map[string]scenario{
		"heavy-tailed conversations": {load: usual},
		"every request comes to any gateway, with no token handed back": {
			load: load{rate: 50, think: 10, tail: 1.5, scatter: true},
		},
		"single requests": {load: load{rate: 500, think: 1}},
		"crash loop":      {load: usual, happens: crashes},
		"crash loop, and all show a canary's token": {load: usual, happens: crashes, change: func(_ *stage, r *Request) { r.Running, r.OnCanary = true, true }},
		"idle, then a burst": {load: usual, change: func(s *stage, r *Request) {
			// For long everybody is on stable, and credit grows; then all are new, or say that they were there.
			if len(s.accesses)%600 < 400 {
				r.Running, r.OnCanary = true, false
			} else {
				r.Running, r.OnCanary = false, len(s.accesses)%2 == 0
			}
		}, happens: func(s *stage, i int) {
			if i%600 == 400 {
				s.pass(120)
			}
		}},
		"shares up and down": {load: usual, happens: func(s *stage, i int) {
			if i%80 == 79 {
				s.setShare(lifecycle.BasisPoints(s.random.IntN(10_000)))
			}
		}},
		"one key carries 60%": {load: usual, change: func(s *stage, r *Request) {
			if s.random.Float64() < 0.6 {
				r.Conversation = hashOf(1)
			}
		}},
		"everybody is one conversation": {load: usual, change: func(_ *stage, r *Request) { r.Conversation = hashOf(1) }},
		"no key at all": {load: usual, change: func(s *stage, r *Request) {
			*r = Request{Conversation: hashOf(s.random.Uint64())}
		}},
		"all show a canary's token": {load: usual, change: func(_ *stage, r *Request) { r.Running, r.OnCanary = true, true }},
		"stable fails 30%":          {load: usual, stableFails: 0.3},
		"the canary fails always":   {load: usual, canaryFails: true},
		"a breaker ejects stable":   {load: usual, ejected: func(i int) bool { return i%100 > 60 }},
		"the registry is away": {load: usual, happens: func(s *stage, i int) {
			if i%150 == 50 || i%150 == 100 {
				s.away = !s.away
				s.pass(s.random.Float64() * 40)
			}
		}},
		"the database's clock jumps": {load: usual, lostUnits: true, happens: func(s *stage, i int) {
			if i%60 == 59 {
				for name := range s.pool.Gateways {
					s.pool.Lose(name)
				}
			}
		}},
	}
}

// check holds what was served against the bound: every prefix, and every window.
func (s *stage) check(t require.TestingT, sc scenario, name string) {
	audit := Audit(s.accesses, 0)
	require.Zero(t, audit.Prefix, "%s: a prefix over Σp", name)
	most := s.bound + float64(s.heard)/float64(unit)
	if sc.lostUnits {
		most += s.bound
	}
	require.LessOrEqual(t, audit.Window, most, "%s: a window over Σp + B", name)
}

func TestEveryScenarioKeepsTheBound(t *testing.T) {
	t.Parallel()
	long := 1_000_000
	if raceDetector { // one goroutine plays it, and ten times slower
		long = 20_000
	}
	shares := []lifecycle.BasisPoints{500, 1, 2500, 9999, 37, 9000, 100}
	at := 0
	for name, sc := range scenarios() {
		for _, gateways := range []int{1, 20, 50} {
			at++
			share := shares[at%len(shares)]
			t.Run(fmt.Sprintf("%s/%d gateways/%s", name, gateways, share), func(t *testing.T) {
				t.Parallel()
				for _, n := range []int{20, sized(1500, long)} {
					everyRequest(t, sc, gateways, n, share, uint64(at), none).check(t, sc, name)
				}
			})
		}
	}
}

func TestAnyTrafficKeepsTheBound(t *testing.T) {
	t.Parallel()
	all := scenarios()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "scenario")
		sc := all[name]
		if other := all[rapid.SampledFrom(names).Draw(t, "and")]; other.happens != nil && !other.lostUnits {
			first := sc.happens
			sc.happens = func(s *stage, i int) {
				if first != nil {
					first(s, i)
				}
				other.happens(s, i)
			}
		}
		share := lifecycle.BasisPoints(rapid.IntRange(1, 9999).Draw(t, "share"))
		gateways := rapid.IntRange(1, 12).Draw(t, "gateways")
		everyRequest(t, sc, gateways, rapid.IntRange(20, 400).Draw(t, "requests"), share, rapid.Uint64().Draw(t, "seed"), none).check(t, sc, name)
	})
}

// failure notes that a check did not hold.
type failure struct{ failed bool }

func (f *failure) Errorf(string, ...any) { f.failed = true }
func (f *failure) FailNow()              {}

func TestPlantedFaultsBreakAScenario(t *testing.T) {
	t.Parallel()
	for name, planted := range map[string]struct {
		scenario string
		fault    fault
	}{
		"a restarted gateway has credit":            {"crash loop", fullPurse},
		"a retry goes to the canary":                {"stable fails 30%", triesCanary},
		"a report is counted twice":                 {"heavy-tailed conversations", countsTwice},
		"an answer is taken twice":                  {"all show a canary's token", takesLate},
		"lost units are given to others":            {"crash loop, and all show a canary's token", givesLost},
		"the band alone decides":                    {"heavy-tailed conversations", hashOnly},
		"the canary is what a breaker leaves there": {"a breaker ejects stable", earnsWithout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc, seen := scenarios()[planted.scenario], &failure{}
			for seed := range uint64(8) {
				everyRequest(t, sc, 5, 2500, 500, seed, planted.fault).check(seen, sc, planted.scenario)
			}
			require.True(t, seen.failed, "the bound must be able to fail")
		})
	}
}
