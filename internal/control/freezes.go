package control

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/freeze"
	"github.com/refitml/refit/internal/lifecycle"
)

// FreezesInput names a service.
type FreezesInput struct {
	Service string `json:"service"`
	All     bool   `json:"all,omitempty"` // incidents that are over, too
}

// FreezesResult is what holds changes, and what will.
type FreezesResult struct {
	Frozen    *lifecycle.Frozen        `json:"frozen,omitempty"` // what holds some change now; nil: nothing
	Next      []freeze.Coming          `json:"next"`             // within a year, one a window, the first one first
	Windows   []lifecycle.FreezeWindow `json:"windows"`
	Incidents []lifecycle.Freeze       `json:"incidents"` // newest first
}

// Freezes shows a service's freezes.
var Freezes = UseCase[FreezesInput, FreezesResult]{"freezes", Viewer, (*Control).freezes}

func (c *Control) freezes(ctx context.Context, _ Caller, in FreezesInput) (FreezesResult, error) {
	calendar, err := c.calendar(ctx, in.Service)
	if err != nil {
		return FreezesResult{}, err
	}
	out := FreezesResult{Windows: append([]lifecycle.FreezeWindow{}, calendar.Policy.Freezes...), Incidents: calendar.Incidents}
	if out.Frozen, err = calendar.At(c.cfg.Now(), nil); err != nil {
		return FreezesResult{}, err
	}
	if out.Next, err = calendar.Next(c.cfg.Now()); err != nil {
		return FreezesResult{}, err
	}
	if in.All {
		out.Incidents, err = c.cfg.Registry.Freezes(ctx, in.Service, true)
	}
	return out, err
}

func (c *Control) calendar(ctx context.Context, service string) (freeze.Calendar, error) {
	declared, err := c.cfg.Registry.Service(ctx, service)
	if err != nil {
		return freeze.Calendar{}, err
	}
	incidents, err := c.cfg.Registry.Freezes(ctx, service, false)
	return freeze.Calendar{Policy: declared.Changes, Incidents: incidents, Zones: time.LoadLocation}, err
}

// CheckFreezeInput asks whether a change would have to wait.
type CheckFreezeInput struct {
	Service string    `json:"service"`
	Release string    `json:"release,omitempty"` // to be promoted, by ID or its beginning; default: any change at all
	At      time.Time `json:"at,omitzero"`       // default now
}

// CheckFreezeResult is the answer.
type CheckFreezeResult struct {
	At     time.Time         `json:"at"`
	Levers []lifecycle.Lever `json:"levers,omitempty"` // that the release changes; empty: taken as all
	Frozen *lifecycle.Frozen `json:"frozen,omitempty"` // nil: it need not wait
}

// CheckFreeze says whether a promotion would be held at a time. Incidents are taken as they are now.
var CheckFreeze = UseCase[CheckFreezeInput, CheckFreezeResult]{"check-freeze", Viewer, (*Control).checkFreeze}

func (c *Control) checkFreeze(ctx context.Context, _ Caller, in CheckFreezeInput) (CheckFreezeResult, error) {
	out := CheckFreezeResult{At: in.At}
	if out.At.IsZero() {
		out.At = c.cfg.Now().UTC()
	}
	calendar, err := c.calendar(ctx, in.Service)
	if err != nil {
		return out, err
	}
	if in.Release != "" {
		if out.Levers, err = c.levers(ctx, in.Service, in.Release); err != nil {
			return out, err
		}
	}
	out.Frozen, err = calendar.At(out.At, out.Levers)
	return out, err
}

// levers gives what a release would change of what serves; of a first release that is everything.
func (c *Control) levers(ctx context.Context, service, release string) ([]lifecycle.Lever, error) {
	_, after, err := c.cfg.Registry.Release(ctx, service, release)
	if err != nil {
		return nil, err
	}
	route, err := c.cfg.Registry.Route(ctx, service)
	if err != nil || route.Stable == "" {
		return nil, err
	}
	_, before, err := c.cfg.Registry.Release(ctx, service, string(route.Stable))
	return lifecycle.Levers(before, after), err
}

// OpenFreezeInput opens an incident.
type OpenFreezeInput struct {
	Service string            `json:"service"`
	Name    string            `json:"name"`
	Reason  string            `json:"reason"`
	Levers  []lifecycle.Lever `json:"levers,omitempty"` // default: all
	EndsAt  time.Time         `json:"ends_at,omitzero"` // default: when somebody closes it
}

// OpenFreeze holds a service's changes. Whoever is on call may do that.
var OpenFreeze = UseCase[OpenFreezeInput, lifecycle.Freeze]{"open-freeze", Operator, (*Control).openFreeze}

func (c *Control) openFreeze(ctx context.Context, caller Caller, in OpenFreezeInput) (lifecycle.Freeze, error) {
	f := lifecycle.Freeze{
		Service: in.Service, Name: in.Name, Reason: in.Reason, Levers: in.Levers, EndsAt: in.EndsAt, OpenedBy: caller.actor(),
	}
	if err := f.Check(c.cfg.Now()); err != nil {
		return lifecycle.Freeze{}, err
	}
	return c.cfg.Registry.OpenFreeze(ctx, f)
}

// CloseFreezeInput names an incident.
type CloseFreezeInput struct {
	Service string `json:"service"`
	Name    string `json:"name"`
	Reason  string `json:"reason,omitempty"`
}

// CloseFreeze lets changes go on. That asks for more than opening one, as breaking the glass does.
var CloseFreeze = UseCase[CloseFreezeInput, lifecycle.Freeze]{"close-freeze", Approver,
	func(c *Control, ctx context.Context, caller Caller, in CloseFreezeInput) (lifecycle.Freeze, error) {
		return c.cfg.Registry.CloseFreeze(ctx, in.Service, in.Name, caller.actor(), in.Reason)
	}}
