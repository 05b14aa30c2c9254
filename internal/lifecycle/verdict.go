package lifecycle

import "time"

// Outcome is a gate's verdict in one word. Only Pass lets a candidate through; the zero value is
// not an outcome and lets nothing through.
type Outcome string

const (
	PassOutcome         Outcome = "pass"
	RegressOutcome      Outcome = "regress"
	UnderpoweredOutcome Outcome = "underpowered"
	ErrorOutcome        Outcome = "error"
)

// Err gives nil for pass and an error of the matching kind for everything else.
func (o Outcome) Err(reason string) error {
	switch o {
	case PassOutcome:
		return nil
	case RegressOutcome:
		return Errorf(Regress, "the gate proved a drop: %s", reason)
	case UnderpoweredOutcome:
		return Errorf(Underpowered, "the gate could not tell: %s", reason)
	default:
		return Errorf(Unavailable, "the gate could not judge: %s", reason)
	}
}

// CapabilityVerdict is the paired comparison of one capability. All numbers are in the capability's
// own unit, oriented so that larger is better; Difference is candidate minus baseline.
type CapabilityVerdict struct {
	Capability string  `json:"capability"`
	Metric     string  `json:"metric"` // "accuracy", "bits-per-byte", "recall@5", ...
	Items      int     `json:"items"`
	Clusters   int     `json:"clusters"`
	Baseline   float64 `json:"baseline"`
	Candidate  float64 `json:"candidate"`
	Low        float64 `json:"low"`  // one-sided 95% limit that pass is decided on
	High       float64 `json:"high"` // upper limit of the same level
	Margin     float64 `json:"margin"`
	PRegress   float64 `json:"p_regress"` // of "no drop at all", before correction
	Outcome    Outcome `json:"outcome"`
	Reason     string  `json:"reason"`
}

// Verdict is a gate's answer for one candidate, baseline and suite digest.
type Verdict struct {
	Service      string              `json:"service"`
	Candidate    Digest              `json:"candidate"`
	Baseline     Digest              `json:"baseline"` // empty: nothing to compare with, see Reasons
	Suite        Digest              `json:"suite"`    // artifact of kind suite
	Report       Digest              `json:"report"`   // artifact of kind report
	Outcome      Outcome             `json:"outcome"`
	Reasons      []string            `json:"reasons"`
	Capabilities []CapabilityVerdict `json:"capabilities"`
	Attempt      int                 `json:"attempt"` // counted from 1 against this baseline and suite
	DecidedAt    time.Time           `json:"decided_at,omitzero"`
}

// Decision is what a rollout step comes to.
type Decision string

const (
	Promote  Decision = "promote"
	Hold     Decision = "hold"
	RollBack Decision = "roll-back"
)

// MetricVerdict is one live metric of a step.
type MetricVerdict struct {
	Metric       string  `json:"metric"`
	Required     bool    `json:"required"`
	CanaryEvents int64   `json:"canary_events"`
	StableEvents int64   `json:"stable_events"`
	Harm         float64 `json:"harm"`   // e-value against "no worse than tolerated"
	Safety       float64 `json:"safety"` // e-value against "worse than the margin"
	Harmful      bool    `json:"harmful"`
	Safe         bool    `json:"safe"`

	// Ratio is of the canary's risk of an event to stable's. Low is of the whole rollout at the metric's level of harm: it
	// is at or over Tolerated if and only if the metric is harmful. High is of the step: it is at or under Margin if and
	// only if who served the events proves that the metric is safe.
	Ratio     Interval `json:"ratio,omitzero"`
	Tolerated float64  `json:"tolerated,omitempty"` // ratio that is no harm yet
	Margin    float64  `json:"margin,omitempty"`    // ratio that must be refuted to be safe

	// CanaryRate and StableRate are of the step's conversations. The canary's High is at or under Floor if and only if its
	// rate proves that the metric is safe.
	CanaryRate Interval `json:"canary_rate,omitzero"`
	StableRate Interval `json:"stable_rate,omitzero"`
	Floor      float64  `json:"floor,omitempty"` // rate under which the canary is safe whatever stable does; 0: none
}

// StepVerdict is the judge's answer for one step.
type StepVerdict struct {
	Decision      Decision        `json:"decision"`
	Reason        string          `json:"reason"`
	Conversations int64           `json:"conversations"`     // that tossed a coin in this step
	Canary        int64           `json:"canary"`            // of them on the canary
	Invalid       bool            `json:"invalid,omitempty"` // more was served than was allowed
	Metrics       []MetricVerdict `json:"metrics,omitempty"`
	// Odds is of the odds to be served the canary to those that were allowed, over the whole rollout. Low is at or over 1
	// if and only if more conversations went to the canary than were allowed.
	Odds  Interval   `json:"odds,omitzero"`
	Share *ShareSeen `json:"share,omitempty"` // nil: it could not be counted
}

// ShareSeen is what was served of one step: the requests that count for the exposure, as they were captured.
type ShareSeen struct {
	Requests int64       `json:"requests"`
	Canary   int64       `json:"canary"`            // of them admitted to the canary
	Reached  BasisPoints `json:"reached_bp"`        // of all of them, rounded down
	Highest  BasisPoints `json:"highest_window_bp"` // of any Window requests in a row
	Window   int         `json:"window"`            // requests; all of them where there are fewer
	Served   *int64      `json:"served,omitempty"`  // generation requests that the model servers counted for the canary; nil: they cannot tell
}
