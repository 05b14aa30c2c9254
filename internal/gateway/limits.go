package gateway

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// limitSeconds is the time that a key's limits are counted over.
const limitSeconds = 60

// window counts what happened within the last minute, second by second. No minute, wherever it begins, holds more
// than was allowed: a second counts until it lies wholly behind. Safe for concurrent use.
type window struct {
	limit int64

	mu     sync.Mutex
	counts [limitSeconds + 1]int64 // by second, in a ring
	second int64                   // newest one counted
	used   int64                   // sum of counts
	held   int64                   // reserved by what is under way; it counts until it is settled
}

// quota is what a window says of itself at a request.
type quota struct {
	left  int64
	reset time.Duration // until nothing counts any more
	wait  time.Duration // until what was refused may be asked again; 0 where it never will be
}

// take counts n, unless that would be more than the limit.
func (w *window) take(at time.Duration, n int64) (quota, bool) { return w.ask(at, n, false) }

// reserve holds n until settle, unless that would be more than the limit.
func (w *window) reserve(at time.Duration, n int64) (quota, bool) { return w.ask(at, n, true) }

// ask is take and reserve. at is the time since some fixed moment; it never goes back.
func (w *window) ask(at time.Duration, n int64, hold bool) (quota, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	ok := w.used+w.held+n <= w.limit
	if ok && hold {
		w.held += n
	} else if ok {
		w.count(n)
	}
	q := quota{left: max(0, w.limit-w.used-w.held), reset: w.until(at, w.used)}
	if !ok && n <= w.limit {
		q.wait = max(w.until(at, w.used+w.held+n-w.limit), time.Second)
	}
	return q, ok
}

// settle counts what a reservation really was, which may be more.
func (w *window) settle(at time.Duration, reserved, was int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	w.held -= reserved
	w.count(was)
}

func (w *window) count(n int64) {
	w.counts[w.second%int64(len(w.counts))] += n
	w.used += n
}

// advance forgets the seconds that lie behind.
func (w *window) advance(at time.Duration) {
	now := int64(at / time.Second)
	for passed := 0; w.second < now; passed++ {
		if passed == len(w.counts) {
			w.second = now
			break
		}
		w.second++
		slot := &w.counts[w.second%int64(len(w.counts))]
		w.used -= *slot
		*slot = 0
	}
}

// until is the time until n of what is counted has left the window; all of it where there is less.
func (w *window) until(at time.Duration, n int64) time.Duration {
	size := int64(len(w.counts))
	var last time.Duration
	for age := size - 1; age >= 0 && n > 0; age-- { // oldest first
		second := w.second - age
		if second < 0 || w.counts[second%size] == 0 {
			continue
		}
		n -= w.counts[second%size]
		last = time.Duration(second+size)*time.Second - at
	}
	return last
}

// Headers of limits, as OpenAI spells them.
const (
	limitHeader     = "X-Ratelimit-Limit-"
	remainingHeader = "X-Ratelimit-Remaining-"
	resetHeader     = "X-Ratelimit-Reset-"
)

// show says in an answer's headers what is left of a limit of "Requests" or "Tokens".
func (w *window) show(h http.Header, what string, q quota) {
	h[limitHeader+what] = []string{strconv.FormatInt(w.limit, 10)}
	h[remainingHeader+what] = []string{strconv.FormatInt(q.left, 10)}
	h[resetHeader+what] = []string{q.reset.Round(time.Millisecond).String()}
}

// seconds rounds a wait up to whole seconds, for Retry-After.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
