package lifecycle

import "time"

// Route says which releases serve a service and with which share. Its generation only grows within
// an epoch; a gateway never applies a lower one.
type Route struct {
	Service    string      `json:"service"`
	Epoch      int64       `json:"epoch"`
	Generation int64       `json:"generation"`
	Stable     Digest      `json:"stable"`             // release; empty: nothing serves yet
	Previous   Digest      `json:"previous,omitempty"` // the stable before, kept loaded for the bake time
	Canary     Digest      `json:"canary,omitempty"`
	Share      BasisPoints `json:"share_bp"`            // of the canary; 0 where there is none
	Rollout    string      `json:"rollout,omitempty"`   // ID of the rollout in flight
	Step       int         `json:"step"`                // index into the policy's steps, from 0; ShadowIndex before them
	Shadow     BasisPoints `json:"shadow_bp,omitempty"` // of requests that are copied to the canary, whose share is 0 then
	Lease      int64       `json:"lease"`               // counter; a share holds only while it changes
	BandKey    []byte      `json:"band_key,omitempty"`
	ChangedAt  time.Time   `json:"changed_at"`
}

// ShadowIndex is a route's step from the beginning of a rollout's shadow step to its first share.
const ShadowIndex = -1

// LeaseTime is how long a gateway keeps a canary share without seeing the lease counter change, on
// its own monotonic clock.
const LeaseTime = 15 * time.Second

// LeaseRenewal is how often the controller renews.
const LeaseRenewal = 5 * time.Second

// Endpoint is a model server that serves a release's weights.
type Endpoint struct {
	Release     Digest    `json:"release"`
	URL         string    `json:"url"`                // base, without /v1
	Model       string    `json:"model"`              // name to ask for
	Embedder    string    `json:"embedder,omitempty"` // name to ask for embeddings; empty: none there
	Capacity    int       `json:"capacity"`           // requests at once
	Ready       bool      `json:"ready"`
	Attribution string    `json:"attribution"` // "verified" or "unverified"
	SeenAt      time.Time `json:"seen_at,omitzero"`
}

// Rollout is a release on its way to all traffic.
type Rollout struct {
	ID        string        `json:"id"` // the owner's first run ID
	Service   string        `json:"service"`
	Release   Digest        `json:"release"`
	Baseline  Digest        `json:"baseline"`
	Owner     Owner         `json:"owner"`
	Fence     Fence         `json:"fence"`
	Phase     RolloutPhase  `json:"phase"`
	Reason    string        `json:"reason,omitempty"`
	StartedBy Actor         `json:"started_by"`
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`
	Shadow    *ShadowRecord `json:"shadow,omitempty"` // nil: it had no shadow step, or has not ended it
	Steps     []StepRecord  `json:"steps,omitempty"`
	Touched   *Touched      `json:"touched,omitempty"`
}

// RolloutPhase is where a rollout stands.
type RolloutPhase string

const (
	RolloutRunning    RolloutPhase = "running"
	RolloutPromoted   RolloutPhase = "promoted"
	RolloutRolledBack RolloutPhase = "rolled-back"
	RolloutInvalid    RolloutPhase = "invalid" // the exposure bound was broken; evidence is void
)

// StepRecord is one step of a rollout as it went.
type StepRecord struct {
	Index     int         `json:"index"`
	Allowed   BasisPoints `json:"allowed_bp"`
	Verdict   StepVerdict `json:"verdict"`
	StartedAt time.Time   `json:"started_at"`
	EndedAt   time.Time   `json:"ended_at,omitzero"`
}

// Touched is the blast radius: what a release answered as a canary.
type Touched struct {
	Conversations int64 `json:"conversations"`
	Requests      int64 `json:"requests"`
	Tokens        int64 `json:"tokens"`
}
