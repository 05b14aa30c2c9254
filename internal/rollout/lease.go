package rollout

import (
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Lease follows the counter that the controller of a rollout renews. It is held while the counter was seen to change
// within the last lifecycle.LeaseTime on the clock of whoever asks, which must be monotonic (time.Now is). The first
// value seen is no change: nobody knows how old it is. The zero value holds nothing; it is safe for use by several
// goroutines.
type Lease struct {
	mu      sync.Mutex
	seen    bool
	counter int64
	changed time.Time // zero: never
}

// See takes a value of the counter, read at now. Any other value than the last is a change; the counter is the
// controller's, and a new controller may start anew.
func (l *Lease) See(counter int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen && counter != l.counter {
		l.changed = now
	}
	l.seen, l.counter = true, counter
}

// Held says whether a share may be served at now.
func (l *Lease) Held(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.changed.IsZero() && now.Sub(l.changed) < lifecycle.LeaseTime
}

// Left gives the time until the lease lapses unless it is renewed; 0 where it is not held.
func (l *Lease) Left(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed.IsZero() {
		return 0
	}
	return max(0, lifecycle.LeaseTime-now.Sub(l.changed))
}
