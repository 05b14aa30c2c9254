package rollout

import (
	"math"
	"slices"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Slowness turns latencies into events: a conversation is slow when its latency is above a quantile of stable's
// latencies before it. The threshold is known before the latency is, which the judge's level needs, and a stall that
// meets both sides makes both slow. It is not safe for use by several goroutines.
type Slowness struct {
	quantile float64
	ring     []time.Duration // stable's newest, in order of arrival
	next     int
	sorted   []time.Duration // the same, sorted
}

// SlowQuantile is the quantile of stable's latencies above which an answer is slow.
const SlowQuantile = 0.95

const (
	slowWindow = 1000 // of stable's latencies that make the threshold
	slowLeast  = 20   // before that nothing is slow
)

// NewSlowness watches a quantile, for example 0.95; it lies strictly between 0 and 1.
func NewSlowness(quantile float64) (*Slowness, error) {
	if !(quantile > 0 && quantile < 1) {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "quantile %v; give one between 0 and 1", quantile)
	}
	return &Slowness{quantile: quantile}, nil
}

// Observe takes the latency of a conversation's first answer, in the order of arrival, and says whether it was slow.
func (s *Slowness) Observe(latency time.Duration, canary bool) bool {
	threshold, known := s.Threshold()
	if !canary {
		s.remember(latency)
	}
	return known && latency > threshold
}

// Threshold gives the quantile now; false before stable answered 20 conversations.
func (s *Slowness) Threshold() (time.Duration, bool) {
	if len(s.sorted) < slowLeast {
		return 0, false
	}
	at := int(math.Ceil(s.quantile*float64(len(s.sorted)))) - 1
	return s.sorted[at], true
}

func (s *Slowness) remember(latency time.Duration) {
	if len(s.ring) < slowWindow {
		s.ring = append(s.ring, latency)
	} else {
		at, _ := slices.BinarySearch(s.sorted, s.ring[s.next])
		s.sorted = slices.Delete(s.sorted, at, at+1)
		s.ring[s.next] = latency
		s.next = (s.next + 1) % slowWindow
	}
	at, _ := slices.BinarySearch(s.sorted, latency)
	s.sorted = slices.Insert(s.sorted, at, latency)
}
