package rollout

import (
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// admitter is the exposure rule, or a faulty one that a test plants.
type admitter interface {
	Admit(Request) Choice
	SetShare(lifecycle.BasisPoints) error
	Reset()
}

// churn drives a rule through requests, changes of the share, lapses and crashes, and gives what was served.
func churn(t *rapid.T, limit float64, fresh func() admitter) []Access {
	var accesses []Access
	share := lifecycle.BasisPoints(rapid.IntRange(1, 9999).Draw(t, "share"))
	rule := fresh()
	require.NoError(t, rule.SetShare(share))
	for range rapid.IntRange(1, 40).Draw(t, "phases") {
		switch rapid.IntRange(0, 5).Draw(t, "event") {
		case 0:
			share = lifecycle.BasisPoints(rapid.IntRange(0, 9999).Draw(t, "share"))
			require.NoError(t, rule.SetShare(share))
		case 1:
			rule.Reset()
		case 2: // a crash: memory and credit are gone
			rule = fresh()
			require.NoError(t, rule.SetShare(share))
		default:
		}
		kinds := rapid.SliceOfN(rapid.IntRange(0, 600), 0, 120).Draw(t, "requests")
		for _, kind := range kinds {
			c := rule.Admit(Request{
				Conversation: hashOf(uint64(kind % 150)), Running: kind%3 == 0, OnCanary: kind%5 == 0,
			})
			accesses = append(accesses, Access{Canary: c.Side == Canary, Share: share})
		}
	}
	return accesses
}

func TestEveryPrefixAndWindowIsWithinTheBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Float64Range(1, 40).Draw(t, "cap")
		threshold := rapid.Float64Range(1, limit).Draw(t, "threshold")
		band := rapid.Float64Range(1, 10).Draw(t, "band")
		audit := Audit(churn(t, limit, func() admitter {
			s, err := NewSplitter(Config{Key: testKey, Band: band, Cap: limit, Threshold: threshold, Remember: 20})
			require.NoError(t, err)
			return s
		}), 50)
		require.True(t, audit.Within(limit, 0), "%+v", audit)
	})
}

// undefended tosses by hash alone: the rule that everybody writes first.
type undefended struct{ *Splitter }

func (u undefended) Admit(r Request) Choice { return Choice{Side: Side(u.inBand(r.Conversation))} }

// forgiving keeps its credit through a crash of the counter: it starts with a full purse.
type forgiving struct{ *Splitter }

func (f forgiving) Reset() { f.credit = f.cap }

func TestPlantedFaultsBreakTheBound(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(*Splitter) admitter{
		"no credit at all":        func(s *Splitter) admitter { return undefended{s} },
		"credit after a lapse":    func(s *Splitter) admitter { f := forgiving{s}; f.Reset(); return f },
		"share changed unnoticed": func(s *Splitter) admitter { s.share = 9999; return deaf{s} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := 0
			for seed := range 30 {
				rapidly := rapid.Custom(func(t *rapid.T) bool {
					return !Audit(churn(t, 20, func() admitter {
						s, err := NewSplitter(Config{Key: testKey})
						require.NoError(t, err)
						return plant(s)
					}), 50).Within(20, 0)
				})
				if rapidly.Example(seed) {
					broken++
				}
			}
			require.Positive(t, broken, "the property must be able to fail")
		})
	}
}

// deaf does not hear of share changes.
type deaf struct{ *Splitter }

func (deaf) SetShare(lifecycle.BasisPoints) error { return nil }

func TestCreditStartsAtZeroAndReachesTheThreshold(t *testing.T) {
	t.Parallel()
	s := splitter(t, Config{}, 500)
	for i := range uint64(239) {
		require.False(t, s.Admit(Request{Conversation: hashOf(i)}).Coin)
	}
	c := s.Admit(Request{Conversation: hashOf(239)})
	require.True(t, c.Coin, "12 requests of credit after 240 requests at 5%")
	require.InDelta(t, 0.1364, c.Propensity, 1e-4)
	require.True(t, c.First)
	again := s.Admit(Request{Conversation: hashOf(239), Running: true})
	require.Equal(t, c.Propensity, again.Propensity)
	require.False(t, again.First)
}

// onCanary warms a splitter until a conversation begins on the canary, and gives it.
func onCanary(t *testing.T, s *Splitter) Hash {
	t.Helper()
	for i := range uint64(10_000) {
		if h := hashOf(1<<40 + i); s.Admit(Request{Conversation: h}).Side == Canary {
			return h
		}
	}
	t.Fatal("nobody came to the canary")
	return Hash{}
}

func TestAConversationMovesOnceAndOnlyTowardsStable(t *testing.T) {
	t.Parallel()
	s := splitter(t, Config{}, 500)
	h := onCanary(t, s)
	moved := 0
	for range 60 {
		c := s.Admit(Request{Conversation: h, Running: true})
		if moved > 0 {
			require.Equal(t, Stable, c.Side)
		}
		require.True(t, c.Coin, "it tossed, whatever became of it")
		if c.Moved {
			moved++
		}
	}
	require.Equal(t, 1, moved)
	for i := range uint64(500) { // credit comes back, the conversation does not
		s.Admit(Request{Conversation: hashOf(i)})
	}
	require.Equal(t, Stable, s.Admit(Request{Conversation: h, Running: true, OnCanary: true}).Side)
}

func TestAShareOfZeroMovesAllToStable(t *testing.T) {
	t.Parallel()
	s := splitter(t, Config{}, 5000)
	h := onCanary(t, s)
	require.NoError(t, s.SetShare(0))
	require.Zero(t, s.Credit())
	c := s.Admit(Request{Conversation: h, Running: true})
	require.Equal(t, Stable, c.Side)
	require.True(t, c.Moved)
	require.False(t, s.Admit(Request{Conversation: hashOf(77)}).Coin)
}

func TestAStepDownTakesTheCredit(t *testing.T) {
	t.Parallel()
	s := splitter(t, Config{}, 5000)
	for range 10 {
		s.Admit(Request{Running: true})
	}
	require.InDelta(t, 5, s.Credit(), 1e-9)
	require.NoError(t, s.SetShare(9500))
	require.InDelta(t, 5, s.Credit(), 1e-9, "a step up keeps it")
	require.NoError(t, s.SetShare(100))
	require.Zero(t, s.Credit())
	for _, wrong := range []lifecycle.BasisPoints{-1, 10_000, 20_000} {
		require.True(t, lifecycle.Is(s.SetShare(wrong), lifecycle.Invalid))
		require.Zero(t, s.Share())
	}
}

func TestRunningAndUnknownGoesToStableUnlessItWasOnTheCanary(t *testing.T) {
	t.Parallel()
	s := splitter(t, Config{}, 5000)
	onCanary(t, s)
	c := s.Admit(Request{Conversation: hashOf(5), Running: true})
	require.Equal(t, Choice{First: true}, c)
	c = s.Admit(Request{Conversation: hashOf(6), Running: true, OnCanary: true})
	require.Equal(t, Choice{Side: Canary, First: true}, c, "it goes on, and enters no comparison here")
}

func TestTheBandIsNestedKeyedAndAsWideAsThePropensity(t *testing.T) {
	t.Parallel()
	narrow, wide := splitter(t, Config{}, 500), splitter(t, Config{}, 5000)
	other, err := NewSplitter(Config{Key: []byte("another rollout's key")})
	require.NoError(t, err)
	require.NoError(t, other.SetShare(500))
	inside, both := 0, 0
	const n = 40_000
	for i := range uint64(n) {
		h := hashOf(i)
		if narrow.MustLookUp(h) {
			inside++
			require.True(t, wide.MustLookUp(h))
			if other.MustLookUp(h) {
				both++
			}
		}
	}
	width := narrow.width()
	require.InDelta(t, width, float64(inside)/n, 0.01)
	require.InDelta(t, width*width, float64(both)/n, 0.006, "another rollout takes other people")
	require.False(t, splitter(t, Config{}, 0).MustLookUp(hashOf(1)))
}

func TestTheBandNeverPassesOneAndItsFactorFallsToOne(t *testing.T) {
	t.Parallel()
	before := math.Inf(1)
	for share := lifecycle.BasisPoints(1); share < lifecycle.Whole; share++ {
		s := Splitter{band: 3, share: share}
		factor := s.width() / share.Fraction()
		require.True(t, s.width() < 1 && factor >= 1 && factor < before)
		before = factor
	}
	require.InDelta(t, 1, before, 1e-3)
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	s := splitter(t, Config{Remember: 100}, 5000)
	for i := range uint64(10_000) {
		s.Admit(Request{Conversation: hashOf(i)})
		require.LessOrEqual(t, len(s.known.young)+len(s.known.old), 200)
	}
	require.False(t, s.Admit(Request{Conversation: hashOf(9950), Running: true}).First)
	require.True(t, s.Admit(Request{Conversation: hashOf(1), Running: true}).First)
}

func TestConfigsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"no key":                  {},
		"narrow band":             {Key: testKey, Band: 0.5},
		"band that is no number":  {Key: testKey, Band: math.NaN()},
		"cap under one":           {Key: testKey, Cap: 0.5, Threshold: 0.1},
		"threshold above the cap": {Key: testKey, Cap: 5, Threshold: 6},
		"endless cap":             {Key: testKey, Cap: math.Inf(1)},
	} {
		_, err := NewSplitter(c)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), name)
	}
}

func TestManyGoroutinesKeepTheBound(t *testing.T) {
	t.Parallel()
	s := splitter(t, Config{}, 2500)
	var wg sync.WaitGroup
	var mu sync.Mutex
	canary := 0
	for g := range 8 {
		wg.Go(func() {
			for i := range uint64(2000) {
				if s.Admit(Request{Conversation: hashOf(uint64(g)<<32 + i)}).Side == Canary {
					mu.Lock()
					canary++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, canary, 4000)
	require.Greater(t, canary, 3000)
}
