package embedder

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/internal/godocs"
	"github.com/refitml/refit/runtime/internal/vec"
	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/safetensors"
	"github.com/refitml/refit/runtime/text"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

var someDocuments = sync.OnceValues(func() ([]text.Document, error) {
	return godocs.Documents("net/http", "os", "io", "bufio", "strings", "bytes", "database/sql", "encoding/json", "time",
		"sync", "reflect", "net", "fmt", "strconv", "context", "math/big", "go/ast", "go/types", "text/template", "archive/zip")
})

// newJob makes a job over real documentation; parameters are JSON.
func newJob(t testing.TB, parameters string) job.Job {
	t.Helper()
	dir := t.TempDir()
	j := job.Job{
		Spec: filepath.Join(dir, "spec.json"), Inputs: filepath.Join(dir, "inputs"), Outputs: filepath.Join(dir, "outputs"),
		Checkpoints: filepath.Join(dir, "checkpoints"), Progress: filepath.Join(dir, "progress.jsonl"),
	}
	require.NoError(t, os.WriteFile(j.Spec, []byte(`{"parameters":`+parameters+`}`), 0o600))
	documents, err := someDocuments()
	require.NoError(t, err)
	half := len(documents) / 2
	require.NoError(t, godocs.Write(filepath.Join(j.Inputs, "dataset"), documents[:half]))
	require.NoError(t, godocs.Write(filepath.Join(j.Inputs, "dataset-2"), documents[half:]))
	return j
}

func trained(t testing.TB, parameters string) (*Model, job.Job) {
	t.Helper()
	j := newJob(t, parameters)
	require.NoError(t, Run(t.Context(), j, quiet))
	m, err := Load(filepath.Join(j.Outputs, "embedder"))
	require.NoError(t, err)
	return m, j
}

// recall gives the share of held-out questions whose answer is among the ten nearest of all answers.
func recall(t *testing.T, m *Model, j job.Job) (share float64, questions int) {
	t.Helper()
	var vectors [][]float32
	var asked []pair
	for _, dataset := range []string{"dataset", "dataset-2"} {
		for _, split := range []string{"heldout", "train"} {
			documents, err := text.Read(filepath.Join(j.Inputs, dataset), split)
			require.NoError(t, err)
			for _, d := range documents {
				p, ok := pairOf(d)
				if !ok {
					continue
				}
				v, _ := m.Embed(p.answer)
				vectors = append(vectors, v)
				if split == "train" {
					p.question = ""
				}
				asked = append(asked, p)
			}
		}
	}
	found := 0
	for i, p := range asked {
		if p.question == "" {
			continue
		}
		questions++
		q, _ := m.Embed(p.question)
		nearer := 0
		for _, v := range vectors {
			if vec.Dot(q, v) > vec.Dot(q, vectors[i]) {
				nearer++
			}
		}
		if nearer < 10 {
			found++
		}
	}
	return float64(found) / float64(questions), questions
}

func TestLearningFindsMoreThanARandomProjection(t *testing.T) {
	t.Parallel()
	random, j := trained(t, `{"epochs":-1}`)
	before, questions := recall(t, random, j)
	learned, j := trained(t, `{}`)
	after, _ := recall(t, learned, j)
	t.Logf("recall@10 of %d held-out questions: %.3f before, %.3f after learning", questions, before, after)
	require.Greater(t, questions, 100)
	require.Greater(t, after, before+0.1)

	raw, err := os.ReadFile(filepath.Join(j.Outputs, "embedder", trainingFile))
	require.NoError(t, err)
	var s Summary
	require.NoError(t, json.Unmarshal(raw, &s))
	require.Less(t, s.FinalLoss, s.FirstLoss/2)
	require.Equal(t, learned.Dimension(), s.Spec.Dimension)
	progress, err := os.ReadFile(j.Progress)
	require.NoError(t, err)
	var last job.Report
	lines := bytes.Split(bytes.TrimSpace(progress), []byte("\n"))
	require.NoError(t, json.Unmarshal(lines[len(lines)-1], &last))
	require.Equal(t, s.Steps, last.Step)
	require.Equal(t, s.Steps, last.Total)
}

func TestEqualRunsWriteEqualBytes(t *testing.T) {
	t.Parallel()
	_, one := trained(t, `{"epochs":2,"dimension":32,"seed":7}`)
	_, two := trained(t, `{"epochs":2,"dimension":32,"seed":7}`)
	_, other := trained(t, `{"epochs":2,"dimension":32,"seed":8}`)
	for _, file := range []string{headFile, tableFile, trainingFile} {
		read := func(j job.Job) []byte {
			raw, err := os.ReadFile(filepath.Join(j.Outputs, "embedder", file))
			require.NoError(t, err)
			return raw
		}
		require.True(t, bytes.Equal(read(one), read(two)), file)
		if file == tableFile {
			require.False(t, bytes.Equal(read(one), read(other)))
		}
	}
}

func TestVectorsAreOfLengthOne(t *testing.T) {
	t.Parallel()
	m, _ := trained(t, `{"epochs":1,"dimension":48}`)
	require.Equal(t, 48, m.Dimension())
	for text, words := range map[string]int{
		"reads from the connection":        4,
		"zzqxkv unheardofwordinanylibrary": 2,
		"NewHTTPClient":                    4,
	} {
		v, read := m.Embed(text)
		require.Len(t, v, 48)
		require.Equal(t, words, read, text)
		require.InDelta(t, 1, float64(vec.Dot(v, v)), 1e-5, text)
	}
	for _, nothing := range []string{"", "  \n", "--- !!! ---"} {
		v, read := m.Embed(nothing)
		require.Equal(t, make([]float32, 48), v)
		require.Zero(t, read)
	}
	same, _ := m.Embed("the connection reads from")
	v, _ := m.Embed("reads from the connection")
	require.InDelta(t, 1, float64(vec.Dot(v, same)), 1e-5)
}

func TestWhatIsWrongIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for _, parameters := range []string{`{"dimension":1}`, `{"epochs":-2}`, `{"temperature":-1}`, `{"dimensions":64}`, `{"batch":1}`} {
		require.ErrorIs(t, Run(t.Context(), newJob(t, parameters), quiet), job.ErrSpec, parameters)
	}
	j := newJob(t, `{}`)
	require.NoError(t, os.RemoveAll(filepath.Join(j.Inputs, "dataset")))
	require.ErrorIs(t, Run(t.Context(), j, quiet), job.ErrSpec)
}

func TestAnInterruptedTrainingIsTriedAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j := newJob(t, `{}`)
	require.ErrorIs(t, Run(ctx, j, quiet), job.ErrAgain)
	require.NoDirExists(t, filepath.Join(j.Outputs, "embedder"))
}

func TestWithoutPairsThereIsStillAnEmbedder(t *testing.T) {
	t.Parallel()
	j := newJob(t, `{}`)
	require.NoError(t, os.RemoveAll(j.Inputs))
	documents := []text.Document{{ID: "a", Text: "alpha beta"}, {ID: "b", Text: "gamma delta alpha"}}
	require.NoError(t, godocs.Write(filepath.Join(j.Inputs, "dataset"), documents))
	require.NoError(t, Run(t.Context(), j, quiet))
	m, err := Load(filepath.Join(j.Outputs, "embedder"))
	require.NoError(t, err)
	v, _ := m.Embed("alpha")
	require.InDelta(t, 1, float64(vec.Dot(v, v)), 1e-5)
}

func TestABrokenEmbedderIsRefused(t *testing.T) {
	t.Parallel()
	m := begin([]text.Document{{ID: "a", Text: "one two three"}}, Spec{Dimension: 4, MinCount: 1, MaxWords: 10, Buckets: 3})
	write := func(change func(dir string)) string {
		dir := t.TempDir()
		require.NoError(t, m.Write(dir))
		change(dir)
		return dir
	}
	table := func(dir string, data []float32) {
		var out bytes.Buffer
		require.NoError(t, safetensors.Write(&out, safetensors.File{Tensors: map[string]safetensors.Tensor{tableName: {Shape: []int{len(data)}, Data: data}}}))
		require.NoError(t, os.WriteFile(filepath.Join(dir, tableFile), out.Bytes(), 0o600))
	}
	spoilt := slices.Clone(m.table)
	spoilt[5] = float32(math.Inf(1))
	for name, dir := range map[string]string{
		"no file":      t.TempDir(),
		"no table":     write(func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, tableFile))) }),
		"another form": write(func(dir string) { require.NoError(t, writeJSON(filepath.Join(dir, headFile), head{2, 4, 3, m.words})) }),
		"a word twice": write(func(dir string) {
			require.NoError(t, writeJSON(filepath.Join(dir, headFile), head{1, 4, 3, []string{"a", "a", "b"}}))
		}),
		"a row missing": write(func(dir string) { table(dir, m.table[4:]) }),
		"not a number":  write(func(dir string) { table(dir, spoilt) }),
		"no dimension":  write(func(dir string) { require.NoError(t, writeJSON(filepath.Join(dir, headFile), head{1, 0, 3, m.words})) }),
	} {
		_, err := Load(dir)
		require.Error(t, err, name)
	}
	good, err := Load(write(func(string) {}))
	require.NoError(t, err)
	want, _ := m.Embed("one four")
	got, _ := good.Embed("one four")
	require.Equal(t, want, got)
}

// The gradients against differences: a wrong sign would still learn something.
func TestTheLossFallsAlongItsGradient(t *testing.T) {
	t.Parallel()
	documents, err := someDocuments()
	require.NoError(t, err)
	spec, err := Spec{Dimension: 16, Batch: 8, Temperature: 0.3}.resolve()
	require.NoError(t, err)
	m := begin(documents[:200], spec)
	examples := m.examples(documents[:200])[:8]
	var questions, answers [][]feature
	for _, e := range examples {
		questions, answers = append(questions, e.question), append(answers, e.answer)
	}
	lossAt := func() float64 {
		tr := newTrainer(m, spec, examples)
		tr.embed(tr.questions, tr.questionLengths, questions)
		tr.embed(tr.answers, tr.answerLengths, answers)
		vec.Multiply(tr.cosines, tr.questions, 8, tr.answers, 8, 16, 16)
		return tr.contrast()
	}
	at := int(questions[0][0].row)*16 + 3
	before := slices.Clone(m.table)
	tr := newTrainer(m, spec, examples)
	tr.step(questions, answers, 0) // moves nothing
	require.Equal(t, before, m.table)
	const h = 1e-2
	m.table[at] = before[at] + h
	up := lossAt()
	m.table[at] = before[at] - h
	down := lossAt()
	m.table[at] = before[at]

	// With the squares as they are after one step, a step goes rate·g/|g|: that gives the gradient's direction.
	tr = newTrainer(m, spec, examples)
	tr.step(questions, answers, 1)
	moved := float64(m.table[at] - before[at])
	norm := math.Sqrt(float64(tr.squares[questions[0][0].row]))
	slope := (up - down) / (2 * h)
	require.Greater(t, math.Abs(slope), 1e-3, "too flat to tell")
	require.InEpsilon(t, slope, -moved*norm, 0.02)
}

func BenchmarkEmbed(b *testing.B) {
	m, _ := trained(b, `{"epochs":-1}`)
	documents, err := someDocuments()
	require.NoError(b, err)
	i := 0
	for b.Loop() {
		m.Embed(documents[i%len(documents)].Rendered())
		i++
	}
}
