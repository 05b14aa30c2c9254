package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
)

// startersProven is the change from which on a name that stands in the input counts only with a grant. Runs that began before
// it believe what it says.
const startersProven = "starters-proven"

// first is the first of two persons that are asked for, because who started the run is not proven.
type first struct {
	approver string
	until    time.Time // its grant's end; zero: it counts as long as the run
}

// firstOfTwo is said of a grant that is not enough yet.
const firstOfTwo = " (the first of two: who started the run is not proven)"

// starter is who started the run; empty: nobody knows.
func (p *promotion) starter() string {
	if p.proving && !p.by.Proven() {
		return ""
	}
	return p.in.By
}

// checkSecond refuses who started the run where a second person is asked for. Who started it may be anybody where that is not
// proven: then two persons are asked for, each with a grant, and the second may not be the first.
func (p *promotion) checkSecond(purpose, what, approver string, now time.Time) error {
	switch starter := p.starter(); {
	case starter == "" && !p.proving:
		return lifecycle.Errorf(lifecycle.Refused, "%s: a second person gives it, and who started the promotion is not known; start it with `refit promote`", purpose)
	case starter != "" && approver == starter:
		return lifecycle.Errorf(lifecycle.Refused, "%s: %s started the promotion; a second person gives it", purpose, approver)
	case starter == "" && p.waitsForSecond(what, now) && p.firsts[what].approver == approver:
		return lifecycle.Errorf(lifecycle.Refused, "%s: %s gave the first of two; somebody else gives the second, because who started the promotion is not proven", purpose, approver)
	}
	return nil
}

func (p *promotion) waitsForSecond(what string, now time.Time) bool {
	f, ok := p.firsts[what]
	return ok && (f.until.IsZero() || now.Before(f.until))
}

// bothAllow says whether a grant is enough: who gives it is not who started the run, or is the second of two.
func (p *promotion) bothAllow(ctx workflow.Context, what string, g lifecycle.Grant) bool {
	if p.starter() != "" || p.waitsForSecond(what, workflow.Now(ctx)) {
		return true
	}
	f := first{approver: g.Approver}
	if g.Purpose == lifecycle.BreakGlass {
		f.until = g.Expires
	}
	p.firsts[what] = f
	p.note(ctx, p.state.Phase, fmt.Sprintf("%s: %s gave the first of two grants; somebody else gives the second, because who started the run is not proven", what, g.Approver))
	return false
}
