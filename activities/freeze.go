package activities

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/freeze"
	"github.com/refitml/refit/internal/lifecycle"
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

func (p Promotion) frozen(ctx context.Context, in steps.FreezeInput, now time.Time) (*lifecycle.Frozen, error) {
	service, err := p.Registry.Service(ctx, in.Service)
	if err != nil {
		return nil, err
	}
	incidents, err := p.Registry.Freezes(ctx, in.Service, false)
	if err != nil {
		return nil, err
	}
	if len(incidents) == 0 && len(service.Changes.Freezes) == 0 {
		return nil, nil
	}
	levers, err := p.levers(ctx, in)
	if err != nil {
		return nil, err
	}
	return freeze.Calendar{Policy: service.Changes, Incidents: incidents, Zones: time.LoadLocation}.At(now, levers)
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
