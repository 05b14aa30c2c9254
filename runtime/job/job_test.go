package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newJob(t *testing.T, spec string) Job {
	t.Helper()
	dir := t.TempDir()
	j := Job{
		Spec: filepath.Join(dir, "spec.json"), Inputs: filepath.Join(dir, "in"), Outputs: filepath.Join(dir, "out"),
		Checkpoints: filepath.Join(dir, "checkpoints"), Progress: filepath.Join(dir, "progress.jsonl"),
	}
	require.NoError(t, os.WriteFile(j.Spec, []byte(spec), 0o600))
	return j
}

func TestFromEnvironmentNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"REFIT_SPEC": "/s", "REFIT_INPUTS": "/i", "REFIT_OUTPUTS": "/o", "REFIT_CHECKPOINTS": "/c", "REFIT_PROGRESS": "/p",
	}
	j, err := FromEnvironment(func(name string) string { return env[name] })
	require.NoError(t, err)
	require.Equal(t, Job{"/s", "/i", "/o", "/c", "/p"}, j)
	for name := range env {
		_, err := FromEnvironment(func(asked string) string {
			if asked == name {
				return ""
			}
			return env[asked]
		})
		require.ErrorIs(t, err, ErrSpec)
		require.ErrorContains(t, err, name)
	}
}

func TestParametersAreStrict(t *testing.T) {
	t.Parallel()
	type parameters struct {
		Steps int `json:"steps"`
	}
	p := parameters{Steps: 7}
	for _, spec := range []string{`{}`, `{"parameters":{}}`} {
		require.NoError(t, newJob(t, spec).Parameters(&p))
		require.Equal(t, 7, p.Steps, "defaults stay")
	}
	require.NoError(t, newJob(t, `{"parameters":{"steps":3}}`).Parameters(&p))
	require.Equal(t, 3, p.Steps)
	for name, spec := range map[string]string{
		"misspelt":      `{"parameters":{"setps":3}}`,
		"wrong type":    `{"parameters":{"steps":"3"}}`,
		"unknown field": `{"parameter":{"steps":3}}`,
		"two values":    `{} {}`,
		"no JSON":       `steps: 3`,
		"empty":         ``,
	} {
		require.ErrorIs(t, newJob(t, spec).Parameters(&p), ErrSpec, name)
	}
	require.ErrorIs(t, Job{Spec: filepath.Join(t.TempDir(), "none")}.Parameters(&p), ErrSpec)
}

func TestInputsAndOutputs(t *testing.T) {
	t.Parallel()
	j := newJob(t, `{}`)
	require.NoError(t, os.MkdirAll(filepath.Join(j.Inputs, "dataset"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(j.Inputs, "file"), nil, 0o600))
	require.Equal(t, filepath.Join(j.Inputs, "dataset"), j.Input("dataset"))
	require.Empty(t, j.Input("file"))
	require.Empty(t, j.Input("model"))

	dir, err := j.Output("model")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "half"), nil, 0o600))
	again, err := j.Output("model")
	require.NoError(t, err)
	require.Equal(t, dir, again)
	entries, err := os.ReadDir(again)
	require.NoError(t, err)
	require.Empty(t, entries, "what an earlier try left is gone")
}

// The names are those of lifecycle.Progress, which whoever observes a job reads.
func TestAReportIsOneLineOfProgress(t *testing.T) {
	t.Parallel()
	j := newJob(t, `{}`)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	require.NoError(t, j.Report(Report{Time: at, Total: 9}))
	require.NoError(t, j.Report(Report{
		Time: at, Step: 4, Total: 9, Loss: 2.5, Tokens: 512, TokensPerSecond: 100, LearningRate: 0.003, Checkpoint: 3, Message: "m",
	}))
	raw, err := os.ReadFile(j.Progress)
	require.NoError(t, err)
	lines := bytes.Split(raw, []byte("\n"))
	require.Len(t, lines, 3)
	require.JSONEq(t, `{"time":"2026-03-01T12:00:00Z","step":0,"total":9}`, string(lines[0]))
	require.JSONEq(t, `{"time":"2026-03-01T12:00:00Z","step":4,"total":9,"loss":2.5,"tokens":512,"tokens_per_s":100,
		"learning_rate":0.003,"checkpoint":3,"message":"m"}`, string(lines[1]))
	require.True(t, json.Valid(lines[0]))
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	require.Equal(t, 0, ExitCode(nil))
	require.Equal(t, 64, ExitCode(fmt.Errorf("read: %w", ErrSpec)))
	require.Equal(t, 75, ExitCode(fmt.Errorf("stop: %w", ErrAgain)))
	require.Equal(t, 1, ExitCode(errors.New("disk")))
}
