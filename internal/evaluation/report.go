package evaluation

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Report explains a verdict. Its JSON is stable.
type Report struct {
	Verdict         lifecycle.Verdict  `json:"verdict"`
	Capabilities    []CapabilityReport `json:"capabilities,omitempty"`
	ChanceUnchanged float64            `json:"chance_unchanged"` // that a candidate as good as the baseline passes; 0 where nothing was compared
	AttemptsError   float64            `json:"attempts_error"`   // chance that one of so many attempts at the margin passed; 0 likewise
}

// CapabilityReport is what stands behind one capability's verdict. Differences are in the metric's unit,
// larger is better; a number that is not known is null.
type CapabilityReport struct {
	Name            string   `json:"name"`
	Metric          string   `json:"metric"`
	Method          string   `json:"method,omitempty"` // how the limits were found
	Samples         int      `json:"samples"`          // answers of each side to each case
	OnlyCandidate   float64  `json:"only_candidate"`   // comparisons that only the candidate got right, of cases times samples
	OnlyBaseline    float64  `json:"only_baseline"`
	DesignEffect    float64  `json:"design_effect"`    // answers that count as one independent answer
	ProvenDrop      bool     `json:"proven_drop"`      // also where it lies inside the margin
	SmallestDrop    number   `json:"smallest_drop"`    // that the gate would name in 8 of 10 tries
	SmallestMargin  number   `json:"smallest_margin"`  // that an unchanged candidate would clear in 8 of 10 tries
	ItemsNeeded     int      `json:"items_needed"`     // in each capability, so that an unchanged candidate passes the gate in 8 of 10 tries; 0 where not known
	ChanceUnchanged float64  `json:"chance_unchanged"` // that an unchanged candidate passes this capability
	Changed         []Change `json:"changed"`          // at most ten, the largest change first
	FlakyCandidate  int      `json:"flaky_candidate"`  // cases whose scores differ between the candidate's own samples
	FlakyBaseline   int      `json:"flaky_baseline"`
	Flaky           []Flaky  `json:"flaky,omitempty"` // at most ten of both, what changes most first
}

// Flaky is a case that one release answers now so and now so.
type Flaky struct {
	Case    string  `json:"case"`
	Side    string  `json:"side"` // "candidate" or "baseline"
	Samples int     `json:"samples"`
	Mean    float64 `json:"mean"` // score
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`
}

// Change is a case on which the two sides differ.
type Change struct {
	Case          string  `json:"case"`
	Text          string  `json:"text"`
	Want          string  `json:"want,omitempty"`
	Baseline      float64 `json:"baseline"`
	Candidate     float64 `json:"candidate"`
	BaselineSaid  string  `json:"baseline_said,omitempty"`
	CandidateSaid string  `json:"candidate_said,omitempty"`
}

// JSON gives the report for programs.
func (r Report) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the report: %w", err)
	}
	return append(raw, '\n'), nil
}

// Markdown gives the report for people.
func (r Report) Markdown() string {
	var out strings.Builder
	v := r.Verdict
	fmt.Fprintf(&out, "# Gate: %s\n\n", v.Outcome)
	fmt.Fprintf(&out, "Service %s, candidate %s, baseline %s, suite %s, attempt %d.\n\n", v.Service, or(v.Candidate), or(v.Baseline), or(v.Suite), v.Attempt)
	for _, reason := range v.Reasons {
		fmt.Fprintf(&out, "- %s\n", cell(reason))
	}
	if len(v.Capabilities) > 0 {
		out.WriteString("\n| capability | metric | cases | groups | baseline | candidate | change | 95% limits | margin | verdict |\n")
		out.WriteString("|---|---|--:|--:|--:|--:|--:|---|--:|---|\n")
	}
	for _, c := range v.Capabilities {
		metric, sign := c.Metric, 1.0
		if score.Less(c.Metric) {
			metric, sign = c.Metric+" (less is better)", -1
		}
		baseline, change, limits := "-", "-", "-"
		if v.Baseline != "" {
			baseline = fmt.Sprintf("%.4f", sign*c.Baseline)
			change = fmt.Sprintf("%+.4f", sign*(c.Candidate-c.Baseline))
			low, high := sign*c.Low, sign*c.High
			limits = fmt.Sprintf("%+.4f to %+.4f", min(low, high), max(low, high))
		}
		fmt.Fprintf(&out, "| %s | %s | %d | %d | %s | %.4f | %s | %s | %.4f | %s |\n",
			cell(c.Capability), cell(metric), c.Items, c.Clusters, baseline, sign*c.Candidate, change, limits, c.Margin, c.Outcome)
	}
	if len(r.Capabilities) == 0 {
		return out.String()
	}
	out.WriteString("\n## What this gate could see\n\nNumbers hold in 8 of 10 tries.\n\n")
	out.WriteString("| capability | design effect | smallest drop it could name | smallest margin it could clear | cases needed for the margin |\n|---|--:|--:|--:|--:|\n")
	for _, c := range r.Capabilities {
		fmt.Fprintf(&out, "| %s | %.2f | %s | %s | %d |\n", cell(c.Name), c.DesignEffect, known(c.SmallestDrop), known(c.SmallestMargin), c.ItemsNeeded)
	}
	fmt.Fprintf(&out, "\nA candidate equal to the baseline passes the whole gate with probability %.2f.\n", r.ChanceUnchanged)
	if v.Attempt > 1 {
		fmt.Fprintf(&out, "\nThis is attempt %d against this baseline: trying until it passes makes the error of 5%% larger, about %.0f%% by now.\n",
			v.Attempt, 100*(1-math.Pow(1-Level, float64(v.Attempt))))
	}
	for _, c := range r.Capabilities {
		if len(c.Changed) == 0 {
			continue
		}
		fmt.Fprintf(&out, "\n## What changed most in %s\n\n| case | right | baseline | candidate |\n|---|---|---|---|\n", cell(c.Name))
		for _, ch := range c.Changed {
			fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", cell(ch.Case), cell(ch.Want), cell(said(ch.BaselineSaid, ch.Baseline)), cell(said(ch.CandidateSaid, ch.Candidate)))
		}
	}
	return out.String()
}

func said(word string, score float64) string {
	if word == "" {
		return fmt.Sprintf("%.4g", score)
	}
	return fmt.Sprintf("%s (%.4g)", word, score)
}

func known(n number) string {
	if !finite(float64(n)) {
		return "not known"
	}
	return fmt.Sprintf("%.4f", float64(n))
}

// cell keeps text inside its table cell: answers are untrusted text.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "<", "&lt;", "`", "'").Replace(s)
}

// unknown is a number that nothing is known of.
func unknown() number { return number(math.NaN()) }

// number is a float that JSON can always hold: what is none becomes null.
type number float64

// MarshalJSON writes null for what is no number.
func (n number) MarshalJSON() ([]byte, error) {
	if !finite(float64(n)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}
