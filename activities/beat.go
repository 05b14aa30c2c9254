package activities

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
)

// beatInterval: well within the shortest heartbeat time-out.
const beatInterval = 3 * time.Second

// errWorkerStops is the cause of a context that ends because the worker does. It is no cancellation: the next
// try, at another worker or at this one after its restart, goes on from where this one leaves off.
var errWorkerStops = errors.New("the worker stops; the next try goes on from here")

// beat heartbeats until the returned function is called, also when the step was cancelled and tidies up. details
// gives what a follower and the next try may see; nil: nothing.
func beat(ctx context.Context, details func() any) (stop func()) {
	ctx = context.WithoutCancel(ctx)
	record := func() {
		if details == nil {
			activity.RecordHeartbeat(ctx)
			return
		}
		activity.RecordHeartbeat(ctx, details())
	}
	done := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		ticker := time.NewTicker(beatInterval)
		defer ticker.Stop()
		for {
			record()
			select {
			case <-ticker.C:
			case <-done:
				if details != nil { // the next try, if there is one, begins with what is true now
					record()
				}
				return
			}
		}
	})
	return func() {
		close(done)
		beating.Wait()
	}
}

// long is beat for a step that takes longer than a worker's stop waits: its context ends at once when the worker
// stops, with that as its cause.
func long(ctx context.Context, details func() any) (context.Context, func()) {
	rest := beat(ctx, details)
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	stops := activity.GetWorkerStopChannel(ctx)
	select {
	case <-stops: // already
		cancel(errWorkerStops)
	default:
	}
	go func() {
		select {
		case <-stops:
			cancel(errWorkerStops)
		case <-watched:
		}
	}()
	return ctx, func() {
		close(watched)
		cancel(nil)
		rest()
	}
}

// canceled says whether the workflow asked the step to end. A worker that stops and a server that does not
// answer are no such thing.
func canceled(ctx context.Context) bool {
	return ctx.Err() != nil && temporal.IsCanceledError(context.Cause(ctx))
}

// stopped gives an error where the step has to end, for whatever reason.
func stopped(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return lifecycle.Errorf(lifecycle.Unavailable, "the step was stopped: %w", context.Cause(ctx))
}

// pause waits, or gives the error for which the step has to end.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return stopped(ctx)
	}
}

// report is the progress of a step: written by the step, read by its heartbeats.
type report struct {
	mu   sync.Mutex
	last lifecycle.Progress
}

func (r *report) set(p lifecycle.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = p
}

// details is what heartbeats carry: one lifecycle.Progress.
func (r *report) details() any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func orDefault(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.Default()
	}
	return log
}
