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
		type flying struct {
			draw  Draw
			grant Grant
		}
		pool := Pool{}
		share := lifecycle.BasisPoints(rapid.IntRange(1, 9999).Draw(t, "share"))
		names, serial := [gateways]string{}, byte(0)
		var local [gateways]*Splitter
		var onWay [gateways]*flying
		start := func(g int) {
			s, err := NewSplitter(Config{Key: testKey, Pooled: true, Cap: limit})
			require.NoError(t, err)
			require.NoError(t, s.SetShare(share))
			serial++
			local[g], names[g], onWay[g] = s, string([]byte{'g', serial}), nil
		}
		for g := range gateways {
			start(g)
		}
		var accesses []Access
		var pending [gateways]int64 // earned since the pool last heard, in basis points
		most := int64(0)
		ask := func(g int) {
			d := local[g].Draw(names[g])
			onWay[g] = &flying{d, pool.Draw(d)}
			pending[g] = 0
		}
		arrive := func(g int) {
			if f := onWay[g]; f != nil {
				require.NoError(t, local[g].Deposit(f.draw, f.grant))
				onWay[g] = nil
			}
		}
		for _, op := range rapid.SliceOfN(rapid.IntRange(0, 4000), 1, 600).Draw(t, "operations") {
			g := op % gateways
			switch kind := op / gateways % 60; kind {
			case 0: // a death: units are lost
				old := names[g]
				start(g)
				pool.Lose(old)
				pending[g] = 0
			case 1: // away for long: it gives its units up, and then the pool does
				local[g].Reset()
				pool.Lose(names[g])
			case 2: // an answer is lost, or comes when a later question is under way
				late := onWay[g]
				ask(g)
				local[g].Unanswered(onWay[g].draw)
				if late != nil {
					require.NoError(t, local[g].Deposit(late.draw, Grant{Units: 50, Keep: 50, Epoch: late.draw.Epoch}), "ignored: it is late")
				}
				onWay[g] = nil
			case 3: // a question never arrives
				local[g].Unanswered(local[g].Draw(names[g]))
				onWay[g] = nil
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
			case 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20:
				arrive(g)
				ask(g)
			case 21, 22, 23, 24, 25, 26, 27, 28, 29, 30:
				arrive(g)
			default:
				pending[g] += int64(share)
				c := local[g].Admit(Request{Conversation: hashOf(uint64(op)), OnCanary: kind%2 == 0})
				accesses = append(accesses, Access{Canary: c.Side == Canary, Share: share})
			}
			sum := int64(0)
			for _, p := range pending {
				sum += p
			}
			most = max(most, sum)
			all, _ := pool.others("")
			require.LessOrEqual(t, pool.Level+all*unit, limit*unit)
			require.GreaterOrEqual(t, pool.Level, int64(0))
		}
		audit := Audit(accesses, 10)
		require.Zero(t, audit.Prefix)
		require.LessOrEqual(t, audit.Window, limit+float64(most)/float64(unit))
	})
}

func TestThePoolGrantsNothingForNothing(t *testing.T) {
	t.Parallel()
	pool := Pool{}
	ask := Draw{Gateway: "a", Want: 5, Cap: 60 * unit, Base: 20 * unit}
	require.Zero(t, pool.Draw(ask).Units)
	ask.Earned = 2*unit + 9999
	require.Equal(t, Grant{Units: 2, Total: 2*unit + 9999, Gateways: 1}, pool.Draw(ask))
	ask.Held = 2
	require.Equal(t, Grant{Keep: 2, Total: 2*unit + 9999, Gateways: 1}, pool.Draw(ask), "a repeated report earns nothing twice")
	other := Draw{Gateway: "b", Earned: 1000 * unit, Cap: 60 * unit, Base: 20 * unit}
	require.EqualValues(t, 20*unit+capPerGateway, pool.Draw(other).Total, "pool and drawn units together are capped")
	other.Cap = 21 * unit
	require.EqualValues(t, 21*unit, pool.Draw(other).Total, "by the cap, however many gateways there are")
	require.Equal(t, Grant{}, pool.Draw(Draw{Gateway: "b", Earned: -5, Want: 3}))
	pool.Lose("a")
	ask.Earned += 5
	require.Zero(t, pool.Draw(ask).Keep, "it was counted as lost")
}

func TestWhatIsHandedBackIsOthersAndCountsOnce(t *testing.T) {
	t.Parallel()
	pool := Pool{}
	a, b := splitter(t, Config{Pooled: true}, 5000), splitter(t, Config{Pooled: true}, 5000)
	draw := func(s *Splitter, name string) {
		d := s.Draw(name)
		require.NoError(t, s.Deposit(d, pool.Draw(d)))
	}
	for range 20 {
		a.Admit(Request{Running: true})
	}
	draw(a, "a")
	require.InDelta(t, 10, a.Credit(), 1e-9, "one gateway alone has all of it")
	draw(b, "b")
	require.Zero(t, b.Credit())
	draw(a, "a") // hears of the other
	d := a.Draw("a")
	require.InDelta(t, 5, a.Credit(), 1e-9)
	pool.Draw(d) // its answer is lost, so it is told again
	a.Unanswered(d)
	draw(a, "a")
	draw(b, "b")
	require.InDelta(t, 5, b.Credit(), 1e-9)
	all, n := pool.others("")
	require.EqualValues(t, 10, all)
	require.EqualValues(t, 3, n)
	require.Zero(t, pool.Level)
}

func TestAVoidedPoolVoidsWhatWasDrawn(t *testing.T) {
	t.Parallel()
	pool := Pool{}
	s := splitter(t, Config{Pooled: true}, 5000)
	for range 6 {
		s.Admit(Request{Running: true})
	}
	d := s.Draw("a")
	require.NoError(t, s.Deposit(d, pool.Draw(d)))
	require.InDelta(t, 3, s.Credit(), 1e-9)
	pool.Void()
	d = s.Draw("a")
	require.NoError(t, s.Deposit(d, pool.Draw(d)))
	require.Zero(t, s.Credit())
	d = s.Draw("a")
	require.EqualValues(t, 1, d.Epoch)
	require.Zero(t, d.Earned)
}

func TestVoidUnitsAreTakenFirst(t *testing.T) {
	t.Parallel()
	pool := Pool{}
	s := splitter(t, Config{Pooled: true}, 5000)
	for range 6 {
		s.Admit(Request{Running: true})
	}
	d := s.Draw("a")
	require.NoError(t, s.Deposit(d, pool.Draw(d)))
	pool.Lose("a")
	d = s.Draw("a")
	require.Equal(t, Canary, s.Admit(Request{Conversation: hashOf(1), OnCanary: true}).Side)
	require.NoError(t, s.Deposit(d, pool.Draw(d)))
	require.Zero(t, s.Credit(), "one was used while the answer was under way, and two are void")
}

func TestWithoutThePoolNobodyTosses(t *testing.T) {
	t.Parallel()
	pool := Pool{}
	s := splitter(t, Config{Pooled: true}, 5000)
	for i := range uint64(100) {
		s.Admit(Request{Conversation: hashOf(i), Running: true})
	}
	require.False(t, s.Admit(Request{Conversation: hashOf(999)}).Coin, "the pool said nothing yet")
	d := s.Draw("a")
	require.NoError(t, s.Deposit(d, pool.Draw(d)))
	require.True(t, s.Admit(Request{Conversation: hashOf(1000)}).Coin)
	s.Unanswered(s.Draw("a"))
	require.False(t, s.Admit(Request{Conversation: hashOf(1001)}).Coin)
	require.Positive(t, s.Credit(), "conversations that are on the canary go on")
	s.Reset()
	require.Zero(t, s.Credit())
	require.Error(t, splitter(t, Config{}, 1).Deposit(Draw{}, Grant{}))
}
