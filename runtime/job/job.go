package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Exit codes of the contract.
const (
	ExitDone      = 0
	ExitFailed    = 1
	ExitWrongSpec = 64
	ExitTryAgain  = 75
)

// ErrSpec marks a fault that no retry can mend: in the spec or in an input.
var ErrSpec = errors.New("the job's spec or input is wrong")

// ErrAgain marks an orderly interruption after a checkpoint.
var ErrAgain = errors.New("interrupted; try again from the last checkpoint")

// ExitCode maps an error of a job to the contract.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, ErrSpec):
		return ExitWrongSpec
	case errors.Is(err, ErrAgain):
		return ExitTryAgain
	}
	return ExitFailed
}

// Job is where a job finds its things. Every path is set.
type Job struct {
	Spec, Inputs, Outputs, Checkpoints, Progress string
}

// FromEnvironment reads the contract's variables through getenv (os.Getenv outside tests). A missing one wraps ErrSpec.
func FromEnvironment(getenv func(string) string) (Job, error) {
	var j Job
	for name, field := range map[string]*string{
		"REFIT_SPEC": &j.Spec, "REFIT_INPUTS": &j.Inputs, "REFIT_OUTPUTS": &j.Outputs,
		"REFIT_CHECKPOINTS": &j.Checkpoints, "REFIT_PROGRESS": &j.Progress,
	} {
		if *field = getenv(name); *field == "" {
			return Job{}, fmt.Errorf("%w: %s is not set", ErrSpec, name)
		}
	}
	return j, nil
}

// Parameters decodes the spec's parameters into out, which holds the defaults. An unknown field wraps ErrSpec.
func (j Job) Parameters(out any) error {
	raw, err := os.ReadFile(j.Spec)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	var spec struct {
		Parameters json.RawMessage `json:"parameters"`
	}
	if err := strict(raw, &spec); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSpec, j.Spec, err)
	}
	if len(spec.Parameters) == 0 {
		return nil
	}
	if err := strict(spec.Parameters, out); err != nil {
		return fmt.Errorf("%w: %s: parameters: %w", ErrSpec, j.Spec, err)
	}
	return nil
}

func strict(raw []byte, out any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// Input returns the folder of an input artifact, or "" if the job was not given one.
func (j Job) Input(name string) string {
	dir := filepath.Join(j.Inputs, name)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

// Output makes an empty folder for an output artifact. What an earlier try left there is removed.
func (j Job) Output(name string) (string, error) {
	dir := filepath.Join(j.Outputs, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("clear the output %s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the output %s: %w", name, err)
	}
	return dir, nil
}

// Report is one line of progress. Step and Total are always written, the others where they are known (not zero).
type Report struct {
	Time            time.Time `json:"time"`
	Step            int       `json:"step"`
	Total           int       `json:"total"`
	Loss            float64   `json:"loss,omitempty"`   // nats a token, mean over the steps since the last report
	Tokens          int       `json:"tokens,omitempty"` // seen since the run began, by all its tries
	TokensPerSecond float64   `json:"tokens_per_s,omitempty"`
	LearningRate    float64   `json:"learning_rate,omitempty"`
	Checkpoint      int       `json:"checkpoint,omitempty"` // the newest checkpoint's step
	Message         string    `json:"message,omitempty"`
}

// Report appends one line with one write.
func (j Job) Report(r Report) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode progress: %w", err)
	}
	f, err := os.OpenFile(j.Progress, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("report progress: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("report progress: %w", err)
	}
	return nil
}
