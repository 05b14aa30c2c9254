package lifecycle

import (
	"encoding/json"
	"fmt"
	"time"
)

// Actor is who did something: a person, a schedule, a workflow.
type Actor struct {
	Name string `json:"name"`          // "alice", "schedule/rebuild-index", "refit"
	Via  string `json:"via,omitempty"` // "cli", "schedule", "direct", "worker", or one of those below
}

// How a name came that a workflow was given. Only a grant proves it.
const (
	ViaGrant    = "grant"    // signed by who is named, or by the control API that knew who asked
	ViaWorkflow = "workflow" // it stood in the workflow's input, which whoever starts workflows writes
	ViaUpdate   = "update"   // it stood in an Update, which whoever sends Updates writes
	ViaTemporal = "temporal" // it stood nowhere
)

// Proven says whether the name is more than what somebody typed.
func (a Actor) Proven() bool {
	switch a.Via {
	case ViaWorkflow, ViaUpdate, ViaTemporal:
		return false
	}
	return a.Name != ""
}

// String gives the name, and says where it is only said.
func (a Actor) String() string {
	if a.Proven() || a.Name == "" || a.Via == ViaTemporal {
		return a.Name
	}
	return fmt.Sprintf("said to be %s (not proven)", a.Name)
}

// LedgerKind names a decision. Names are stored for ever.
type LedgerKind string

const (
	ServiceApplied     LedgerKind = "service-applied"
	ArtifactAdded      LedgerKind = "artifact-added"
	DataScreened       LedgerKind = "data-screened"
	ReleaseAdded       LedgerKind = "release-added"
	Evaluated          LedgerKind = "evaluated"
	ClaimTaken         LedgerKind = "claim-taken"
	ClaimTakenOver     LedgerKind = "claim-taken-over"
	ClaimReleased      LedgerKind = "claim-released"
	RolloutStarted     LedgerKind = "rollout-started"
	ShareChanged       LedgerKind = "share-changed"
	StepJudged         LedgerKind = "step-judged"
	ShadowChanged      LedgerKind = "shadow-changed" // the candidate gets copies of requests, or none any more
	ShadowJudged       LedgerKind = "shadow-judged"
	LeaseLapsed        LedgerKind = "lease-lapsed"
	Promoted           LedgerKind = "promoted"
	RolledBack         LedgerKind = "rolled-back"
	Approved           LedgerKind = "approved"
	Rejected           LedgerKind = "rejected"
	Paused             LedgerKind = "paused"
	Resumed            LedgerKind = "resumed"
	FreezeOpened       LedgerKind = "freeze-opened"
	FreezeClosed       LedgerKind = "freeze-closed"
	ChangeRefused      LedgerKind = "change-refused" // a promotion that a freeze turned away
	GlassBroken        LedgerKind = "glass-broken"
	LadderOpened       LedgerKind = "ladder-opened"
	LadderRefused      LedgerKind = "ladder-refused"
	ScheduleReconciled LedgerKind = "schedule-reconciled"
	DayForgotten       LedgerKind = "day-forgotten"
	KeyCreated         LedgerKind = "key-created"
	KeyRevoked         LedgerKind = "key-revoked"
	RegistryAdopted    LedgerKind = "registry-adopted" // a database that was restored: a new epoch begins
)

// LedgerEntry is one line of a service's append-only history.
type LedgerEntry struct {
	Sequence int64           `json:"sequence"` // grows by one per service, without gaps
	Service  string          `json:"service"`
	At       time.Time       `json:"at"`
	Kind     LedgerKind      `json:"kind"`
	Subject  string          `json:"subject"` // what it is about: a release, an artifact, a claim
	Actor    Actor           `json:"actor"`
	Reason   string          `json:"reason,omitempty"`
	Evidence json.RawMessage `json:"evidence,omitempty"` // numbers and digests; never prompts or answers
}

// Who gives who did it, and says where that is only said. Entries of former releases that rest on a grant hold it.
func (e LedgerEntry) Who() string {
	if e.Actor.Via == ViaUpdate && (e.Kind == Approved || e.Kind == GlassBroken) {
		return e.Actor.Name
	}
	return e.Actor.String()
}
