package lifecycle

import "time"

// Loop names an exclusive loop of a service.
type Loop string

const (
	PromotionLoop   Loop = "promotion"
	PretrainingLoop Loop = "pretraining"
	IndexLoop       Loop = "index"
	EvaluationLoop  Loop = "evaluation"
	TuningLoop      Loop = "tuning"
	ArchiveLoop     Loop = "archive"
)

// Loops lists every loop.
func Loops() []Loop {
	return []Loop{PromotionLoop, PretrainingLoop, IndexLoop, EvaluationLoop, TuningLoop, ArchiveLoop}
}

// Owner is who holds a claim: one workflow execution chain. The first run ID stays the same over
// continue-as-new, retries and resets.
type Owner struct {
	Namespace  string `json:"namespace"`
	WorkflowID string `json:"workflow_id"`
	FirstRunID string `json:"first_run_id"`
}

// Fence is the number that makes an older holder harmless. It only grows; 0 means none.
type Fence int64

// Claim is the one right to run a loop for a service.
type Claim struct {
	Service   string    `json:"service"`
	Loop      Loop      `json:"loop"`
	Owner     Owner     `json:"owner"`
	Fence     Fence     `json:"fence"`
	ClaimedAt time.Time `json:"claimed_at"`
}
