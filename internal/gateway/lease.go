package gateway

import (
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// lease says whether somebody still stands behind the canary's share. The zero value has seen nothing.
type lease struct {
	known   bool
	counter int64
	held    bool      // it was seen to change, and no lapse since
	changed time.Time // by this gateway's monotonic clock
}

// see takes the counter as the registry gave it. The first one says nothing: it may be as old as it likes.
func (l *lease) see(counter int64, now time.Time) {
	if l.known && counter != l.counter {
		l.held, l.changed = true, now
	}
	l.known, l.counter = true, counter
}

// lapse ends a lease that did not change for lifecycle.LeaseTime. It says true once for each that ended.
func (l *lease) lapse(now time.Time) bool {
	if !l.held || now.Sub(l.changed) < lifecycle.LeaseTime {
		return false
	}
	l.held = false
	return true
}
