package evaluation

import (
	"encoding/json"
	"fmt"
	"math"

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
	OnlyCandidate   float64  `json:"only_candidate"`   // cases that only the candidate got right; parts of cases where they were asked repeatedly
	OnlyBaseline    float64  `json:"only_baseline"`
	DesignEffect    float64  `json:"design_effect"`    // cases that count as one independent case
	ProvenDrop      bool     `json:"proven_drop"`      // also where it lies inside the margin
	SmallestDrop    number   `json:"smallest_drop"`    // that the gate would name in 8 of 10 tries
	SmallestMargin  number   `json:"smallest_margin"`  // that an unchanged candidate would clear in 8 of 10 tries
	ItemsNeeded     int      `json:"items_needed"`     // in each capability, so that an unchanged candidate passes the gate in 8 of 10 tries; 0 where not known
	ChanceUnchanged float64  `json:"chance_unchanged"` // that an unchanged candidate passes this capability
	Changed         []Change `json:"changed"`          // at most ten, the largest change first
	FlakyCandidate  int      `json:"flaky_candidate"`  // cases whose scores differ between the candidate's own samples
	FlakyBaseline   int      `json:"flaky_baseline"`
	Flaky           []Flaky  `json:"flaky,omitempty"` // at most ten of both, what changes most first

	Pairwise  *Pairwise  `json:"pairwise,omitempty"`  // where a judge compared both sides' answers
	Agreement *Agreement `json:"agreement,omitempty"` // of the scorer with people, where they have judged answers
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
