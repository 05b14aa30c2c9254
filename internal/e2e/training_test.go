package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Every run trains the same model from the same text, so all must end with the same bytes: whoever lost a step,
// did one twice or took other data would end with others. The model's tree holds the last step's loss, too.
func TestTrainingIsExactWhateverIsKilled(t *testing.T) {
	t.Parallel()
	program(t, "refit-runtime")
	w := newWorld(t, onSharedStack(t))
	w.startConsole()
	w.worker.start()
	w.apply(fmt.Sprintf(`service: %s
serving: {engine: local}
corpora: {base: {sources: [{kind: folder, path: %q}]}}
training: {base: %s}
`, w.service, w.writeCorpus("notes", 120, 3), smallTraining))

	calm := w.train(func(trainer) {})
	require.Equal(t, 1, calm.tries)

	worker := w.train(func(tr trainer) {
		w.worker.kill()
		seen := tr.lastStep(t)
		await(t, "the trainer to go on without a worker", func() (bool, any) {
			step := tr.lastStep(t)
			return step > seen && step < trainingSteps, step
		})
		require.Equal(t, []int{tr.pid}, w.trainers(), "the same process goes on")
		w.worker.start()
	})
	require.Equal(t, 1, worker.tries, "a killed worker costs no try")

	killed := w.train(func(tr trainer) { require.NoError(t, syscall.Kill(tr.pid, syscall.SIGKILL)) })
	require.Equal(t, 2, killed.tries)
	require.Greater(t, killed.resumed, int64(1), "the second try began at the beginning")

	shim := w.train(func(tr trainer) { require.NoError(t, syscall.Kill(parent(t, tr.pid), syscall.SIGKILL)) })
	require.Equal(t, 2, shim.tries)
	require.Greater(t, shim.resumed, int64(1), "the second try began at the beginning")

	for name, run := range map[string]trained{"worker": worker, "trainer": killed, "shim": shim} {
		require.Equal(t, calm.model, run.model, "killing the %s changed the model", name)
	}
	w.checkRecord()
}

// smallTraining takes some seconds.
const (
	trainingSteps = 1200
	smallTraining = "{vocab_size: 300, layers: 1, width: 32, heads: 2, context: 32, batch: 4, slices: 1, steps: 1200, checkpoint_every: 50}"
)

// trainer is a training process.
type trainer struct {
	pid int
	try string // folder
}

// trained is a finished training run.
type trained struct {
	model   lifecycle.Digest
	tries   int
	resumed int64 // step of the last try's first report
}

// train trains the base model by command. disturb is called once the trainer has reported and has a checkpoint.
func (w *world) train(disturb func(trainer)) trained {
	w.t.Helper()
	var run started
	w.refit(&run, "train", w.service, "--stage", "base")
	var tr trainer
	await(w.t, "a trainer with a checkpoint", func() (bool, any) {
		pids := w.trainers()
		if len(pids) != 1 {
			return false, pids
		}
		tr = trainer{pids[0], filepath.Dir(environ(pids[0], "REFIT_PROGRESS"))}
		saved, _ := filepath.Glob(filepath.Join(environ(pids[0], "REFIT_CHECKPOINTS"), "step-*.safetensors"))
		return len(saved) > 0 && tr.lastStep(w.t) > 0, tr
	})
	disturb(tr)
	result, err := ended[steps.PretrainingResult](w, run)
	require.NoError(w.t, err)
	tries, err := filepath.Glob(filepath.Join(filepath.Dir(tr.try), "*"))
	require.NoError(w.t, err)
	last := trainer{try: filepath.Join(filepath.Dir(tr.try), strconv.Itoa(len(tries)))}
	reports := last.reports(w.t)
	for i := 1; i < len(reports); i++ {
		require.Greater(w.t, reports[i].Step, reports[i-1].Step, "a step was lost or done twice")
	}
	end := reports[len(reports)-1]
	require.Equal(w.t, int64(trainingSteps), end.Step)
	return trained{model: result.Model, tries: len(tries), resumed: reports[0].Step}
}

// trainers lists the living training processes of this world.
func (w *world) trainers() []int {
	var living []int
	for _, pid := range processesOf("REFIT_PROGRESS", w.dir) {
		if !gone(pid) {
			living = append(living, pid)
		}
	}
	return living
}

func (tr trainer) lastStep(t *testing.T) int64 {
	reports := tr.reports(t)
	if len(reports) == 0 {
		return 0
	}
	return reports[len(reports)-1].Step
}

func (tr trainer) reports(t *testing.T) []lifecycle.Progress {
	t.Helper()
	file, err := os.Open(filepath.Join(tr.try, "progress.jsonl"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	defer file.Close()
	var reports []lifecycle.Progress
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var p lifecycle.Progress
		if json.Unmarshal(lines.Bytes(), &p) == nil { // the last line may still be on its way
			reports = append(reports, p)
		}
	}
	return reports
}

// environ gives a variable of a process's environment.
func environ(pid int, name string) string {
	raw, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	for _, line := range strings.Split(string(raw), "\x00") {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// parent gives the process that started another.
func parent(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	require.NoError(t, err)
	fields := strings.Fields(string(raw)[strings.LastIndexByte(string(raw), ')')+1:])
	ppid, err := strconv.Atoi(fields[1])
	require.NoError(t, err)
	return ppid
}
