package compute_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/compute/computetest"
	"github.com/refitml/refit/internal/lifecycle"
)

// The test's own program serves as shim and as a worker that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "job-shim":
			os.Exit(compute.ShimMain(os.Args[2:]))
		case "worker":
			os.Exit(workerMain(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// workerMain submits the run that stands on its standard input, prints the handle, and stays.
func workerMain(root string) int {
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	if err != nil {
		return 1
	}
	var run compute.Run
	if err := json.Unmarshal(line, &run); err != nil {
		return 1
	}
	engine, err := compute.OpenLocal(localConfig(root))
	if err != nil {
		return 1
	}
	h, err := engine.Submit(context.Background(), run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if json.NewEncoder(os.Stdout).Encode(h) != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, input)
	return 0
}

func localConfig(root string) compute.LocalConfig {
	return compute.LocalConfig{Root: root, Slots: 4, Grace: time.Second}
}

func newLocal(t *testing.T, change ...func(*compute.LocalConfig)) (*compute.Local, string) {
	t.Helper()
	cfg := localConfig(t.TempDir())
	for _, c := range change {
		c(&cfg)
	}
	e, err := compute.OpenLocal(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { endAll(t, cfg.Root) })
	return e, cfg.Root
}

// endAll asks every shim below a root to end and waits for their sessions, so that no test leaves a process.
func endAll(t *testing.T, root string) {
	t.Helper()
	states, err := filepath.Glob(filepath.Join(root, "runs", "*", "tries", "*", "state.json"))
	require.NoError(t, err)
	for _, path := range states {
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "cancel"), nil, 0o600))
	}
	require.Eventually(t, func() bool {
		for _, path := range states {
			if leader := shimOf(t, path); !gone(leader) {
				return false
			}
		}
		return true
	}, 30*time.Second, 20*time.Millisecond, "shims end")
}

func shimOf(t *testing.T, statePath string) int {
	t.Helper()
	raw, err := os.ReadFile(statePath)
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(t, err)
	var st struct {
		Session struct {
			Leader int `json:"leader"`
		} `json:"session"`
	}
	require.NoError(t, json.Unmarshal(raw, &st))
	return st.Session.Leader
}

// gone says whether a process has ended; a zombie that waits to be reaped has.
func gone(pid int) bool {
	if pid == 0 {
		return true
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	return fields[0] == "Z"
}

func onlyState(t *testing.T, root string) string {
	t.Helper()
	states, err := filepath.Glob(filepath.Join(root, "runs", "*", "tries", "*", "state.json"))
	require.NoError(t, err)
	require.Len(t, states, 1)
	return states[0]
}

func TestLocalKeepsTheContract(t *testing.T) {
	t.Parallel()
	computetest.Suite(t, func(t *testing.T) compute.Engine {
		t.Helper()
		e, _ := newLocal(t)
		return e
	})
}

func startWorker(t *testing.T, root string, run compute.Run) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	worker := exec.Command(self, "worker", root)
	stdin, err := worker.StdinPipe()
	require.NoError(t, err)
	stdout, err := worker.StdoutPipe()
	require.NoError(t, err)
	worker.Stderr = os.Stderr
	require.NoError(t, worker.Start())
	t.Cleanup(func() { _ = worker.Process.Kill(); _ = worker.Wait() })
	require.NoError(t, json.NewEncoder(stdin).Encode(run))
	return worker, bufio.NewReader(stdout)
}

func readHandle(t *testing.T, from *bufio.Reader) compute.Handle {
	t.Helper()
	line, err := from.ReadBytes('\n')
	require.NoError(t, err)
	var h compute.Handle
	require.NoError(t, json.Unmarshal(line, &h))
	return h
}

const pidThenGate = `echo $$ > "$REFIT_OUTPUTS/pid"; printf '{"step":1,"total":2}\n' >> "$REFIT_PROGRESS"
until [ -e "$REFIT_CHECKPOINTS/gate" ]; do sleep 0.05; done`

func jobPID(t *testing.T, statePath string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(statePath), "outputs", "pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	require.NoError(t, err)
	return pid
}

func running(s lifecycle.JobStatus) bool { return s.Progress != nil }

func TestAJobOutlivesItsWorker(t *testing.T) {
	t.Parallel()
	e, root := newLocal(t)
	run := computetest.Shell("outlive", pidThenGate)
	worker, out := startWorker(t, root, run)
	h := readHandle(t, out)
	computetest.Reached(t, e, h, running)
	pid := jobPID(t, onlyState(t, root))
	require.NoError(t, worker.Process.Kill())
	_ = worker.Wait()

	again, err := e.Submit(t.Context(), run) // the next worker does the same step again
	require.NoError(t, err)
	require.Equal(t, h, again)
	status, err := e.Observe(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobRunning, status.Phase)
	require.False(t, gone(pid), "the same process goes on")
	require.Equal(t, pid, jobPID(t, onlyState(t, root)))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(onlyState(t, root)), "..", "..", "checkpoints", "gate"), nil, 0o600))
	require.Equal(t, lifecycle.JobSucceeded, computetest.Ended(t, e, h).Phase)
}

func TestTwoProcessesSubmitOneRun(t *testing.T) {
	t.Parallel()
	e, root := newLocal(t)
	file := filepath.Join(t.TempDir(), "runs")
	run := computetest.Shell("both", "echo one >> "+file)
	_, first := startWorker(t, root, run)
	_, second := startWorker(t, root, run)
	h := readHandle(t, first)
	require.Equal(t, h, readHandle(t, second))
	require.Equal(t, lifecycle.JobSucceeded, computetest.Ended(t, e, h).Phase)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "one\n", string(raw))
}

func TestAKilledShimLosesItsJobButNoProcess(t *testing.T) {
	t.Parallel()
	e, root := newLocal(t, func(c *compute.LocalConfig) { c.Slots = 1 })
	// A grandchild that ignores everything that can be ignored must not be left either.
	run := computetest.Shell("shim", `(trap '' TERM HUP; exec sleep 600) & echo $! > "$REFIT_OUTPUTS/grandchild"; `+pidThenGate)
	h, err := e.Submit(t.Context(), run)
	require.NoError(t, err)
	computetest.Reached(t, e, h, running)
	state := onlyState(t, root)
	pid := jobPID(t, state)
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(state), "outputs", "grandchild"))
	require.NoError(t, err)
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	require.NoError(t, err)
	require.False(t, gone(pid) || gone(grandchild))

	require.NoError(t, unix.Kill(shimOf(t, state), unix.SIGKILL))
	status := computetest.Ended(t, e, h)
	require.Equal(t, lifecycle.JobLost, status.Phase)
	require.Equal(t, -1, status.ExitCode)
	require.True(t, gone(pid), "the job is gone before the try is called lost")
	require.True(t, gone(grandchild), "and so is what it started")

	run.Try = 2
	run.Spec.Command = []string{"sh", "-c", "exit 0"}
	h, err = e.Submit(t.Context(), run)
	require.NoError(t, err, "the next try may begin, and the slot is free")
	require.Equal(t, lifecycle.JobSucceeded, computetest.Ended(t, e, h).Phase)
}

func TestWhatAJobLeavesRunningEndsBeforeItsSlotIsFree(t *testing.T) {
	t.Parallel()
	e, root := newLocal(t)
	h, err := e.Submit(t.Context(), computetest.Shell("leftover", `trap '' TERM; sleep 600 & echo $! > "$REFIT_OUTPUTS/pid"`))
	require.NoError(t, err)
	status := computetest.Ended(t, e, h)
	require.Equal(t, lifecycle.JobSucceeded, status.Phase)
	require.True(t, gone(jobPID(t, onlyState(t, root))))
}

func TestSlotsBoundJobsOverProcesses(t *testing.T) {
	t.Parallel()
	one := func(c *compute.LocalConfig) { c.Slots = 1 }
	e, root := newLocal(t, one)
	first, err := e.Submit(t.Context(), computetest.Shell("first", pidThenGate))
	require.NoError(t, err)
	computetest.Reached(t, e, first, running)
	gate := filepath.Join(filepath.Dir(onlyState(t, root)), "..", "..", "checkpoints", "gate")
	cfg := localConfig(root)
	one(&cfg)
	other, err := compute.OpenLocal(cfg)
	require.NoError(t, err)
	second, err := other.Submit(t.Context(), computetest.Shell("second", "exit 0"))
	require.NoError(t, err)
	third, err := other.Submit(t.Context(), computetest.Shell("third", "exit 0"))
	require.NoError(t, err)
	require.NoError(t, e.Cancel(t.Context(), third))
	require.Equal(t, lifecycle.JobCanceled, computetest.Ended(t, e, third).Phase, "who waits can be canceled")
	status, err := e.Observe(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobQueued, status.Phase)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, lifecycle.JobSucceeded, computetest.Ended(t, e, second).Phase)
	require.Equal(t, lifecycle.JobSucceeded, computetest.Ended(t, e, first).Phase)
}

func TestAShimThatIsAskedToEndLetsTheJobSaveItsWork(t *testing.T) {
	t.Parallel()
	e, root := newLocal(t)
	h, err := e.Submit(t.Context(), computetest.Shell("shutdown",
		`trap 'echo saved > "$REFIT_CHECKPOINTS/c"; exit 75' TERM; printf '{"step":1,"total":2}\n' >> "$REFIT_PROGRESS"; sleep 600 & wait`))
	require.NoError(t, err)
	computetest.Reached(t, e, h, running)
	require.NoError(t, unix.Kill(shimOf(t, onlyState(t, root)), unix.SIGTERM))
	require.Equal(t, lifecycle.JobRetry, computetest.Ended(t, e, h).Phase)
	require.FileExists(t, filepath.Join(filepath.Dir(onlyState(t, root)), "..", "..", "checkpoints", "c"))
}

func TestAShimThatCannotStartIsUnavailable(t *testing.T) {
	t.Parallel()
	e, root := newLocal(t, func(c *compute.LocalConfig) { c.Shim = []string{"sh", "-c", "echo no such machine; exit 3"} })
	_, err := e.Submit(t.Context(), computetest.Shell("k", "exit 0"))
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	require.ErrorContains(t, err, "no such machine")
	working, err := compute.OpenLocal(localConfig(root))
	require.NoError(t, err)
	h, err := working.Submit(t.Context(), computetest.Shell("k", "exit 0"))
	require.NoError(t, err, "the same try can be submitted again")
	require.Equal(t, lifecycle.JobSucceeded, computetest.Ended(t, working, h).Phase)
}
