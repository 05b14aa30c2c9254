package server

import (
	"context"
	"net/http"
	"sync/atomic"
)

// slots bounds how many requests are computed at once and how many wait for that.
type slots struct {
	free    chan struct{}
	waiting atomic.Int64
	queue   int64
}

func newSlots(n, queue int) *slots { return &slots{free: make(chan struct{}, n), queue: int64(queue)} }

// take waits for a slot, which release gives back. With too many waiting already it is a problem at once.
func (s *slots) take(ctx context.Context) (release func(), err error) {
	release = func() { <-s.free }
	select {
	case s.free <- struct{}{}:
		return release, nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.queue {
		return nil, newProblem(http.StatusTooManyRequests, "rate_limit_error", "", "too_busy", "Too many requests are waiting; try again later.")
	}
	select {
	case s.free <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
