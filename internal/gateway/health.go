package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// attempt is what became of a place on a model server.
type attempt int

const (
	serverUnasked  attempt = iota // nothing was learned: not asked, or the client left before the server answered
	serverAnswered                // the server did its part, if only by refusing a bad request
	serverFailed                  // the server's own failure: a 5xx, not serving the model, an answer that broke off
	serverSlow                    // nothing came in time
	serverAway                    // no connection
)

// attemptOf reads what an answer's end says of the server that was asked.
func attemptOf(ctx context.Context, result *answer.Result, err error) attempt {
	if err == nil {
		return serverAnswered
	}
	var said *answer.UpstreamError
	var connection *net.OpError
	switch {
	case result.Latency.Model == 0: // it was not asked
		return serverUnasked
	case answer.TooSlow(err):
		return serverSlow
	case ctx.Err() != nil || result.Outcome == answer.OutcomeCanceled:
		return serverUnasked
	case errors.As(err, &said):
		if said.Status >= http.StatusInternalServerError || said.Status == http.StatusNotFound {
			return serverFailed
		}
		return serverAnswered
	case errors.As(err, &connection) && connection.Op == "dial":
		return serverAway
	default:
		return serverFailed
	}
}

// When a server is taken out, and for how long. A failure weighs 1 and being too slow 3; an answer makes it 0.
const (
	tooManyFailures = 5
	slowWeight      = 3
	longestOut      = 30 * time.Second
)

// health is what was learned of one release on one server. What a canary does to its servers says nothing about
// stable on the same ones.
type health struct {
	failures int           // in a row, by weight
	isOut    bool          // it gets no requests, but for one that tries it
	out      time.Duration // how long it was taken out last; 0: it was not since it answered well
	until    time.Time     // when it may be tried
	probing  bool          // a request tries it
}

// patient is a release on a server.
type patient struct {
	url     string
	release lifecycle.Digest
}

// standing of a server at a moment.
type standing int

const (
	in      standing = iota
	due              // out, and one request may try it
	outside          // out
)

func (h *health) standing(now time.Time) standing {
	switch {
	case h == nil || !h.isOut:
		return in
	case !h.probing && !now.Before(h.until):
		return due
	default:
		return outside
	}
}

// began says that a server has begun an answer. That is enough to get requests again, but not to be forgiven: one
// that then breaks off is out again, and for longer.
func (h *health) began() (changed bool) {
	if !h.isOut {
		return false
	}
	h.isOut, h.probing, h.failures = false, false, tooManyFailures-1
	return true
}

// learn takes what became of an attempt, which tried a server that was out where probe says so. It says whether the
// standing changed. first is how long a server is out at first; each time that it fails again it is twice as long.
func (h *health) learn(what attempt, probe bool, now time.Time, first time.Duration) (changed bool) {
	if probe {
		h.probing = false
	}
	switch what {
	case serverUnasked:
		return false
	case serverAnswered:
		wasOut := h.isOut
		*h = health{}
		return wasOut
	case serverAway:
		h.failures = tooManyFailures
	case serverSlow:
		h.failures += slowWeight
	case serverFailed:
		h.failures++
	}
	if h.failures < tooManyFailures || h.isOut && !probe {
		return false // in, or out already: what was under way then says nothing new
	}
	h.isOut, h.out = true, max(first, min(2*h.out, longestOut))
	h.until = now.Add(h.out)
	return true
}

// healthSaid tells people that a server was taken out or came back. It is called under the balancer's lock.
func (g *Gateway) healthSaid(server patient, isOut bool, out time.Duration) {
	log := g.config.Log.With("server", server.url, "release", server.release.Short())
	if !isOut {
		log.Info("a model server answers again")
		return
	}
	g.metrics.ejected.Inc()
	log.Warn("a model server fails and is left alone", "for", out)
}
