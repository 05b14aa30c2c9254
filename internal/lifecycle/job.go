package lifecycle

import (
	"encoding/json"
	"time"
)

// JobSpec says what a GPU job runs. Artifacts are named by digest; whoever submits brings them to
// the engine. Nothing in it is secret.
type JobSpec struct {
	Name       string                  `json:"name"`    // for people and logs: "pretrain", "embed"
	Engine     string                  `json:"engine"`  // "local"; later "slurm", "kubernetes"
	Command    []string                `json:"command"` // program and arguments; never through a shell
	Parameters json.RawMessage         `json:"parameters,omitempty"`
	Inputs     map[string]ArtifactRef  `json:"inputs,omitempty"`  // folder name to artifact
	Outputs    map[string]ArtifactKind `json:"outputs,omitempty"` // folder name to kind
	Resources  Resources               `json:"resources"`
	MaxTime    Duration                `json:"max_time,omitempty"` // of one try; 0 means no bound
}

// Resources that a job asks for. Zero means the engine's default.
type Resources struct {
	CPUs        int   `json:"cpus,omitempty"`
	GPUs        int   `json:"gpus,omitempty"`
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
}

// JobPhase is where a try of a job stands.
type JobPhase string

const (
	JobQueued    JobPhase = "queued"
	JobRunning   JobPhase = "running"
	JobSucceeded JobPhase = "succeeded" // exit 0; outputs are complete
	JobRetry     JobPhase = "retry"     // exit 75: start again from the last checkpoint
	JobRejected  JobPhase = "rejected"  // exit 64: the spec is wrong, do not retry
	JobFailed    JobPhase = "failed"    // any other exit
	JobCanceled  JobPhase = "canceled"  // ended because it was asked to
	JobLost      JobPhase = "lost"      // the engine knows it no longer; outcome unknown
)

// Exit codes of a job process.
const (
	JobExitDone     = 0
	JobExitRejected = 64 // EX_USAGE of sysexits
	JobExitRetry    = 75 // EX_TEMPFAIL of sysexits
)

// Ended says whether the phase is final for this try.
func (p JobPhase) Ended() bool { return p != JobQueued && p != JobRunning }

// JobStatus is what an engine observed of one try.
type JobStatus struct {
	Phase    JobPhase  `json:"phase"`
	ExitCode int       `json:"exit_code"` // of an ended try; -1 where it had none
	Reason   string    `json:"reason,omitempty"`
	Progress *Progress `json:"progress,omitempty"` // the newest report, if any
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
}

// Progress is one line of a job's progress.jsonl. Step and total are always there.
type Progress struct {
	Time         time.Time `json:"time"`
	Step         int64     `json:"step"`
	Total        int64     `json:"total"`
	Loss         float64   `json:"loss,omitempty"`   // mean over the last report, in nats a token
	Tokens       int64     `json:"tokens,omitempty"` // seen since the run began
	TokensPerS   float64   `json:"tokens_per_s,omitempty"`
	LearningRate float64   `json:"learning_rate,omitempty"`
	Checkpoint   int64     `json:"checkpoint,omitempty"` // step of the newest checkpoint
	Message      string    `json:"message,omitempty"`
}
