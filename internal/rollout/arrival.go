package rollout

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// settling is how long at most an event waits for those who tossed before its conversation.
const settling = 10 * time.Second

// arrival is an event in its place.
type arrival struct {
	at int64
	c  *Conversation
}

// arrivals gives a metric's events that may be weighed now, in their order.
//
// Of two equal sides the one that answers faster shows its events first: a look, and every beginning of the order, would
// see too many of them. So an event takes the place that it would have if its conversation's first answer had taken as
// long as it took until all who tossed before it were answered, [settling] at most; what came so long after the answer
// comes so long after that. Who is slower than that on one side only is not made up for.
func (e Evidence) arrivals(metric string) []arrival {
	var out []arrival
	latest, open := int64(math.MinInt64), false
	for i := range e.Conversations {
		c := &e.Conversations[i]
		open = open || c.Open
		if !c.Coin {
			continue
		}
		latest = max(latest, c.Answered)
		at, had := c.Events[metric]
		if !had {
			continue
		}
		if e.Now != 0 {
			wait := settling.Microseconds()
			if !open {
				wait = min(wait, latest-c.Started)
			}
			at = max(at, at+c.Started+wait-c.Answered)
			if at > e.Now {
				continue
			}
		}
		out = append(out, arrival{at, c})
	}
	slices.SortStableFunc(out, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	return out
}
