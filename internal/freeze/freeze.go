package freeze

import (
	"slices"
	"strings"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Zones gives a time zone by its IANA name.
type Zones func(name string) (*time.Location, error)

// Calendar is all that can hold a service's changes.
type Calendar struct {
	Policy    lifecycle.ChangePolicy
	Incidents []lifecycle.Freeze // that are open
	Zones     Zones
}

// horizon is how far it is looked for an end or a next freeze.
const horizon = 366 * 24 * time.Hour

// At says whether a change of the given levers has to wait at t; nil where it need not. Freezes that follow each other
// without a gap are one, up to a year: what is frozen for longer says at least that. No lever means that it is not known
// which are changed, and every freeze holds.
func (c Calendar) At(t time.Time, levers []lifecycle.Lever) (*lifecycle.Frozen, error) {
	out := lifecycle.Frozen{}
	var names []string
	endless := false
	for until := t; ; {
		active, err := c.activeAt(until, levers)
		if err != nil {
			return nil, err
		}
		if len(active) == 0 || until.Sub(t) > horizon {
			out.Until = until
			break
		}
		for _, a := range active {
			endless = endless || a.until.IsZero()
			if !slices.Contains(names, a.by) {
				names = append(names, a.by)
			}
			if out.Reason == "" {
				out.Reason = a.reason
			}
			if a.until.After(until) {
				until = a.until
			}
		}
		if endless {
			break
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	out.By = strings.Join(names, ", ")
	return &out, nil
}

// Coming is a freeze that begins.
type Coming struct {
	By     string            `json:"by"`
	Levers []lifecycle.Lever `json:"levers,omitempty"` // empty: all
	From   time.Time         `json:"from"`
	Until  time.Time         `json:"until"`
}

// Next gives the windows' freezes that begin after t and within a year, one a window, the first one first.
func (c Calendar) Next(t time.Time) ([]Coming, error) {
	out := []Coming{}
	for _, w := range c.Policy.Freezes {
		spans, err := c.spans(w, t, t.Add(horizon))
		if err != nil {
			return nil, err
		}
		for _, s := range spans {
			if s.from.After(t) {
				out = append(out, Coming{By: window(w), Levers: w.Levers, From: s.from, Until: s.until})
				break
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Coming) int { return a.From.Compare(b.From) })
	return out, nil
}

// Until gives when the first window begins after t that holds a change of the given levers, within a year, else a year
// after t. It says nothing of freezes that hold at t, nor of incidents.
func (c Calendar) Until(t time.Time, levers []lifecycle.Lever) (time.Time, error) {
	until := t.Add(horizon)
	for _, w := range c.Policy.Freezes {
		if !holds(w.Levers, levers) {
			continue
		}
		spans, err := c.spans(w, t, until)
		if err != nil {
			return t, err
		}
		for _, s := range spans {
			if s.from.After(t) && s.from.Before(until) {
				until = s.from
			}
		}
	}
	return until, nil
}

// active is a freeze that holds at a moment; until is zero where somebody has to close it.
type active struct {
	by, reason string
	until      time.Time
}

func (c Calendar) activeAt(t time.Time, levers []lifecycle.Lever) ([]active, error) {
	var out []active
	for _, i := range c.Incidents {
		open := i.ClosedAt.IsZero() && (i.EndsAt.IsZero() || t.Before(i.EndsAt))
		if open && holds(i.Levers, levers) {
			out = append(out, active{"incident " + i.Name, i.Reason, i.EndsAt})
		}
	}
	for _, w := range c.Policy.Freezes {
		if !holds(w.Levers, levers) {
			continue
		}
		spans, err := c.spans(w, t, t)
		if err != nil {
			return nil, err
		}
		for _, s := range spans {
			if !t.Before(s.from) && t.Before(s.until) {
				out = append(out, active{by: window(w), until: s.until})
			}
		}
	}
	return out, nil
}

func window(w lifecycle.FreezeWindow) string { return "window " + w.Name }

// holds says whether a freeze of some levers holds a change of others. Empty means all of them.
func holds(frozen, changed []lifecycle.Lever) bool {
	if len(frozen) == 0 || len(changed) == 0 {
		return true
	}
	return slices.ContainsFunc(changed, func(l lifecycle.Lever) bool { return slices.Contains(frozen, l) })
}

// span is one time that a window holds, from its first instant to before its last.
type span struct{ from, until time.Time }

// spans gives a window's times that may touch from to until, in order.
func (c Calendar) spans(w lifecycle.FreezeWindow, from, until time.Time) ([]span, error) {
	zone, err := c.Zones(w.TimeZone)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "freeze %s: time zone %s: %w", w.Name, w.TimeZone, err)
	}
	if w.Weekly == "" {
		begin, end, err := lifecycle.ParseDated(w.From, w.Until)
		if err != nil {
			return nil, lifecycle.Wrap(err, "freeze %s", w.Name)
		}
		return between(nil, begin, end, zone), nil
	}
	begin, end, err := lifecycle.ParseWeekly(w.Weekly)
	if err != nil {
		return nil, lifecycle.Wrap(err, "freeze %s", w.Name)
	}
	if end < begin {
		end += lifecycle.WeekMinutes
	}
	var out []span
	for monday := mondayOf(from.In(zone)).AddDate(0, 0, -14); monday.Before(until.Add(14 * 24 * time.Hour)); monday = monday.AddDate(0, 0, 7) {
		out = between(out, monday.Add(time.Duration(begin)*time.Minute), monday.Add(time.Duration(end)*time.Minute), zone)
	}
	return out, nil
}

// between appends the span between two times on the wall, unless the clocks skipped all of it.
func between(out []span, begin, end time.Time, zone *time.Location) []span {
	s := span{first(begin, zone), last(end, zone)}
	if s.from.Before(s.until) {
		out = append(out, s)
	}
	return out
}

// mondayOf gives midnight of t's Monday as the wall shows it, written as UTC.
func mondayOf(t time.Time) time.Time {
	year, month, day := t.Date()
	back := (int(t.Weekday()) + 6) % 7
	return time.Date(year, month, day-back, 0, 0, 0, 0, time.UTC)
}

// first gives the first instant at which the wall shows at least the given time, which is written as UTC.
func first(wall time.Time, zone *time.Location) time.Time {
	for _, z := range around(wall, zone) {
		at := wall.Add(-z.offset)
		if at.Before(z.from) {
			at = z.from // the clocks were set over it
		}
		if at.Before(z.until) {
			return at
		}
	}
	return wall // never: the last stretch reaches beyond it
}

// last gives the first instant from which on the wall never again shows less than the given time.
func last(wall time.Time, zone *time.Location) time.Time {
	stretches := around(wall, zone)
	for _, z := range slices.Backward(stretches) {
		at := wall.Add(-z.offset)
		if at.After(z.until) {
			at = z.until
		}
		if at.After(z.from) {
			return at
		}
	}
	return wall // never: the first stretch begins before it
}

// stretch is a time in which a zone's clocks are not changed.
type stretch struct {
	from, until time.Time
	offset      time.Duration // of the wall before UTC
}

// around lists the stretches of two days about a time on the wall, wherever on earth the wall is.
func around(wall time.Time, zone *time.Location) []stretch {
	const reach = 48 * time.Hour
	end := wall.Add(reach)
	var out []stretch
	for at := wall.Add(-reach).In(zone); at.Before(end); {
		_, seconds := at.Zone()
		s := stretch{at, end, time.Duration(seconds) * time.Second}
		if _, until := at.ZoneBounds(); !until.IsZero() && until.Before(end) {
			s.until = until
		}
		out = append(out, s)
		at = s.until.In(zone)
	}
	return out
}
