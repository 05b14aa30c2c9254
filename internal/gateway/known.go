package gateway

import (
	"time"

	"github.com/refitml/refit/internal/capture"
)

// known follows up to when it is known who tossed a coin for a canary and who answered them. Which records are in the
// database is no fair sample of what was served: of those that tossed last, the ones whose side answers faster are
// there first. Its methods are called with the lane's lock held.
type known struct {
	until   time.Time // every conversation that tossed before, and every copy of a shadow step that began before, is in the database, or was given up and counted; zero: not known
	coins   []*coin   // in their order; the first one's answer is not captured yet
	asked   time.Time // that until becomes when the spool is loaded to mark; zero: nothing is waited for
	pending capture.Mark
}

// coin is a conversation that tossed and whose first answer is under way, or a copy of a shadow step that is.
type coin struct {
	at       time.Time
	captured bool
}

func (k *known) toss(at time.Time) *coin {
	c := &coin{at: at}
	k.coins = append(k.coins, c)
	return c
}

// settle says that the coin's first answer was captured, or ended without a record.
func (k *known) settle(c *coin) {
	c.captured = true
	for len(k.coins) > 0 && k.coins[0].captured {
		k.coins[0] = nil
		k.coins = k.coins[1:]
	}
}

// look asks how far the spool is.
func (k *known) look(spool Capture, now time.Time) time.Time {
	k.arrive(spool)
	if k.asked.IsZero() {
		asked := now
		if len(k.coins) > 0 {
			asked = k.coins[0].at
		}
		// The mark is asked for last: what was captured before now stands before it.
		if mark, ok := spool.Mark(); ok {
			k.asked, k.pending = asked, mark
		}
		k.arrive(spool)
	}
	return k.until
}

func (k *known) arrive(spool Capture) {
	if !k.asked.IsZero() && spool.Loaded(k.pending) {
		k.until, k.asked = k.asked, time.Time{}
	}
}
