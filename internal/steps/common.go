package steps

import (
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// ResolveInput names a service.
type ResolveInput struct {
	Service string `json:"service"`
}

// Resolved is the service's newest declaration with its defaults, pinned for one run.
type Resolved struct {
	Service          lifecycle.Service `json:"service"`
	Version          int               `json:"version"`
	Digest           lifecycle.Digest  `json:"digest"`
	SearchAttributes bool              `json:"search_attributes"` // the namespace has Refit's
	GrantKey         []byte            `json:"grant_key,omitempty"`
}

// StartedByMemo is the memo of a run in which the grant stands that proves who started it.
const StartedByMemo = "RefitStartedBy"

// ProveStartInput is what a run shows of who started it.
type ProveStartInput struct {
	Grant   lifecycle.Grant  `json:"grant"`
	Owner   lifecycle.Owner  `json:"owner"`
	Input   lifecycle.Digest `json:"input"` // of the run's input as it came
	Started time.Time        `json:"started"`
}

// StartProof says who started a run, if that is proven.
type StartProof struct {
	By  string `json:"by,omitempty"`  // empty: it is not proven
	Why string `json:"why,omitempty"` // it is not
}

// ClaimInput asks for the one right to run a loop.
type ClaimInput struct {
	Service string          `json:"service"`
	Loop    lifecycle.Loop  `json:"loop"`
	Owner   lifecycle.Owner `json:"owner"`
	By      lifecycle.Actor `json:"by"`
}

// ReleaseClaimInput gives a claim back.
type ReleaseClaimInput struct {
	Claim lifecycle.Claim `json:"claim"`
	By    lifecycle.Actor `json:"by"`
}

// RecordInput is a ledger entry for a fact that has no function of its own.
type RecordInput struct {
	Entry lifecycle.LedgerEntry `json:"entry"`
	Key   string                `json:"key"` // a repeated step writes once
}

// SharedInput names a workflow that somebody else started, whose result this run shares.
type SharedInput struct {
	WorkflowID string `json:"workflow_id"`
}

// None is the output of steps that only do.
type None struct{}

// Steps that every loop has.
var (
	Resolve      = Step[ResolveInput, Resolved]{"ResolveService", quick}
	ProveStart   = Step[ProveStartInput, StartProof]{"ProveStart", quick}
	Claim        = Step[ClaimInput, lifecycle.Claim]{"TakeClaim", quick}
	ReleaseClaim = Step[ReleaseClaimInput, None]{"ReleaseClaim", quick}
	Record       = Step[RecordInput, None]{"AppendLedger", quick}
	AwaitDataset = Step[SharedInput, BuildDatasetResult]{"AwaitDataset", hold}
	AwaitVerdict = Step[SharedInput, lifecycle.Verdict]{"AwaitVerdict", hold}
)

// Search attributes of Refit's workflows, all Keyword.
const (
	AttributeService = "RefitService"
	AttributeRelease = "RefitRelease"
	AttributePhase   = "RefitPhase"
	AttributeLoop    = "RefitLoop"
)

// StateQuery is the Query that every loop answers with what it is doing and why.
const StateQuery = "state"

// Count is how much of something is done.
type Count struct {
	Done int `json:"done"`
	Of   int `json:"of"`
}

// State is what a person may see of a running loop.
type State struct {
	Service string          `json:"service"`
	Loop    lifecycle.Loop  `json:"loop"`
	Phase   string          `json:"phase"`
	Reason  string          `json:"reason,omitempty"`
	Release string          `json:"release,omitempty"`
	Notes   []string        `json:"notes,omitempty"`
	Rollout *PromotionState `json:"rollout,omitempty"`

	Plan   []string          `json:"plan,omitempty"`   // what a rollout's steps will need, in lines for people
	Frozen *lifecycle.Frozen `json:"frozen,omitempty"` // what the next change of what serves waits for
	Glass  time.Time         `json:"glass,omitzero"`   // until when somebody lets it go on in freezes

	By lifecycle.Actor `json:"by,omitzero"` // who started it, or is said to have

	Answered *Count `json:"answered,omitempty"` // by batches that ended; those that go on count themselves
}
