package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ChangePolicy says when what serves may not be changed. Rolling back is always allowed.
type ChangePolicy struct {
	TimeZone string         `json:"time_zone,omitempty" jsonschema:"description=IANA name that the windows are read in; default UTC"`
	Freezes  []FreezeWindow `json:"freezes,omitempty" jsonschema:"description=while one of them lasts no promotion begins and no share grows"`
}

// FreezeWindow is a time in which changes wait: every week, or once. It begins with its first minute and ends before
// its last one. Where clocks are set back the later of two equal times ends it and the earlier begins it; where they
// are set forward a time that does not exist is the moment of the change. So it is never shorter than it reads.
type FreezeWindow struct {
	Name     string  `json:"name" jsonschema:"description=1 to 63 lower-case letters digits and dashes"`
	Weekly   string  `json:"weekly,omitempty" jsonschema:"description=every week: Fri 12:00 to Mon 08:00"`
	From     string  `json:"from,omitempty" jsonschema:"description=once: 2026-12-23 18:00"`
	Until    string  `json:"until,omitempty" jsonschema:"description=once: 2027-01-04 08:00"`
	TimeZone string  `json:"time_zone,omitempty" jsonschema:"description=IANA name; default that of changes"`
	Levers   []Lever `json:"levers,omitempty" jsonschema:"enum=prompt,enum=retrieval,enum=weights,enum=parameters,description=holds for releases that change one of them; default all"`
}

// Levered is every lever there is, cheapest first.
func Levered() []Lever { return []Lever{PromptLever, RetrievalLever, WeightsLever, ParametersLever} }

// Freeze is an incident that somebody opened: changes wait until it is closed or ends by itself.
type Freeze struct {
	Service  string    `json:"service"`
	Name     string    `json:"name"`
	Reason   string    `json:"reason"`
	Levers   []Lever   `json:"levers,omitempty"` // empty: all
	OpenedBy Actor     `json:"opened_by"`
	OpenedAt time.Time `json:"opened_at"`
	EndsAt   time.Time `json:"ends_at,omitzero"`   // zero: when somebody closes it
	ClosedAt time.Time `json:"closed_at,omitzero"` // zero: it is open
	ClosedBy *Actor    `json:"closed_by,omitempty"`
}

// Frozen says why a change has to wait and until when.
type Frozen struct {
	By     string    `json:"by"`               // "window weekend", "incident inc-4711", several apart by commas
	Reason string    `json:"reason,omitempty"` // an incident's
	Until  time.Time `json:"until,omitzero"`   // zero: until somebody closes an incident
}

// String is for people: "window weekend until 2026-03-02 07:00:00Z".
func (f Frozen) String() string {
	line := f.By
	if f.Reason != "" {
		line += " (" + f.Reason + ")"
	}
	if f.Until.IsZero() {
		return line + " until it is closed"
	}
	return line + " until " + f.Until.UTC().Format("2006-01-02 15:04Z")
}

// Err refuses a change that the freeze holds.
func (f Frozen) Err() error {
	fields := map[string]string{"frozen_by": f.By}
	if !f.Until.IsZero() {
		fields["until"] = f.Until.UTC().Format(time.RFC3339)
	}
	return &Error{Kind: Refused, Message: "changes are frozen by " + f.String(), Fields: fields}
}

// Wall is a minute of a week, as a clock on a wall shows it: 0 is Monday 00:00.
type Wall int

// WeekMinutes is how many minutes a week has on the wall.
const WeekMinutes Wall = 7 * 24 * 60

// dateForm is how a dated window is written.
const dateForm = "2006-01-02 15:04"

var weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// ParseWeekly reads "Fri 12:00 to Mon 08:00". The end may lie before the begin: it is in the week that follows.
func ParseWeekly(text string) (from, until Wall, err error) {
	fields := strings.Fields(text)
	if len(fields) == 5 && strings.EqualFold(fields[2], "to") {
		var first, second error
		from, first = parseWall(fields[0], fields[1])
		until, second = parseWall(fields[3], fields[4])
		if first == nil && second == nil && from != until {
			return from, until, nil
		}
	}
	return 0, 0, Errorf(Invalid, "%s: give two different times as in 'Fri 12:00 to Mon 08:00'", quote(text))
}

func parseWall(day, clock string) (Wall, error) {
	index := slices.Index(weekdays, strings.ToLower(day))
	at, err := time.Parse("15:04", clock)
	if err != nil || index < 0 || len(clock) != len("15:04") {
		return 0, fmt.Errorf("%s %s is no time of a week", day, clock)
	}
	return Wall(index*24*60 + at.Hour()*60 + at.Minute()), nil
}

// ParseDated reads the two ends of a dated window. What a clock on the wall shows is given as if it were UTC.
func ParseDated(from, until string) (time.Time, time.Time, error) {
	begin, first := time.Parse(dateForm, from)
	end, second := time.Parse(dateForm, until)
	if first != nil || second != nil || !begin.Before(end) {
		return begin, end, Errorf(Invalid, "%s to %s: give two times as in '2026-12-23 18:00', the earlier one first", quote(from), quote(until))
	}
	return begin, end, nil
}

func (p ChangePolicy) withDefaults() ChangePolicy {
	if len(p.Freezes) == 0 {
		return ChangePolicy{TimeZone: p.TimeZone}
	}
	setDefault(&p.TimeZone, "UTC")
	p.Freezes = withDefaults(p.Freezes, func(w *FreezeWindow) { setDefault(&w.TimeZone, p.TimeZone) })
	return p
}

// maxFreezes bounds a declaration, which travels in every run.
const maxFreezes = 64

func (p ChangePolicy) check(faults *Problems, zone func(string) error) {
	if len(p.Freezes) > maxFreezes {
		faults.Add("changes.freezes", itoa(len(p.Freezes)), "give at most %d", maxFreezes)
	}
	if p.TimeZone != "" && zone(p.TimeZone) != nil {
		faults.Add("changes.time_zone", quote(p.TimeZone), "%s", zoneRemedy)
	}
	seen := map[string]bool{}
	for i, w := range p.Freezes {
		at := "changes.freezes[" + itoa(i) + "]"
		if !validName(w.Name) || seen[w.Name] {
			faults.Add(at+".name", quote(w.Name), "%s; each name once", nameRemedy)
		}
		seen[w.Name] = true
		w.check(faults, at)
		if zone(w.TimeZone) != nil {
			faults.Add(at+".time_zone", quote(w.TimeZone), "%s", zoneRemedy)
		}
	}
}

const zoneRemedy = "give a name of the IANA database, such as Europe/Berlin"

func (w FreezeWindow) check(faults *Problems, at string) {
	switch dated := w.From != "" || w.Until != ""; {
	case dated == (w.Weekly != ""):
		faults.Add(at, "weekly "+quote(w.Weekly)+", from "+quote(w.From)+", until "+quote(w.Until), "give either weekly, or from and until")
	case dated:
		if _, _, err := ParseDated(w.From, w.Until); err != nil {
			faults.Add(at+".from", quote(w.From)+" to "+quote(w.Until), "give two times as in '2026-12-23 18:00', the earlier one first")
		}
	default:
		if _, _, err := ParseWeekly(w.Weekly); err != nil {
			faults.Add(at+".weekly", quote(w.Weekly), "give two different times as in 'Fri 12:00 to Mon 08:00'")
		}
	}
	checkLevers(faults, at+".levers", w.Levers)
}

func checkLevers(faults *Problems, at string, levers []Lever) {
	for _, l := range levers {
		if !slices.Contains(Levered(), l) {
			faults.Add(at, quote(string(l)), "give some of %v, or none for all", Levered())
		}
	}
}

// Check gives all faults of an incident that is to be opened. now is the time that it must outlive.
func (f Freeze) Check(now time.Time) error {
	var faults Problems
	if !validName(f.Name) {
		faults.Add("name", quote(f.Name), "%s", nameRemedy)
	}
	if strings.TrimSpace(f.Reason) == "" || len(f.Reason) > MaxReason {
		faults.Add("reason", itoa(len(f.Reason))+" bytes", "say why, in at most %d; it goes to the ledger", MaxReason)
	}
	if !f.EndsAt.IsZero() && !f.EndsAt.After(now) {
		faults.Add("ends_at", "in the past", "give a time to come, or leave it out")
	}
	checkLevers(&faults, "levers", f.Levers)
	return faults.Err("freeze")
}

// MaxReason bounds what people say about a decision, in bytes.
const MaxReason = 2000
