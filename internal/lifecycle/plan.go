package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// TrafficSeen is what a service's users did lately: what a rollout's plan is made of.
type TrafficSeen struct {
	Since         time.Time        `json:"since"`            // zero: nothing was captured
	Seen          Duration         `json:"seen"`             // how long before now it was captured
	Conversations int64            `json:"conversations"`    // that began in it
	Stable        int64            `json:"stable"`           // of them, with an answer of stable
	Events        map[string]int64 `json:"events,omitempty"` // of those by metric, that had an event there
	OneIn         int64            `json:"one_in,omitempty"` // of so many conversations one was counted; 0: all of them were
}

// RolloutPlan says what each step of a rollout will need at the traffic that was seen. Texts are made where the numbers
// are (Described), so that workflows, which show them, compute nothing.
type RolloutPlan struct {
	PerDay float64    `json:"conversations_per_day"` // 0: not known
	Basis  string     `json:"basis"`                 // what was seen, or why nothing is known
	Shadow *StepPlan  `json:"shadow,omitempty"`      // of the shadow step, in pairs; nil: there is none
	Steps  []StepPlan `json:"steps"`
	InAll  string     `json:"in_all,omitempty"` // how long all steps take at least, for people; empty: not known
}

// StepPlan is one step. Numbers are what a release needs that is as good as stable; a worse one needs more.
type StepPlan struct {
	Share  BasisPoints `json:"share_bp"`
	Canary int64       `json:"canary"`         // conversations on the canary that it needs; 0: no number is enough
	Days   float64     `json:"days,omitempty"` // at least; 0: not known
	Bound  Duration    `json:"bound"`          // of the step's time
	Why    string      `json:"why"`            // what decides the number
	Late   bool        `json:"late,omitempty"` // it cannot end before its bound
	Text   string      `json:"text,omitempty"` // all of it for people
}

// Days is how long all steps take at least; false where that is not known.
func (p RolloutPlan) Days() (days float64, known bool) {
	all := p.Steps
	if p.Shadow != nil {
		all = append([]StepPlan{*p.Shadow}, all...)
	}
	for _, s := range all {
		days += s.Days
		if s.Days == 0 {
			return 0, false
		}
	}
	return days, len(p.Steps) > 0
}

// Described fills in the texts.
func (p RolloutPlan) Described() RolloutPlan {
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		p.Steps[i].Text = p.Steps[i].describe("conversations on the canary")
	}
	if p.Shadow != nil {
		shadow := *p.Shadow
		shadow.Text = shadow.describe("pairs of answers")
		p.Shadow = &shadow
	}
	p.InAll = ""
	if days, known := p.Days(); known {
		p.InAll = "about " + daysText(days)
	}
	return p
}

func (s StepPlan) describe(what string) string {
	if s.Canary == 0 {
		return "no number of conversations is enough: " + s.Why
	}
	line := fmt.Sprintf("%d %s (%s)", s.Canary, what, s.Why)
	if s.Days > 0 {
		line += ", about " + daysText(s.Days)
	}
	return line + " of " + s.Bound.String()
}

func daysText(days float64) string {
	switch {
	case days < 1.0/24:
		return fmt.Sprintf("%.0f min", days*24*60+0.5)
	case days < 2:
		return fmt.Sprintf("%.1f h", days*24)
	default:
		return fmt.Sprintf("%.1f days", days)
	}
}

// Err refuses a plan of which a step cannot end before its bound. What is not known is refused by nobody: it would
// keep every service from its first rollout.
func (p RolloutPlan) Err() error {
	var late []string
	if s := p.Shadow; s != nil && s.Late {
		late = append(late, fmt.Sprintf("shadow step at %s: %s", s.Share, s.Text))
	}
	for i, s := range p.Steps {
		if s.Late {
			late = append(late, fmt.Sprintf("step %d at %s: %s", i+1, s.Share, s.Text))
		}
	}
	if len(late) == 0 {
		return nil
	}
	return &Error{
		Kind:    Refused,
		Message: "the plan cannot end in time (" + p.Basis + "): " + strings.Join(late, "; ") + "; change rollout.steps, or promote with --accept-late",
		Fields:  map[string]string{"late_steps": itoa(len(late))},
	}
}

// Lines is the plan for people, a line for what it rests on, one a step, and one for all of them.
func (p RolloutPlan) Lines() []string {
	lines := []string{"plan: " + p.Basis}
	add := func(name string, s StepPlan) {
		line := fmt.Sprintf("  %s at %s: %s", name, s.Share, s.Text)
		if s.Late {
			line += " - too late"
		}
		lines = append(lines, line)
	}
	if p.Shadow != nil {
		add("shadow step", *p.Shadow)
	}
	for i, s := range p.Steps {
		add(fmt.Sprintf("step %d", i+1), s)
	}
	if p.InAll != "" {
		lines = append(lines, "  in all "+p.InAll+" for a release that is as good as stable, without approvals and freezes")
	}
	return lines
}
