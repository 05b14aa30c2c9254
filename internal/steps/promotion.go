package steps

import (
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// PromotionInput starts PromoteRelease.
type PromotionInput struct {
	Service  string `json:"service"`
	Release  string `json:"release,omitempty"`  // ID or its beginning; default: the newest
	Approval bool   `json:"approval,omitempty"` // ask a person before every step, whatever the policy says
	Reason   string `json:"reason,omitempty"`
	Wait     bool   `json:"wait,omitempty"`        // in a freeze wait for its end, or for somebody who breaks the glass, instead of being refused
	Late     bool   `json:"accept_late,omitempty"` // begin although a step cannot end within its time at last week's traffic
	By       string `json:"by,omitempty"`
}

// ServiceName says which service is meant.
func (in PromotionInput) ServiceName() string { return in.Service }

// PromotionWorkflowID is the customary ID; exclusion does not rest on it.
func PromotionWorkflowID(service string) string { return "promote/" + service }

// PromotionResult is how a promotion ended.
type PromotionResult struct {
	Release lifecycle.Digest        `json:"release"`
	Phase   lifecycle.RolloutPhase  `json:"phase"`
	Reason  string                  `json:"reason"`
	Verdict *lifecycle.Verdict      `json:"gate,omitempty"`
	Shadow  *lifecycle.ShadowRecord `json:"shadow,omitempty"` // nil: it had no shadow step, or did not end it
	Steps   []lifecycle.StepRecord  `json:"steps,omitempty"`
	Touched *lifecycle.Touched      `json:"touched,omitempty"`
}

// PromotionState is a rollout as a person may see it.
type PromotionState struct {
	Candidate      lifecycle.Digest       `json:"candidate"`
	Baseline       lifecycle.Digest       `json:"baseline"`
	Step           int                    `json:"step"`
	StepsTotal     int                    `json:"steps_total"`
	Share          lifecycle.BasisPoints  `json:"share_bp"`
	Paused         bool                   `json:"paused"`
	AwaitsApproval bool                   `json:"awaits_approval"`
	Done           []lifecycle.StepRecord `json:"done,omitempty"`

	Shadowing lifecycle.BasisPoints   `json:"shadowing_bp,omitempty"` // of requests that the candidate gets copies of now, before its first share
	Shadow    *lifecycle.ShadowRecord `json:"shadow,omitempty"`       // how its shadow step ended
}

// Updates of PromoteRelease.
const (
	ApproveUpdate = "approve"
	RejectUpdate  = "reject"
	PauseUpdate   = "pause"
	ResumeUpdate  = "resume"
	AbortUpdate   = "abort"

	BreakGlassUpdate = "break-glass" // its argument is an Approval
)

// Intervention is the argument of pause, resume, abort and reject. Key makes it idempotent. Without a grant By is what
// somebody typed.
type Intervention struct {
	Key    string           `json:"key"`
	By     string           `json:"by"`
	Reason string           `json:"reason,omitempty"`
	Grant  *lifecycle.Grant `json:"grant,omitempty"` // proves By
}

// Approval is the argument of approve.
type Approval struct {
	Key   string          `json:"key"`
	Grant lifecycle.Grant `json:"grant"`
}

// LoadInput brings a release onto model servers.
type LoadInput struct {
	Service string           `json:"service"`
	Release lifecycle.Digest `json:"release"`
}

// LoadResult says where it can be asked.
type LoadResult struct {
	Endpoints []lifecycle.Endpoint `json:"endpoints"`
}

// UnloadInput frees what no route needs any more.
type UnloadInput struct {
	Service string `json:"service"`
}

// RolloutInput opens the rollout of a claim.
type RolloutInput struct {
	Service string           `json:"service"`
	Claim   lifecycle.Claim  `json:"claim"`
	Release lifecycle.Digest `json:"release"`
	By      lifecycle.Actor  `json:"by"`
}

// FirstStableInput gives a service its first stable release.
type FirstStableInput struct {
	Service string           `json:"service"`
	Claim   lifecycle.Claim  `json:"claim"`
	Release lifecycle.Digest `json:"release"`
	By      lifecycle.Actor  `json:"by"`
	Reason  string           `json:"reason"`
	Freezes *FreezeInput     `json:"freezes,omitempty"` // what freezes may hold; nil: they hold nothing
	Glass   time.Time        `json:"glass,omitzero"`    // until when somebody lets it go on in freezes
}

// ShareInput sets the canary's share for a step.
type ShareInput struct {
	Service string                `json:"service"`
	Claim   lifecycle.Claim       `json:"claim"`
	Step    int                   `json:"step"`
	Share   lifecycle.BasisPoints `json:"share_bp"`
	By      lifecycle.Actor       `json:"by"`
	Reason  string                `json:"reason"`
	Freezes *FreezeInput          `json:"freezes,omitempty"` // what freezes may hold; nil: they hold nothing
	Glass   time.Time             `json:"glass,omitzero"`    // until when somebody lets it go on in freezes
}

// ShareResult says whether the share is set.
type ShareResult struct {
	Frozen *lifecycle.Frozen `json:"frozen,omitempty"` // what held it as it was; nil: it is set
}

// FreezeInput asks whether a change from one release to another has to wait.
type FreezeInput struct {
	Service  string           `json:"service"`
	Release  lifecycle.Digest `json:"release"`
	Baseline lifecycle.Digest `json:"baseline,omitempty"` // empty: the first release
}

// FreezeResult is what the calendar and the open incidents said.
type FreezeResult struct {
	Frozen *lifecycle.Frozen `json:"frozen,omitempty"` // nil: it need not wait
}

// PlanRolloutInput asks what a rollout will need.
type PlanRolloutInput struct {
	Service string                  `json:"service"`
	Policy  lifecycle.RolloutPolicy `json:"policy"`
}

// HoldInput keeps a share alive until there is a reason to end the step.
type HoldInput struct {
	Service string                  `json:"service"`
	Claim   lifecycle.Claim         `json:"claim"`
	Release lifecycle.Digest        `json:"release"`
	Step    int                     `json:"step"`
	Policy  lifecycle.RolloutPolicy `json:"policy"`
	Elapsed time.Duration           `json:"elapsed_ns"`        // of the step's time before this hold
	Paused  bool                    `json:"paused"`            // watch for harm only; the bound's clock stands
	Freezes *FreezeInput            `json:"freezes,omitempty"` // what freezes may hold; nil: they hold nothing
	Glass   time.Time               `json:"glass,omitzero"`    // until when somebody lets it go on in freezes
}

// HoldReason says why a hold ended.
type HoldReason string

const (
	HoldEnough  HoldReason = "enough"  // the evidence lets the step end
	HoldHarm    HoldReason = "harm"    // the evidence proves harm
	HoldFenced  HoldReason = "fenced"  // somebody else took over or rolled back
	HoldTime    HoldReason = "time"    // the step's time is over without enough evidence
	HoldInvalid HoldReason = "invalid" // more was served than was allowed
	HoldFrozen  HoldReason = "frozen"  // a freeze began: the share stays, its clock stands
)

// HoldResult is how a hold ended and what was seen.
type HoldResult struct {
	Reason   HoldReason            `json:"reason"`
	Verdict  lifecycle.StepVerdict `json:"verdict"`
	Evidence lifecycle.Touched     `json:"touched"`
	Frozen   *lifecycle.Frozen     `json:"frozen,omitempty"` // what holds it, where that is the reason
}

// StepInput records a finished step.
type StepInput struct {
	Service string               `json:"service"`
	Claim   lifecycle.Claim      `json:"claim"`
	Record  lifecycle.StepRecord `json:"record"`
	By      lifecycle.Actor      `json:"by"`
}

// EndInput ends a rollout one way or the other.
type EndInput struct {
	Service string          `json:"service"`
	Claim   lifecycle.Claim `json:"claim"`
	By      lifecycle.Actor `json:"by"`
	Reason  string          `json:"reason"`
	Invalid bool            `json:"invalid,omitempty"`
	Freezes *FreezeInput    `json:"freezes,omitempty"` // what freezes may hold; nil: they hold nothing. They never hold a way back
	Glass   time.Time       `json:"glass,omitzero"`    // until when somebody lets it go on in freezes
}

// EndResult is the route after it, and whom the release touched.
type EndResult struct {
	Generation int64             `json:"generation"`
	Touched    lifecycle.Touched `json:"touched"`
	Frozen     *lifecycle.Frozen `json:"frozen,omitempty"` // what held the route as it was; nil: it changed
}

// Steps of the promotion loop.
var (
	LoadRelease  = Step[LoadInput, LoadResult]{"LoadRelease", transfer}
	UnloadUnused = Step[UnloadInput, None]{"UnloadUnused", quick}
	StartRollout = Step[RolloutInput, None]{"StartRollout", quick}
	FirstStable  = Step[FirstStableInput, EndResult]{"SetFirstStable", quick}
	PlanRollout  = Step[PlanRolloutInput, lifecycle.RolloutPlan]{"PlanRollout", quick}
	CheckFreeze  = Step[FreezeInput, FreezeResult]{"CheckFreeze", quick}
	AwaitThaw    = Step[FreezeInput, FreezeResult]{"AwaitThaw", hold}
	SetShare     = Step[ShareInput, ShareResult]{"SetShare", quick}
	HoldStep     = Step[HoldInput, HoldResult]{"HoldStep", hold}
	RecordStep   = Step[StepInput, None]{"RecordStep", quick}
	MakeStable   = Step[EndInput, EndResult]{"MakeStable", quick}
	RollBack     = Step[EndInput, EndResult]{"RollBack", quick}
)
