package trainer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/internal/godocs"
	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/llama"
)

// small is a model that a test can train; it reads real documentation all the same.
const small = `"vocab_size":400,"layers":1,"width":32,"heads":2,"kv_heads":1,"context":32,"batch":8,"slices":2`

func parameters(more string) string { return `{"parameters":{` + small + more + `}}` }

func newJob(t *testing.T, spec string, inputs map[string]string) job.Job {
	t.Helper()
	dir := t.TempDir()
	j := job.Job{
		Spec: filepath.Join(dir, "spec.json"), Inputs: filepath.Join(dir, "in"), Outputs: filepath.Join(dir, "out"),
		Checkpoints: filepath.Join(dir, "checkpoints"), Progress: filepath.Join(dir, "progress.jsonl"),
	}
	require.NoError(t, os.MkdirAll(j.Inputs, 0o755))
	for name, from := range inputs {
		require.NoError(t, os.Symlink(from, filepath.Join(j.Inputs, name)))
	}
	respecify(t, j, spec)
	return j
}

func respecify(t *testing.T, j job.Job, spec string) {
	t.Helper()
	require.NoError(t, os.WriteFile(j.Spec, []byte(spec), 0o600))
}

func docs(t *testing.T, packages ...string) string {
	t.Helper()
	documents, err := godocs.Documents(packages...)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, godocs.Write(dir, documents))
	return dir
}

func train(ctx context.Context, j job.Job) error { return Run(ctx, j, slog.New(slog.DiscardHandler)) }

func summary(t *testing.T, j job.Job) Summary {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(j.Outputs, "model", "training.json"))
	require.NoError(t, err)
	var s Summary
	require.NoError(t, json.Unmarshal(raw, &s))
	return s
}

// model is all files of the output, by name.
func model(t *testing.T, j job.Job) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"config.json", bpe.File, llama.WeightsFile, "training.json"} {
		raw, err := os.ReadFile(filepath.Join(j.Outputs, "model", name))
		require.NoError(t, err)
		files[name] = string(raw)
	}
	return files
}

func progress(t *testing.T, j job.Job) []job.Report {
	t.Helper()
	raw, err := os.ReadFile(j.Progress)
	require.NoError(t, err)
	var reports []job.Report
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		var r job.Report
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		reports = append(reports, r)
	}
	return reports
}

func TestTrainingLearnsRealDocumentation(t *testing.T) {
	t.Parallel()
	dataset := map[string]string{"dataset": docs(t, "net/http", "strings", "os", "io")}
	untrained := newJob(t, parameters(`,"steps":1`), dataset)
	require.NoError(t, train(t.Context(), untrained))
	trained := newJob(t, parameters(`,"steps":250`), dataset)
	require.NoError(t, train(t.Context(), trained))

	before, after := *summary(t, untrained).HeldOutBitsPerByte, *summary(t, trained).HeldOutBitsPerByte
	t.Logf("held-out bits per byte: %.2f, trained %.2f", before, after)
	require.Greater(t, before, 3.5)
	require.Less(t, after, before-0.9)
	reports := progress(t, trained)
	first, last := reports[0], reports[len(reports)-1]
	require.Less(t, last.Loss, first.Loss-1)
	require.Equal(t, 1, first.Step)
	require.Equal(t, job.Report{
		Time: last.Time, Step: 250, Total: 250, Loss: last.Loss, Tokens: 250 * 8 * 32, TokensPerSecond: last.TokensPerSecond,
		LearningRate: last.LearningRate, Checkpoint: 250,
	}, last)
	require.Positive(t, last.TokensPerSecond)

	dir := filepath.Join(trained.Outputs, "model")
	c, err := llama.ReadConfig(dir)
	require.NoError(t, err)
	tokenizer, err := bpe.ReadFile(filepath.Join(dir, bpe.File))
	require.NoError(t, err)
	require.Equal(t, 400, tokenizer.Size())
	require.Equal(t, 400, c.VocabSize)
	require.Equal(t, 32, c.Context)
	_, err = llama.ReadWeights(dir, c)
	require.NoError(t, err)
	s := summary(t, trained)
	require.Equal(t, c.Parameters(), s.Parameters)
	require.Equal(t, 250*8*32, s.TrainedTokens)
	require.Nil(t, s.ReplayBitsPerByte)
}

func TestContinuingLearnsFreshTextAndReplayKeepsOld(t *testing.T) {
	t.Parallel()
	old, fresh := docs(t, "net/http", "strings", "os", "io"), docs(t, "go/ast", "go/types", "math/big", "crypto/x509")
	base := newJob(t, parameters(`,"steps":150`), map[string]string{"dataset": old})
	require.NoError(t, train(t.Context(), base))
	from := filepath.Join(base.Outputs, "model")

	// One step at a rate of nearly nothing scores the base on both texts.
	still := newJob(t, `{"parameters":{"steps":1,"learning_rate":1e-12}}`, map[string]string{"dataset": fresh, "replay": old, "model": from})
	require.NoError(t, train(t.Context(), still))
	replaying := newJob(t, `{"parameters":{"steps":100,"batch":8,"replay_fraction":0.4}}`, map[string]string{"dataset": fresh, "replay": old, "model": from})
	require.NoError(t, train(t.Context(), replaying))
	before, after := summary(t, still), summary(t, replaying)
	t.Logf("fresh %.2f to %.2f, old %.2f to %.2f", *before.HeldOutBitsPerByte, *after.HeldOutBitsPerByte,
		*before.ReplayBitsPerByte, *after.ReplayBitsPerByte)
	require.Less(t, *after.HeldOutBitsPerByte, *before.HeldOutBitsPerByte-0.2)
	require.True(t, after.Continued)
	require.Positive(t, after.ReplayTokens)

	forgetting := newJob(t, `{"parameters":{"steps":100,"batch":8}}`, map[string]string{"dataset": fresh, "model": from})
	require.NoError(t, train(t.Context(), forgetting))
	swapped := newJob(t, `{"parameters":{"steps":1,"learning_rate":1e-12}}`,
		map[string]string{"dataset": old, "model": filepath.Join(forgetting.Outputs, "model")})
	require.NoError(t, train(t.Context(), swapped))
	t.Logf("without replay, old %.2f", *summary(t, swapped).HeldOutBitsPerByte)
	require.Less(t, *after.ReplayBitsPerByte, *summary(t, swapped).HeldOutBitsPerByte)
	require.Equal(t, model(t, base)[bpe.File], model(t, forgetting)[bpe.File], "the tokenizer is the base's")
}

// stopping is a context that is done after some looks at it.
type stopping struct {
	context.Context
	looks int
}

func (s *stopping) Err() error {
	if s.looks--; s.looks < 0 {
		return context.Canceled
	}
	return nil
}

func TestAnInterruptedRunEndsWithTheSameBits(t *testing.T) {
	t.Parallel()
	dataset := map[string]string{"dataset": docs(t, "strings", "os"), "replay": docs(t, "io")}
	spec := parameters(`,"steps":21,"checkpoint_every":4,"replay_fraction":0.3`)
	straight := newJob(t, spec, dataset)
	require.NoError(t, train(t.Context(), straight))

	broken := newJob(t, spec, dataset)
	done := 0
	for _, steps := range []int{0, 3, 1, 6} {
		err := train(&stopping{t.Context(), steps}, broken)
		require.ErrorIs(t, err, job.ErrAgain)
		done += steps
		require.ErrorContains(t, err, fmt.Sprintf("step %d of 21", done))
		require.NoDirExists(t, filepath.Join(broken.Outputs, "model"))
	}
	require.NoError(t, train(t.Context(), broken))
	require.Equal(t, model(t, straight), model(t, broken))

	// The process may end between the last checkpoint and the output.
	require.NoError(t, os.RemoveAll(filepath.Join(broken.Outputs, "model")))
	require.NoError(t, train(t.Context(), broken))
	require.Equal(t, model(t, straight), model(t, broken))
}

func TestADamagedCheckpointCostsStepsButNotTheResult(t *testing.T) {
	t.Parallel()
	dataset := map[string]string{"dataset": docs(t, "strings")}
	spec := parameters(`,"steps":12,"checkpoint_every":4`)
	straight := newJob(t, spec, dataset)
	require.NoError(t, train(t.Context(), straight))

	broken := newJob(t, spec, dataset)
	require.ErrorIs(t, train(&stopping{t.Context(), 9}, broken), job.ErrAgain)
	kept := checkpoints{dir: broken.Checkpoints}
	files, err := kept.list()
	require.NoError(t, err)
	require.Equal(t, []string{kept.path(8), kept.path(9)}, files)
	change(t, files[1], func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw })
	require.NoError(t, train(t.Context(), broken))
	require.Equal(t, model(t, straight), model(t, broken))
}

func TestACheckpointOfAnotherSpecIsRefusedByARun(t *testing.T) {
	t.Parallel()
	j := newJob(t, parameters(`,"steps":6`), map[string]string{"dataset": docs(t, "strings")})
	require.ErrorIs(t, train(&stopping{t.Context(), 2}, j), job.ErrAgain)
	respecify(t, j, parameters(`,"steps":6,"seed":1`))
	err := train(t.Context(), j)
	require.ErrorIs(t, err, job.ErrSpec)
	require.ErrorContains(t, err, "belongs to another spec")
}

func TestSeedsDecide(t *testing.T) {
	t.Parallel()
	dataset := map[string]string{"dataset": docs(t, "strings")}
	one, two := newJob(t, parameters(`,"steps":3,"seed":1`), dataset), newJob(t, parameters(`,"steps":3,"seed":2`), dataset)
	require.NoError(t, train(t.Context(), one))
	require.NoError(t, train(t.Context(), two))
	require.NotEqual(t, model(t, one)[llama.WeightsFile], model(t, two)[llama.WeightsFile])
}

func TestADatasetWithoutHeldOutTextIsScoredByNobody(t *testing.T) {
	t.Parallel()
	dir := docs(t, "strings")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "heldout")))
	j := newJob(t, parameters(`,"steps":2`), map[string]string{"dataset": dir})
	require.NoError(t, train(t.Context(), j))
	require.NotContains(t, model(t, j)["training.json"], "heldout")
}

func TestWhatIsWrongForGoodIsSaidSo(t *testing.T) {
	t.Parallel()
	good := docs(t, "strings")
	base := newJob(t, parameters(`,"steps":1`), map[string]string{"dataset": good})
	require.NoError(t, train(t.Context(), base))
	baseDir := filepath.Join(base.Outputs, "model")
	write := func(name, content string) string {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		return dir
	}
	damaged := func(name string, damage func(string) string) string {
		dir := t.TempDir()
		for file, content := range model(t, base) {
			if file == name {
				content = damage(content)
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600))
		}
		return dir
	}
	brokenTrain := write("train/0.jsonl", `{"id":"a"`)
	brokenHeldOut := docs(t, "strings")
	require.NoError(t, os.WriteFile(filepath.Join(brokenHeldOut, "heldout", "x.jsonl"), []byte("?"), 0o600))
	for name, tc := range map[string]struct {
		spec   string
		inputs map[string]string
		want   string
	}{
		"unknown parameter":    {`{"parameters":{"stpes":3}}`, map[string]string{"dataset": good}, "stpes"},
		"no dataset":           {`{}`, nil, "no input dataset"},
		"broken dataset":       {`{}`, map[string]string{"dataset": brokenTrain}, "line 1"},
		"broken held-out text": {`{}`, map[string]string{"dataset": brokenHeldOut}, "x.jsonl"},
		"empty replay":         {`{}`, map[string]string{"dataset": good, "replay": t.TempDir()}, "no document"},
		"another width":        {`{"parameters":{"width":64}}`, map[string]string{"dataset": good, "model": baseDir}, "width is 64"},
		"empty base":           {`{}`, map[string]string{"dataset": good, "model": t.TempDir()}, "config.json"},
		"base cut short": {`{}`, map[string]string{"dataset": good,
			"model": damaged(llama.WeightsFile, func(s string) string { return s[:len(s)-4] })}, "safetensors"},
		"base with another tokenizer": {`{}`, map[string]string{"dataset": good,
			"model": damaged("config.json", func(s string) string { return strings.Replace(s, `"vocab_size": 400`, `"vocab_size": 401`, 1) })},
			"400 tokens, its config says 401"},
		"a loss that runs away": {parameters(`,"steps":60,"learning_rate":1,"warmup":-1,"weight_decay":10`), map[string]string{"dataset": good}, "lower learning_rate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, tc.spec, tc.inputs)
			err := train(t.Context(), j)
			require.ErrorIs(t, err, job.ErrSpec)
			require.ErrorContains(t, err, tc.want)
			require.NoDirExists(t, filepath.Join(j.Outputs, "model"))
		})
	}
}
