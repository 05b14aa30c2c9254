package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/internal/godocs"
	"github.com/refitml/refit/runtime/job"
)

// asCommand, set in its environment, makes the test binary the command itself.
const asCommand = "REFIT_RUNTIME_IS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main() // exits
	}
	os.Exit(m.Run())
}

// process is refit-runtime, started.
type process struct {
	*exec.Cmd
	output bytes.Buffer
}

func start(t *testing.T, environment []string, arguments ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], arguments...)}
	p.Env = append([]string{asCommand + "=1", "TMPDIR=" + t.TempDir()}, environment...)
	p.Stdout, p.Stderr = &p.output, &p.output
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// code waits for the end and returns the exit code, -1 after a signal.
func (p *process) code(t *testing.T) int {
	t.Helper()
	err := p.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	t.Logf("%s", p.output.String())
	return p.ProcessState.ExitCode()
}

type trainingJob struct{ job.Job }

func newTrainingJob(t *testing.T, dataset, spec string) trainingJob {
	t.Helper()
	dir := t.TempDir()
	j := trainingJob{job.Job{
		Spec: filepath.Join(dir, "spec.json"), Inputs: filepath.Join(dir, "inputs"), Outputs: filepath.Join(dir, "outputs"),
		Checkpoints: filepath.Join(dir, "checkpoints"), Progress: filepath.Join(dir, "progress.jsonl"),
	}}
	require.NoError(t, os.MkdirAll(j.Inputs, 0o755))
	require.NoError(t, os.Symlink(dataset, filepath.Join(j.Inputs, "dataset")))
	require.NoError(t, os.WriteFile(j.Spec, []byte(spec), 0o600))
	return j
}

func (j trainingJob) environment() []string {
	return []string{
		"REFIT_SPEC=" + j.Spec, "REFIT_INPUTS=" + j.Inputs, "REFIT_OUTPUTS=" + j.Outputs,
		"REFIT_CHECKPOINTS=" + j.Checkpoints, "REFIT_PROGRESS=" + j.Progress,
	}
}

// awaitCheckpoint returns when there is a checkpoint of step or a later one.
func (j trainingJob) awaitCheckpoint(t *testing.T, step int) {
	t.Helper()
	wanted := filepath.Join(j.Checkpoints, fmt.Sprintf("step-%09d.safetensors", step))
	require.Eventually(t, func() bool {
		files, err := filepath.Glob(filepath.Join(j.Checkpoints, "step-*"))
		return err == nil && slices.ContainsFunc(files, func(file string) bool { return file >= wanted })
	}, time.Minute, 2*time.Millisecond)
}

func (j trainingJob) model(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors", "training.json"} {
		raw, err := os.ReadFile(filepath.Join(j.Outputs, "model", name))
		require.NoError(t, err)
		files[name] = string(raw)
	}
	return files
}

func someDocs(t *testing.T) string {
	t.Helper()
	documents, err := godocs.Documents("strings", "io", "net/url")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, godocs.Write(dir, documents))
	return dir
}

const smallRun = `{"parameters":{"vocab_size":300,"layers":2,"width":32,"heads":2,"context":32,"batch":8,"slices":2,"steps":150,"checkpoint_every":1000}}`

// The kill comes at any moment after a checkpoint, at times while the next one is being written.
func TestAKilledTrainingEndsWithTheSameBits(t *testing.T) {
	t.Parallel()
	dataset := someDocs(t)
	spec := string(bytes.Replace([]byte(smallRun), []byte("1000"), []byte("3"), 1))
	undisturbed := newTrainingJob(t, dataset, spec)
	require.Zero(t, start(t, undisturbed.environment(), "train").code(t))

	killed := newTrainingJob(t, dataset, spec)
	for _, step := range []int{3, 30, 45} {
		p := start(t, killed.environment(), "train")
		killed.awaitCheckpoint(t, step)
		require.NoError(t, p.Process.Kill())
		require.Equal(t, -1, p.code(t))
		require.NoDirExists(t, filepath.Join(killed.Outputs, "model"))
	}
	last := start(t, killed.environment(), "train")
	require.Zero(t, last.code(t))
	require.NotContains(t, last.output.String(), "from_step=0")
	require.Equal(t, undisturbed.model(t), killed.model(t))
}

func TestSIGTERMLeavesACheckpointAndAsksForAnotherTry(t *testing.T) {
	t.Parallel()
	dataset := someDocs(t)
	undisturbed := newTrainingJob(t, dataset, smallRun)
	require.Zero(t, start(t, undisturbed.environment(), "train").code(t))

	stopped := newTrainingJob(t, dataset, smallRun)
	p := start(t, stopped.environment(), "train")
	require.Eventually(t, func() bool { // the first step's report
		raw, err := os.ReadFile(stopped.Progress)
		return err == nil && bytes.HasSuffix(raw, []byte("\n"))
	}, time.Minute, 2*time.Millisecond)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 75, p.code(t))
	entries, err := os.ReadDir(stopped.Checkpoints)
	require.NoError(t, err)
	require.Len(t, entries, 1)

	again := start(t, stopped.environment(), "train")
	require.Zero(t, again.code(t))
	require.NotContains(t, again.output.String(), "from_step=0")
	require.Equal(t, undisturbed.model(t), stopped.model(t))
}

func TestExitCodesOfTheCommand(t *testing.T) {
	t.Parallel()
	dataset := someDocs(t)
	wrong := newTrainingJob(t, dataset, `{"parameters":{"steps":"many"}}`)
	require.Equal(t, 64, start(t, wrong.environment(), "train").code(t))
	require.Equal(t, 64, start(t, nil, "train").code(t), "the contract's variables are missing")
	require.Equal(t, 2, start(t, wrong.environment(), "train", "extra").code(t))
	require.Equal(t, 2, start(t, wrong.environment(), "train", "--no-such-flag").code(t))
	require.Equal(t, 2, start(t, nil, "no-such-command").code(t))
	require.Equal(t, 0, start(t, nil, "--help").code(t))

	unwritable := newTrainingJob(t, dataset, `{"parameters":{"steps":1,"layers":1,"width":32,"context":16,"batch":4}}`)
	require.NoError(t, os.WriteFile(unwritable.Checkpoints, nil, 0o600)) // a file where a folder is to be
	require.Equal(t, 1, start(t, unwritable.environment(), "train").code(t))
}

func TestProgressIsJSONLines(t *testing.T) {
	t.Parallel()
	j := newTrainingJob(t, someDocs(t), `{"parameters":{"steps":2,"layers":1,"width":32,"context":16,"batch":4}}`)
	require.Zero(t, start(t, j.environment(), "train").code(t))
	raw, err := os.ReadFile(j.Progress)
	require.NoError(t, err)
	lines := bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))
	for _, line := range lines {
		var report job.Report
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&report))
		require.Equal(t, 2, report.Total)
	}
}
