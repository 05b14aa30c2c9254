package embedder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/text"
)

// Summary is training.json beside the embedder: what was done. Times are left out, so that equal runs write equal
// files.
type Summary struct {
	Spec      Spec    `json:"spec"` // with all defaults filled in
	Documents int     `json:"documents"`
	Pairs     int     `json:"pairs"`
	Words     int     `json:"words"`
	Steps     int     `json:"steps"`
	FirstLoss float64 `json:"first_loss"` // nats a pair, mean over the first batch
	FinalLoss float64 `json:"final_loss"` // of the last batch
}

// Run does a training job: it reads the training parts of the inputs dataset, dataset-2 and so on, and writes the
// output embedder. When ctx is done it returns job.ErrAgain. Errors in spec or inputs wrap job.ErrSpec.
func Run(ctx context.Context, j job.Job, log *slog.Logger) error {
	var spec Spec
	if err := j.Parameters(&spec); err != nil {
		return err
	}
	spec, err := spec.resolve()
	if err != nil {
		return err
	}
	documents, err := read(j)
	if err != nil {
		return fmt.Errorf("%w: %w", job.ErrSpec, err)
	}
	m := begin(documents, spec)
	t := newTrainer(m, spec, m.examples(documents))
	s := Summary{Spec: spec, Documents: len(documents), Pairs: len(t.examples), Words: len(m.words), Steps: t.steps()}
	log.Info("training of an embedder begins", "documents", s.Documents, "pairs", s.Pairs, "words", s.Words, "steps", s.Steps)
	if s.Steps == 0 && spec.Epochs > 0 {
		log.Warn("there are no pairs to learn from: the embedder stays a random projection", "pairs", s.Pairs)
	}
	var reported time.Time
	err = t.run(ctx, func(step int, loss float64) error {
		if step == 1 {
			s.FirstLoss = loss
		}
		s.FinalLoss = loss
		if time.Since(reported) < time.Second && step < s.Steps {
			return nil
		}
		reported = time.Now()
		return j.Report(job.Report{Time: reported.UTC(), Step: step, Total: s.Steps, Loss: loss})
	})
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("training of an embedder: %w", job.ErrAgain)
	}
	if err != nil {
		return err
	}
	return write(j, m, s)
}

func write(j job.Job, m *Model, s Summary) error {
	dir, err := j.Output("embedder")
	if err != nil {
		return err
	}
	if err := m.Write(dir); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, trainingFile), s)
}

// read gives the documents of all datasets; of two with one ID the first counts.
func read(j job.Job) ([]text.Document, error) {
	var all []text.Document
	seen := map[string]bool{}
	for n := 1; ; n++ {
		name := "dataset"
		if n > 1 {
			name = fmt.Sprintf("dataset-%d", n)
		}
		dir := j.Input(name)
		if dir == "" && n == 1 {
			return nil, errors.New("there is no input dataset")
		}
		if dir == "" {
			return all, nil
		}
		documents, err := text.Read(dir, "train")
		if err != nil {
			return nil, err
		}
		for _, d := range documents {
			if !seen[d.ID] {
				seen[d.ID] = true
				all = append(all, d)
			}
		}
	}
}
