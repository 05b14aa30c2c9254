package computetest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/lifecycle"
)

const (
	patience = 60 * time.Second
	look     = 20 * time.Millisecond
)

// Suite runs the contract against engines that newEngine makes: fresh, able to run `sh`, with at least two jobs
// at once and a grace time of about one second. Files that jobs and test share lie below t.TempDir.
func Suite(t *testing.T, newEngine func(t *testing.T) compute.Engine) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, compute.Engine){
		"a job meets the contract and leaves outputs":      contract,
		"exit codes become phases":                         exitCodes,
		"exit 0 without a declared output is a failure":    missingOutput,
		"canceling asks with SIGTERM":                      cancelAsks,
		"canceling insists":                                cancelInsists,
		"a job past its time bound is stopped":             maxTime,
		"submitting twice runs once":                       twiceIsOnce,
		"another spec under the same key is a conflict":    conflict,
		"tries of a run follow each other and share state": tries,
		"progress and log can be followed":                 progressAndLog,
		"what is not known is lost, not an error":          unknown,
		"a run that ended can be removed":                  remove,
		"faults of a run come all at once":                 faults,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newEngine(t))
		})
	}
}

// Shell makes a run of a shell script.
func Shell(key, script string) compute.Run {
	return compute.Run{Key: key, Try: 1, Spec: lifecycle.JobSpec{Name: "test", Engine: "local", Command: []string{"sh", "-c", script}}}
}

// Ended waits until a try has ended.
func Ended(t *testing.T, e compute.Engine, h compute.Handle) lifecycle.JobStatus {
	t.Helper()
	return Reached(t, e, h, func(s lifecycle.JobStatus) bool { return s.Phase.Ended() })
}

// Reached waits until a try's status is as wanted; a try that ends otherwise fails the test.
func Reached(t *testing.T, e compute.Engine, h compute.Handle, want func(lifecycle.JobStatus) bool) lifecycle.JobStatus {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		status, err := e.Observe(t.Context(), h)
		require.NoError(t, err)
		if want(status) {
			return status
		}
		if status.Phase.Ended() {
			log, _ := e.LogTail(t.Context(), h, 2000)
			require.Failf(t, "the job ended first", "%+v\n%s", status, log)
		}
		select {
		case <-deadline:
			require.Failf(t, "the status did not come", "%+v", status)
		case <-ticker.C:
		}
	}
}

func stepReached(n int64) func(lifecycle.JobStatus) bool {
	return func(s lifecycle.JobStatus) bool { return s.Progress != nil && s.Progress.Step >= n }
}

func submit(t *testing.T, e compute.Engine, run compute.Run) compute.Handle {
	t.Helper()
	h, err := e.Submit(t.Context(), run)
	require.NoError(t, err)
	return h
}

func contract(t *testing.T, e compute.Engine) {
	data := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(data, "a.txt"), []byte("input"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(data, "sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(data, "sub", "b.txt"), nil, 0o644))
	run := Shell("contract", `set -e
test -d "$REFIT_CHECKPOINTS" && test -d "$TMPDIR" && test -z "$REFIT_TEST_STACK"
test "$(find "$REFIT_INPUTS/data" -type f | wc -l)" = 2
mkdir "$REFIT_OUTPUTS/model"
cp "$REFIT_SPEC" "$REFIT_OUTPUTS/model/spec.json"
cp "$REFIT_INPUTS/data/a.txt" "$REFIT_OUTPUTS/model/a.txt"`)
	run.Spec.Parameters = json.RawMessage(`{"rate":0.1}`)
	run.Spec.Inputs = map[string]lifecycle.ArtifactRef{"data": {Kind: lifecycle.DatasetArtifact, Digest: lifecycle.DigestOf(nil)}}
	run.Spec.Outputs = map[string]lifecycle.ArtifactKind{"model": lifecycle.ModelArtifact}
	run.Inputs = map[string]string{"data": data}
	h := submit(t, e, run)
	status := Ended(t, e, h)
	require.Equal(t, lifecycle.JobSucceeded, status.Phase, status.Reason)
	require.Zero(t, status.ExitCode)
	require.False(t, status.Started.IsZero() || status.Ended.Before(status.Started))
	out, err := e.Outputs(t.Context(), h)
	require.NoError(t, err)
	require.Len(t, out, 1)
	spec, err := os.ReadFile(filepath.Join(out["model"], "spec.json"))
	require.NoError(t, err)
	require.JSONEq(t, `{"parameters":{"rate":0.1}}`, string(spec))
	input, err := os.ReadFile(filepath.Join(out["model"], "a.txt"))
	require.NoError(t, err)
	require.Equal(t, "input", string(input))
}

func exitCodes(t *testing.T, e compute.Engine) {
	for code, want := range map[int]lifecycle.JobPhase{
		0: lifecycle.JobSucceeded, 64: lifecycle.JobRejected, 75: lifecycle.JobRetry, 1: lifecycle.JobFailed, 42: lifecycle.JobFailed,
	} {
		h := submit(t, e, Shell(fmt.Sprint("exit ", code), fmt.Sprint("exit ", code)))
		status := Ended(t, e, h)
		require.Equal(t, want, status.Phase, "exit %d: %s", code, status.Reason)
		require.Equal(t, code, status.ExitCode)
		if want != lifecycle.JobSucceeded {
			_, err := e.Outputs(t.Context(), h)
			require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
		}
	}
	killed := Ended(t, e, submit(t, e, Shell("killed", "kill -KILL $$")))
	require.Equal(t, lifecycle.JobFailed, killed.Phase)
	require.Equal(t, 137, killed.ExitCode)
	run := Shell("no program", "")
	run.Spec.Command = []string{"/no/such/program"}
	require.Equal(t, lifecycle.JobRejected, Ended(t, e, submit(t, e, run)).Phase)
}

func missingOutput(t *testing.T, e compute.Engine) {
	run := Shell("missing", `mkdir "$REFIT_OUTPUTS/model"`)
	run.Spec.Outputs = map[string]lifecycle.ArtifactKind{"model": lifecycle.ModelArtifact}
	status := Ended(t, e, submit(t, e, run))
	require.Equal(t, lifecycle.JobFailed, status.Phase)
	require.Contains(t, status.Reason, "model")
}

const report = `printf '{"step":1,"total":2}\n' >> "$REFIT_PROGRESS"; `

func cancelAsks(t *testing.T, e compute.Engine) {
	h := submit(t, e, Shell("cancel", report+"sleep 600"))
	Reached(t, e, h, stepReached(1))
	require.NoError(t, e.Cancel(t.Context(), h))
	require.NoError(t, e.Cancel(t.Context(), h))
	status := Ended(t, e, h)
	require.Equal(t, lifecycle.JobCanceled, status.Phase)
	require.Equal(t, 143, status.ExitCode)
	require.NoError(t, e.Cancel(t.Context(), h), "canceling what has ended changes nothing")
	require.Equal(t, status, Ended(t, e, h))
}

func cancelInsists(t *testing.T, e compute.Engine) {
	h := submit(t, e, Shell("insist", "trap '' TERM; "+report+"while :; do sleep 1; done"))
	Reached(t, e, h, stepReached(1))
	require.NoError(t, e.Cancel(t.Context(), h))
	status := Ended(t, e, h)
	require.Equal(t, lifecycle.JobCanceled, status.Phase)
	require.Equal(t, 137, status.ExitCode)
}

func maxTime(t *testing.T, e compute.Engine) {
	run := Shell("bound", "sleep 600")
	run.Spec.MaxTime = lifecycle.Duration(200 * time.Millisecond)
	status := Ended(t, e, submit(t, e, run))
	require.Equal(t, lifecycle.JobFailed, status.Phase)
	require.Contains(t, status.Reason, "time bound")
	run = Shell("bound with a checkpoint", "trap 'exit 75' TERM; sleep 600 & wait")
	run.Spec.MaxTime = lifecycle.Duration(200 * time.Millisecond)
	require.Equal(t, lifecycle.JobRetry, Ended(t, e, submit(t, e, run)).Phase)
}

func twiceIsOnce(t *testing.T, e compute.Engine) {
	file := filepath.Join(t.TempDir(), "runs")
	run := Shell("twice", "echo one >> "+file)
	handles := make([]compute.Handle, 6)
	var group sync.WaitGroup
	for i := range handles {
		group.Add(1)
		go func() {
			defer group.Done()
			h, err := e.Submit(t.Context(), run)
			if err != nil {
				t.Error(err)
			}
			handles[i] = h
		}()
	}
	group.Wait()
	require.Equal(t, lifecycle.JobSucceeded, Ended(t, e, handles[0]).Phase)
	require.Equal(t, handles[0], submit(t, e, run), "also after it ended")
	Ended(t, e, handles[0])
	for _, h := range handles {
		require.Equal(t, handles[0], h)
	}
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "one\n", string(raw))
}

func conflict(t *testing.T, e compute.Engine) {
	submit(t, e, Shell("same key", "exit 0"))
	_, err := e.Submit(t.Context(), Shell("same key", "exit 1"))
	require.True(t, lifecycle.Is(err, lifecycle.Conflict), "%v", err)
}

func tries(t *testing.T, e compute.Engine) {
	run := Shell("tries", `if [ -e "$REFIT_CHECKPOINTS/one" ]; then exit 0; fi
echo 1 > "$REFIT_CHECKPOINTS/one"; `+report+`trap 'exit 75' TERM; sleep 600 & wait`)
	first := submit(t, e, run)
	Reached(t, e, first, stepReached(1))
	run.Try = 2
	_, err := e.Submit(t.Context(), run)
	require.True(t, lifecycle.Is(err, lifecycle.Busy), "two tries never run at once: %v", err)
	require.NoError(t, e.Cancel(t.Context(), first))
	require.Equal(t, lifecycle.JobCanceled, Ended(t, e, first).Phase)
	second := submit(t, e, run)
	status := Ended(t, e, second)
	require.Equal(t, lifecycle.JobSucceeded, status.Phase, status.Reason)
	require.Nil(t, status.Progress, "progress is of one try")
	run.Try = 1
	_, err = e.Submit(t.Context(), run)
	require.True(t, lifecycle.Is(err, lifecycle.Conflict), "an older try does not come back: %v", err)
}

func progressAndLog(t *testing.T, e compute.Engine) {
	gate := filepath.Join(t.TempDir(), "gate")
	h := submit(t, e, Shell("progress", `echo hello; echo trouble >&2
printf '{"step":1,"total":9,"loss":2.5}\n{"step":2,"total":9,"loss":2.25,"tokens":7,"message":"m"}\nnot json\n{"step":3,"to' >> "$REFIT_PROGRESS"
until [ -e `+gate+` ]; do sleep 0.05; done`))
	status := Reached(t, e, h, stepReached(1))
	require.Equal(t, lifecycle.JobRunning, status.Phase)
	require.Equal(t, -1, status.ExitCode)
	require.Equal(t, lifecycle.Progress{Step: 2, Total: 9, Loss: 2.25, Tokens: 7, Message: "m"}, *status.Progress)
	log, err := e.LogTail(t.Context(), h, 1000)
	require.NoError(t, err)
	require.Equal(t, []string{"hello", "trouble"}, strings.Fields(string(log)))
	log, err = e.LogTail(t.Context(), h, 4)
	require.NoError(t, err)
	require.Equal(t, "ble\n", string(log))
	require.NoError(t, os.WriteFile(gate, nil, 0o644))
	require.Equal(t, lifecycle.JobSucceeded, Ended(t, e, h).Phase)
}

func unknown(t *testing.T, e compute.Engine) {
	h := submit(t, e, Shell("known", "exit 0"))
	Ended(t, e, h)
	h.Try = 7
	status, err := e.Observe(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobLost, status.Phase)
	h.Engine = "another"
	_, err = e.Observe(t.Context(), h)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "what cannot be seen is not lost: %v", err)
}

func remove(t *testing.T, e compute.Engine) {
	run := Shell("remove", report+"sleep 600")
	h := submit(t, e, run)
	Reached(t, e, h, stepReached(1))
	err := e.Remove(t.Context(), h)
	require.True(t, lifecycle.Is(err, lifecycle.Busy), "%v", err)
	require.NoError(t, e.Cancel(t.Context(), h))
	Ended(t, e, h)
	require.NoError(t, e.Remove(t.Context(), h))
	require.NoError(t, e.Remove(t.Context(), h))
	status, err := e.Observe(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobLost, status.Phase)
}

func faults(t *testing.T, e compute.Engine) {
	run := Shell("no input", "exit 0")
	run.Inputs = map[string]string{"data": filepath.Join(t.TempDir(), "absent")}
	_, err := e.Submit(t.Context(), run)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	_, err = e.Submit(t.Context(), compute.Run{Inputs: map[string]string{"../up": "relative"}})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	for _, field := range []string{"key", "try", "command", "../up", "absolute"} {
		require.ErrorContains(t, err, field)
	}
}
