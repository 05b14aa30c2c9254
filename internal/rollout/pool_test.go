package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestThePoolKeepsTheBoundThroughDeathsAndLostAnswers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const gateways, limit = 4, 20
		pool := Pool{Cap: limit * unit}
		share := lifecycle.BasisPoints(rapid.IntRange(1, 9999).Draw(t, "share"))
		names, serial := [gateways]string{}, byte(0)
		var local [gateways]*Splitter
		start := func(g int) {
			s, err := NewSplitter(Config{Key: testKey, Pooled: true})
			require.NoError(t, err)
			require.NoError(t, s.SetShare(share))
			serial++
			local[g], names[g] = s, string([]byte{'g', serial})
		}
		for g := range gateways {
			start(g)
		}
		var accesses []Access
		var pending [gateways]int64 // earned since the last report, in basis points
		most := int64(0)
		for _, op := range rapid.SliceOfN(rapid.IntRange(0, 4000), 1, 600).Draw(t, "operations") {
			g := op % gateways
			switch kind := op / gateways % 60; kind {
			case 0: // a death: units are lost
				old := names[g]
				start(g)
				pool.Lose(old)
				pending[g] = 0
			case 1: // presumed dead, and comes back with units in its hands
				pool.Lose(names[g])
				fallthrough
			case 2, 3: // an answer is lost
				d := local[g].Draw(names[g], 2)
				pool.Draw(d)
				local[g].Unanswered(d)
				late := local[g].Draw(names[g], 0)
				require.NoError(t, local[g].Deposit(late, pool.Draw(late)))
				require.NoError(t, local[g].Deposit(d, Grant{Units: 50, Keep: 50, Epoch: d.Epoch}), "ignored: it is late")
				pending[g] = 0
			case 4: // a step down
				share = max(1, share/2)
				pool.Void()
				for i := range local {
					require.NoError(t, local[i].SetShare(share))
					local[i].Reset()
					pending[i] = 0
				}
			case 5: // a step up
				share = min(9999, share*2)
				for i := range local {
					require.NoError(t, local[i].SetShare(share))
				}
			default:
				r := Request{Conversation: hashOf(uint64(op)), OnCanary: kind%2 == 0}
				pending[g] += int64(share)
				if local[g].Needs(r) || kind > 50 {
					d := local[g].Draw(names[g], 1)
					require.NoError(t, local[g].Deposit(d, pool.Draw(d)))
					pending[g] = int64(share)
				}
				c := local[g].Admit(r)
				accesses = append(accesses, Access{Canary: c.Side == Canary, Share: share})
			}
			sum := int64(0)
			for _, p := range pending {
				sum += p
			}
			most = max(most, sum)
			require.LessOrEqual(t, pool.Level+pool.drawn()*unit, pool.Cap)
			require.GreaterOrEqual(t, pool.Level, int64(0))
		}
		audit := Audit(accesses, 10)
		require.Zero(t, audit.Prefix)
		require.LessOrEqual(t, audit.Window, limit+float64(most)/float64(unit))
	})
}

func TestThePoolGrantsNothingForNothing(t *testing.T) {
	t.Parallel()
	pool := Pool{Cap: 20 * unit}
	require.Zero(t, pool.Draw(Draw{Gateway: "a", Want: 5}).Units)
	g := pool.Draw(Draw{Gateway: "a", Earned: 2*unit + 9999, Want: 5})
	require.Equal(t, Grant{Units: 2, Total: 2*unit + 9999}, g)
	again := pool.Draw(Draw{Gateway: "a", Earned: 2*unit + 9999, Held: 2, Want: 5})
	require.Equal(t, Grant{Keep: 2, Total: 2*unit + 9999}, again, "a repeated report earns nothing twice")
	full := pool.Draw(Draw{Gateway: "b", Earned: 1000 * unit})
	require.EqualValues(t, 20*unit, full.Total, "pool and drawn units together are capped")
	require.Equal(t, Grant{}, pool.Draw(Draw{Gateway: "b", Earned: -5, Want: 3}))
}

func TestAVoidedPoolVoidsWhatWasDrawn(t *testing.T) {
	t.Parallel()
	pool := Pool{Cap: 20 * unit}
	s := splitter(t, Config{Pooled: true}, 5000)
	for range 40 {
		s.Admit(Request{Running: true})
	}
	d := s.Draw("a", 3)
	require.NoError(t, s.Deposit(d, pool.Draw(d)))
	require.InDelta(t, 3, s.Credit(), 1e-9)
	pool.Void()
	d = s.Draw("a", 1)
	require.NoError(t, s.Deposit(d, pool.Draw(d)))
	require.Zero(t, s.Credit())
	d = s.Draw("a", 1)
	require.EqualValues(t, 1, d.Epoch)
	require.Zero(t, d.Earned)
}

func TestWithoutThePoolNobodyTosses(t *testing.T) {
	t.Parallel()
	p := newPooled(t, 1, 1, 5000)
	for i := range uint64(100) {
		p.admit(0, Request{Conversation: hashOf(i), Running: true})
	}
	s := p.gateways[0]
	require.True(t, s.Admit(Request{Conversation: hashOf(1000)}).Coin)
	s.Unanswered(s.Draw("a", 1))
	s.Reset()
	require.False(t, s.Admit(Request{Conversation: hashOf(1001)}).Coin)
	require.Error(t, splitter(t, Config{}, 1).Deposit(Draw{}, Grant{}))
}
