package serving_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/serving"
)

// runtimeProgram finds the reference runtime that `make build` made, with a serve command.
func runtimeProgram(t *testing.T) string {
	t.Helper()
	program, err := filepath.Abs("../../bin/refit-runtime")
	require.NoError(t, err)
	if err := exec.Command(program, "serve", "--help").Run(); err != nil {
		t.Skipf("needs bin/refit-runtime (make build): %v", err)
	}
	return program
}

// tinyModel trains a model of two steps: enough to be served.
func tinyModel(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "inputs", "dataset", "train")
	for _, folder := range []string{data, filepath.Join(dir, "outputs"), filepath.Join(dir, "checkpoints")} {
		require.NoError(t, os.MkdirAll(folder, 0o755))
	}
	var lines strings.Builder
	for i := range 40 {
		fmt.Fprintf(&lines, "{\"id\":\"%d\",\"source\":\"s\",\"title\":\"t\",\"text\":\"Package %d does one thing, and does it again and again.\"}\n", i, i)
	}
	require.NoError(t, os.WriteFile(filepath.Join(data, "a.jsonl"), []byte(lines.String()), 0o600))
	spec := `{"parameters":{"vocab_size":300,"layers":1,"width":32,"heads":2,"kv_heads":1,"context":32,"batch":4,"slices":1,"steps":2}}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spec.json"), []byte(spec), 0o600))
	job := exec.Command(program, "train")
	job.Env = append(os.Environ(),
		"REFIT_SPEC="+filepath.Join(dir, "spec.json"), "REFIT_INPUTS="+filepath.Join(dir, "inputs"),
		"REFIT_OUTPUTS="+filepath.Join(dir, "outputs"), "REFIT_CHECKPOINTS="+filepath.Join(dir, "checkpoints"),
		"REFIT_PROGRESS="+filepath.Join(dir, "progress.jsonl"))
	out, err := job.CombinedOutput()
	require.NoError(t, err, string(out))
	return filepath.Join(dir, "outputs", "model")
}

// The local engine against the program that it is for: names, warm-up, counters and access log.
func TestLocalServesTheReferenceRuntime(t *testing.T) {
	t.Parallel()
	program := runtimeProgram(t)
	p := placement("a")
	p.ModelDir = tinyModel(t, program)
	engine := newLocal(t, serving.LocalConfig{StateDir: t.TempDir(), Command: []string{program, "serve"}})
	endpoints, err := engine.Load(t.Context(), p)
	require.NoError(t, err)

	counts, err := serving.Served(t.Context(), nil, endpoints)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{p.Release.ServedName(): 3}, counts, "the warm-up, as the server counted it")

	raw, err := os.ReadFile(onlyServer(t, engine).AccessLog)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	require.Len(t, lines, 3)
	for _, line := range lines {
		var entry struct {
			Model     string `json:"model"`
			RequestID string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		require.Equal(t, p.Release.ServedName(), entry.Model)
		require.Equal(t, serving.WarmUpRequest, entry.RequestID, "whoever counts shares leaves these out")
	}
}
