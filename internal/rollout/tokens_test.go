package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// flight is a request that was admitted and has not ended.
type flight struct {
	choice Choice
	limit  int64
}

// tokensOver plays requests with tokens and gives by how much the canary ever was over its share of all tokens, what
// was reserved counted as given; in 1/10,000 of a token.
func tokensOver(t *rapid.T, s *Splitter, share lifecycle.BasisPoints, settle func(Choice, int64)) (worst int64) {
	var flying []flight
	allowed, canary, reserved := int64(0), int64(0), int64(0) // allowed in 1/10,000 token
	require.NoError(t, s.SetShare(share))
	check := func() { worst = max(worst, (canary+reserved)*unit-allowed) }
	end := func(i int, tokens int64) {
		f := flying[i]
		flying = append(flying[:i], flying[i+1:]...)
		settle(f.choice, tokens)
		allowed += int64(s.Share()) * tokens
		if f.choice.Side == Canary {
			canary += tokens
			reserved -= f.choice.Reserved
		}
	}
	for range rapid.IntRange(50, 800).Draw(t, "events") {
		switch kind := rapid.IntRange(0, 400).Draw(t, "kind"); {
		case kind == 0:
			require.NoError(t, s.SetShare(lifecycle.BasisPoints(rapid.IntRange(0, 9999).Draw(t, "share"))))
		case kind == 1:
			s.Reset()
		case kind < 220 || len(flying) == 0:
			limit := int64(rapid.IntRange(0, 300).Draw(t, "limit"))
			c := s.Admit(Request{Conversation: hashOf(rapid.Uint64Range(1, 100_000).Draw(t, "key")), OnCanary: kind%2 == 0, Tokens: limit})
			if c.Side == Canary {
				require.Equal(t, limit, c.Reserved)
				reserved += limit
			} else {
				require.Zero(t, c.Reserved)
			}
			flying = append(flying, flight{c, limit})
		default:
			i := rapid.IntRange(0, len(flying)-1).Draw(t, "which")
			most := flying[i].limit
			if flying[i].choice.Side == Stable {
				most /= 3 // the canary is the one that talks
			}
			end(i, rapid.Int64Range(0, most).Draw(t, "tokens"))
		}
		check()
	}
	for len(flying) > 0 {
		end(0, flying[0].limit)
		check()
	}
	_, left, _ := s.Tokens()
	require.Zero(t, left, "nothing stays reserved")
	return worst
}

func tokenSplitter(t require.TestingT, tokens int64) *Splitter {
	s, err := NewSplitter(Config{Key: testKey, Cap: 1000, Threshold: 1, Tokens: tokens})
	require.NoError(t, err)
	return s
}

func TestCanaryTokensAndReservationsAreWithinTheShareOfAllTokens(t *testing.T) {
	t.Parallel()
	served := false
	rapid.Check(t, func(t *rapid.T) {
		s := tokenSplitter(t, rapid.Int64Range(1, 5000).Draw(t, "cap"))
		share := lifecycle.BasisPoints(rapid.IntRange(1, 9999).Draw(t, "share"))
		over := tokensOver(t, s, share, func(c Choice, tokens int64) {
			served = served || c.Side == Canary && tokens > 0
			s.Settle(c, tokens)
		})
		require.Zero(t, over)
	})
	require.True(t, served, "some canary requests were afforded")
}

func TestPlantedFaultsBreakTheTokenBound(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(*Splitter, Choice, int64){
		"a reservation comes back whole": func(s *Splitter, c Choice, tokens int64) {
			s.Settle(c, 0)
			s.tokens.credit += int64(s.share) * tokens
		},
		"what was reserved before a lapse comes back, and what was used is not taken": func(s *Splitter, c Choice, tokens int64) {
			s.Settle(c, tokens)
			s.tokens.credit += c.Reserved * unit
		},
		"all tokens are earned": func(s *Splitter, c Choice, tokens int64) {
			s.Settle(c, tokens)
			s.tokens.credit += (unit - int64(s.share)) * tokens
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tokenSplitter(t, 1_000_000)
			require.NoError(t, s.SetShare(2000))
			worst, allowed, canary, lapse := int64(0), int64(0), int64(0), uint64(0)
			for i := range uint64(3000) { // the canary is the one that talks
				c := s.Admit(Request{Conversation: hashOf(i + 1), OnCanary: true, Tokens: 100})
				if c.Side == Canary && i > lapse+300 {
					s.Reset() // while it is in flight
					lapse = i
				}
				tokens := int64(30)
				if c.Side == Canary {
					tokens = 100
					canary += tokens
				}
				allowed += 2000 * tokens
				plant(s, c, tokens)
				worst = max(worst, canary*unit-allowed)
			}
			require.Positive(t, worst, "the bound must be able to fail")
		})
	}
}

func TestWhatAServerGivesOverTheLimitIsOwed(t *testing.T) {
	t.Parallel()
	s := tokenSplitter(t, 1000)
	require.NoError(t, s.SetShare(5000))
	for range 4 {
		s.Settle(s.Admit(Request{Running: true}), 100)
	}
	credit, _, counted := s.Tokens()
	require.True(t, counted)
	require.InDelta(t, 200, credit, 1e-9)
	c := s.Admit(Request{Conversation: hashOf(1), OnCanary: true, Tokens: 200})
	require.Equal(t, Canary, c.Side)
	short := s.Admit(Request{Conversation: hashOf(2), OnCanary: true, Tokens: 1})
	require.True(t, short.Short && short.Moved)
	s.Settle(c, 700) // it did not keep to its limit
	credit, reserved, _ := s.Tokens()
	require.InDelta(t, 200-700+350, credit, 1e-9)
	require.Zero(t, reserved)
	s.Reset()
	credit, _, _ = s.Tokens()
	require.InDelta(t, -150, credit, 1e-9, "a lapse does not forgive")
	require.Equal(t, Stable, s.Admit(Request{Conversation: hashOf(3), OnCanary: true}).Side)
	s.Settle(Choice{}, 1<<62) // nobody's number overflows
	credit, _, _ = s.Tokens()
	require.InDelta(t, 1000, credit, 1e-9, "the credit is capped")
}

func TestWhatATossMayCostIsNoMatterOfItsHash(t *testing.T) {
	t.Parallel()
	s := tokenSplitter(t, 1000)
	require.NoError(t, s.SetShare(5000))
	for range 10 {
		s.Settle(s.Admit(Request{Running: true}), 100)
	}
	for i := range uint64(50) {
		c := s.Admit(Request{Conversation: hashOf(i + 1), Tokens: 2000})
		require.True(t, c.Short)
		require.False(t, c.Coin, "inside the band or not, it has no propensity")
	}
	require.True(t, s.Admit(Request{Conversation: hashOf(99), Tokens: 500}).Coin)
	_, _, counted := splitter(t, Config{}, 500).Tokens()
	require.False(t, counted)
	_, err := NewSplitter(Config{Key: testKey, Tokens: -1})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
}
