package steps

import "github.com/refitml/refit/internal/lifecycle"

// TuningInput starts TuneFromFeedback.
type TuningInput struct {
	Service string `json:"service"`
	By      string `json:"by,omitempty"`
}

// ServiceName says which service is meant.
func (in TuningInput) ServiceName() string { return in.Service }

// TuningResult is what feedback came to. Dataset is empty where too little could be kept.
type TuningResult struct {
	Dataset  lifecycle.Digest `json:"dataset,omitempty"`
	Items    int              `json:"items"`
	Dropped  int              `json:"dropped"`
	Deficit  string           `json:"deficit,omitempty"`
	Ladder   string           `json:"ladder,omitempty"` // ladder record
	Lever    lifecycle.Lever  `json:"lever,omitempty"`  // that may be tried next
	Reason   string           `json:"reason"`
	Feedback map[string]int   `json:"feedback"` // counted by kind
	Screened *Screened        `json:"screened,omitempty"`
}

// CurateInput turns feedback into a dataset.
type CurateInput struct {
	Service string                   `json:"service"`
	Policy  lifecycle.FeedbackPolicy `json:"policy"`
	By      lifecycle.Actor          `json:"by"`

	Contamination lifecycle.Contamination `json:"contamination,omitzero"`
}

// OpenLadderInput opens the record of a deficit.
type OpenLadderInput struct {
	Service string           `json:"service"`
	Deficit string           `json:"deficit"`
	Dataset lifecycle.Digest `json:"dataset"`
	By      lifecycle.Actor  `json:"by"`
}

// Steps of the tuning loop.
var (
	CurateFeedback = Step[CurateInput, TuningResult]{"CurateFeedback", transfer}
	OpenLadder     = Step[OpenLadderInput, lifecycle.LadderRecord]{"OpenLadder", quick}
)
