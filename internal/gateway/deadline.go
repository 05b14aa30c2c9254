package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/refitml/refit/internal/answer"
)

// clientWaits are the headers by which OpenAI's clients say how many seconds they wait for an answer to begin.
var clientWaits = []string{"X-Stainless-Timeout", "X-Stainless-Read-Timeout"}

// What is believed of a client's time. Less could answer nobody, and more says that nobody cares.
const (
	shortestLimit = time.Millisecond
	longestLimit  = 24 * time.Hour
)

// Why a request's context ended. Only the service's own limit is a failure of who answered: whoever chose a limit for
// itself gave up when it was over, as somebody does who leaves.
var (
	errServiceLimit error = limitError{"the service's time limit is over", context.DeadlineExceeded}
	errClientLimit  error = limitError{"the time that the client gives is over", nil}
)

// limitError is a time limit that is over. What it unwraps to is how answer counts it: context.DeadlineExceeded as an
// error, all else as canceled.
type limitError struct {
	says   string
	counts error
}

func (e limitError) Error() string { return e.says }
func (e limitError) Unwrap() error { return e.counts }

// overdue says whether a request's time is over, which is not its client's having left.
func overdue(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	var over limitError
	return errors.As(context.Cause(ctx), &over)
}

// limits are the times that one request has, counted from its arrival; 0 is none.
type limits struct {
	whole     time.Duration // for the answer as a whole
	clients   bool          // whole is the client's, because that is shorter than the service's
	firstByte time.Duration // for a stream to begin at the client; also the client's
	server    time.Duration // for one model server to begin its answer; 0: the path's own
}

// limitsOf gives the times of a request: the service's, and the client's where those are shorter. An answer that is no
// stream begins when it is whole.
func (l *lane) limitsOf(h http.Header, stream bool) limits {
	l.mu.Lock()
	limit := limits{whole: l.service.Serving.TimeLimit.D(), server: l.service.Serving.FirstByte.D()}
	l.mu.Unlock()
	whole := clientTime(h, answer.HeaderTimeLeft, time.Millisecond)
	for _, name := range clientWaits {
		limit.firstByte = sooner(limit.firstByte, clientTime(h, name, time.Second))
	}
	if !stream {
		whole, limit.firstByte = sooner(whole, limit.firstByte), 0
	}
	if both := sooner(limit.whole, whole); both != limit.whole {
		limit.whole, limit.clients = both, true
	}
	return limit
}

// sooner gives the shorter of two times, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// clientTime reads a time that a client gives in a unit. What stands there twice, is no decimal number or is absurd
// counts as not given.
func clientTime(h http.Header, name string, unit time.Duration) time.Duration {
	values := h[name]
	if len(values) != 1 || strings.Trim(values[0], "0123456789.") != "" {
		return 0
	}
	n, err := strconv.ParseFloat(values[0], 64)
	if err != nil || n*float64(unit) < float64(shortestLimit) || n*float64(unit) > float64(longestLimit) {
		return 0
	}
	return time.Duration(n * float64(unit))
}

// hold puts a request that arrived at a time under its limits, until end is called. begun says that the answer has
// begun at the client.
func (l limits) hold(ctx context.Context, arrived time.Time) (limited context.Context, begun, end func()) {
	begun, end = func() {}, func() {}
	if l.whole > 0 {
		why := errServiceLimit
		if l.clients {
			why = errClientLimit
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, arrived.Add(l.whole), why)
		end = cancel
	}
	if l.firstByte == 0 {
		return ctx, begun, end
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(time.Until(arrived.Add(l.firstByte)), func() { cancel(errClientLimit) })
	outer := end
	return ctx, func() { timer.Stop() }, func() {
		timer.Stop()
		cancel(nil)
		outer()
	}
}

// tooSlow says whether the service's limit ended an attempt that had the better part of it and did not begin to answer.
// One that began may just have had much to say, and one with less time was not given a chance.
func (l limits) tooSlow(ctx context.Context, result *answer.Result) bool {
	return errors.Is(context.Cause(ctx), errServiceLimit) && !result.Started && 2*result.Latency.Model >= l.whole.Seconds()
}

// outcomeOf names how a request ended that its context may have ended.
func outcomeOf(ctx context.Context) string {
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return answer.OutcomeError
	}
	return answer.OutcomeCanceled
}
