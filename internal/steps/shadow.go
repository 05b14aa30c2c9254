package steps

import (
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// ShadowShareInput lets a rollout's candidate get copies of a share of requests, or of none any more.
type ShadowShareInput struct {
	Service  string                `json:"service"`
	Claim    lifecycle.Claim       `json:"claim"`
	Share    lifecycle.BasisPoints `json:"share_bp"`              // 0 ends the shadow step: it is waited for that no copy is under way any more
	Deadline time.Duration         `json:"deadline_ns,omitempty"` // of a copy
	By       lifecycle.Actor       `json:"by"`
	Reason   string                `json:"reason"`
}

// ShadowInput watches the pairs of a rollout's shadow step until there is a reason to end it.
type ShadowInput struct {
	Service string                  `json:"service"`
	Claim   lifecycle.Claim         `json:"claim"`
	Release lifecycle.Digest        `json:"release"`
	Policy  lifecycle.RolloutPolicy `json:"policy"`
	Elapsed time.Duration           `json:"elapsed_ns"` // of the step's time before this hold
	Paused  bool                    `json:"paused"`     // watch for harm only; the bound's clock stands
}

// ShadowResult is how a shadow step ended and what was seen.
type ShadowResult struct {
	Reason  HoldReason              `json:"reason"`
	Verdict lifecycle.ShadowVerdict `json:"verdict"`
}

// ShadowRecordInput records how a shadow step ended.
type ShadowRecordInput struct {
	Service string                 `json:"service"`
	Claim   lifecycle.Claim        `json:"claim"`
	Record  lifecycle.ShadowRecord `json:"record"`
}

// Steps of a rollout's shadow step.
var (
	SetShadow    = Step[ShadowShareInput, None]{"SetShadow", quick}
	HoldShadow   = Step[ShadowInput, ShadowResult]{"HoldShadow", hold}
	RecordShadow = Step[ShadowRecordInput, None]{"RecordShadow", quick}
)
