package compute

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// Engine runs jobs somewhere. An error of any method says nothing about the job: Unavailable means that the
// engine could not be asked.
type Engine interface {
	// Submit starts a try of a run, or finds it: for one key and try at most one job ever runs, whoever
	// submits it and however often. Another spec under the same key and try is Conflict, as is a try
	// older than one that was submitted; a newer try while an older one has not ended is Busy. It returns when the
	// try is queued for certain.
	Submit(ctx context.Context, run Run) (Handle, error)
	// Observe says where a try stands. A try that the engine knows no longer, or whose keeper died, is JobLost, and
	// then nothing of it runs any more.
	Observe(ctx context.Context, h Handle) (lifecycle.JobStatus, error)
	// Cancel asks a try to end (SIGTERM), and the engine insists (SIGKILL) after its grace time. It returns at once;
	// Observe tells when. Canceling a try that has ended, or canceling again, changes nothing.
	Cancel(ctx context.Context, h Handle) error
	// LogTail gives the end of what the job printed, at most limit bytes (and never more than 1 MiB).
	LogTail(ctx context.Context, h Handle, limit int) ([]byte, error)
	// Outputs gives the folder of each declared output of a try that succeeded, by name; Refused otherwise.
	Outputs(ctx context.Context, h Handle) (map[string]string, error)
	// Remove forgets a whole run: every try, its outputs and the checkpoints. Busy while a try has not ended;
	// nothing to remove is no error.
	Remove(ctx context.Context, h Handle) error
}

// Run is one try of a job.
type Run struct {
	Key    string            `json:"key"` // names the run over all its tries; made by who asks, the same after a restart
	Try    int               `json:"try"` // from 1
	Spec   lifecycle.JobSpec `json:"spec"`
	Inputs map[string]string `json:"inputs,omitempty"` // a local folder for every input of the spec
}

// Handle finds a try again, also from another process. It is small and holds no secret.
type Handle struct {
	Engine string `json:"engine"` // the identity of the engine that has it
	Key    string `json:"key"`
	Try    int    `json:"try"`
}

// Check gives all faults of a run at once.
func (r Run) Check() error {
	var faults lifecycle.Problems
	if r.Key == "" || len(r.Key) > 1024 {
		faults.Add("key", fmt.Sprintf("%d characters", len(r.Key)), "give 1 to 1024")
	}
	if r.Try < 1 {
		faults.Add("try", fmt.Sprint(r.Try), "tries count from 1")
	}
	if len(r.Spec.Command) == 0 || r.Spec.Command[0] == "" {
		faults.Add("spec.command", "none", "name the program and its arguments")
	}
	if r.Spec.MaxTime < 0 {
		faults.Add("spec.max_time", fmt.Sprint(r.Spec.MaxTime), "give a positive time, or 0 for no bound")
	}
	for name := range r.Spec.Inputs {
		checkName(&faults, "spec.inputs", name)
		if _, ok := r.Inputs[name]; !ok {
			faults.Add("inputs."+name, "no folder", "bring the artifact to this machine first")
		}
	}
	for name, dir := range r.Inputs {
		checkName(&faults, "inputs", name)
		if !filepath.IsAbs(dir) {
			faults.Add("inputs."+name, fmt.Sprintf("%q", dir), "give an absolute path")
		}
	}
	for name := range r.Spec.Outputs {
		checkName(&faults, "spec.outputs", name)
	}
	return faults.Err("job run")
}

// checkName keeps names to one plain path element, because they become folders.
func checkName(faults *lifecycle.Problems, path, name string) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") || len(name) > 128 {
		faults.Add(path, fmt.Sprintf("%q", name), "give a plain folder name")
	}
}
