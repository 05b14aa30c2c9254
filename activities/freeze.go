package activities

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/freeze"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// freezeLooks is how many looks at the evidence come to one at the calendar: it is asked every 5 s.
const freezeLooks = 5

// CheckFreeze says whether a change has to wait now. The newest declaration counts, not the one that the run began
// with: who declares a holiday means the promotions that are under way, too.
func (p Promotion) CheckFreeze(ctx context.Context, in steps.FreezeInput) (steps.FreezeResult, error) {
	frozen, err := p.frozen(ctx, in, time.Now())
	return steps.FreezeResult{Frozen: frozen}, err
}

// AwaitThaw ends when nothing holds the change any more.
func (p Promotion) AwaitThaw(ctx context.Context, in steps.FreezeInput) (steps.FreezeResult, error) {
	ctx, done := long(ctx, nil)
	defer done()
	for {
		frozen, err := p.frozen(ctx, in, time.Now())
		if err != nil || frozen == nil {
			return steps.FreezeResult{}, err
		}
		if err := pause(ctx, freezeLooks*p.look()); err != nil {
			return steps.FreezeResult{}, err
		}
	}
}

// again is how soon a change is tried anew that was held by what the calendar did not say yet.
const again = 100 * time.Millisecond

// unfrozen makes a change in the same transaction that sees that no freeze holds it; what holds it is given, and
// nothing changed. A freeze that began after the calendar was read is seen there, and the calendar is read anew.
func (p Promotion) unfrozen(ctx context.Context, in *steps.FreezeInput, glass time.Time, change func(*registry.Leave) error) (*lifecycle.Frozen, error) {
	if in == nil {
		return nil, change(nil)
	}
	for {
		leave, frozen, err := p.leave(ctx, *in, glass)
		if err != nil {
			return nil, err
		}
		// Tried in a freeze, too: a change that was made before is no new one.
		if err := change(&leave); !registry.HeldByFreeze(err) || frozen != nil {
			if err == nil {
				frozen = nil
			}
			return frozen, notHeld(err)
		}
		if err := pause(ctx, again); err != nil {
			return nil, err
		}
	}
}

func notHeld(err error) error {
	if registry.HeldByFreeze(err) {
		return nil
	}
	return err
}

// leave reads the calendar. In a freeze the leave has ended.
func (p Promotion) leave(ctx context.Context, in steps.FreezeInput, glass time.Time) (registry.Leave, *lifecycle.Frozen, error) {
	now := time.Now()
	out := registry.Leave{Until: time.Unix(0, 0), Glass: glass}
	if now.Before(glass) {
		return out, nil, nil
	}
	version, err := p.Registry.ServiceVersion(ctx, in.Service) // before the declaration: one that is newer than it shows
	if err != nil {
		return out, nil, err
	}
	out.Version = version.Version
	calendar, levers, err := p.calendar(ctx, in)
	if err != nil {
		return out, nil, err
	}
	out.Levers = levers
	frozen, err := calendar.At(now, levers)
	if err == nil && frozen == nil {
		out.Until, err = calendar.Until(now, levers)
	}
	return out, frozen, err
}

func (p Promotion) frozen(ctx context.Context, in steps.FreezeInput, now time.Time) (*lifecycle.Frozen, error) {
	calendar, levers, err := p.calendar(ctx, in)
	if err != nil {
		return nil, err
	}
	return calendar.At(now, levers)
}

// calendar gives all that may hold a change, and what the change changes, where that matters.
func (p Promotion) calendar(ctx context.Context, in steps.FreezeInput) (freeze.Calendar, []lifecycle.Lever, error) {
	service, err := p.Registry.Service(ctx, in.Service)
	if err != nil {
		return freeze.Calendar{}, nil, err
	}
	incidents, err := p.Registry.Freezes(ctx, in.Service, false)
	if err != nil {
		return freeze.Calendar{}, nil, err
	}
	out := freeze.Calendar{Policy: service.Changes, Incidents: incidents, Zones: time.LoadLocation}
	if len(incidents) == 0 && len(service.Changes.Freezes) == 0 {
		return out, nil, nil
	}
	levers, err := p.levers(ctx, in)
	return out, levers, err
}

// levers gives what a change changes; of a first release that is not known, so everything.
func (p Promotion) levers(ctx context.Context, in steps.FreezeInput) ([]lifecycle.Lever, error) {
	if in.Baseline == "" || in.Release == "" {
		return nil, nil
	}
	_, before, err := p.Registry.Release(ctx, in.Service, string(in.Baseline))
	if err != nil {
		return nil, err
	}
	_, after, err := p.Registry.Release(ctx, in.Service, string(in.Release))
	return lifecycle.Levers(before, after), err
}
