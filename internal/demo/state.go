package demo

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// state is what a run knows so far: kept after every stage, so that the next run goes on.
type state struct {
	Service string   `json:"service"`
	Before  int      `json:"before"` // services that were there when the run began
	Text    string   `json:"text"`   // folder of the user's own text
	Done    []string `json:"done"`   // stages

	Base      steps.PretrainingResult `json:"base"`
	Index     steps.IndexResult       `json:"index"`
	Forgetful steps.PretrainingResult `json:"forgetful"`
	Candidate steps.PretrainingResult `json:"candidate"`
	Gate      lifecycle.Verdict       `json:"gate"`
	Tuning    steps.TuningResult      `json:"tuning"`
	Traffic   []Tally                 `json:"traffic"`
	Summary   Summary                 `json:"summary"`
	EndedAt   time.Time               `json:"ended_at,omitzero"`
}

// readState gives the state of the last run on a data folder; the zero state where there was none.
func readState(path string) (state, error) {
	var s state
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, lifecycle.Errorf(lifecycle.Corrupt, "read what the last run knew: %w; remove %s to start anew", err, path)
	}
	return s, nil
}

func (s state) write(path string) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return lifecycle.Wrap(err, "encode what the run knows")
	}
	return replace(path, raw)
}

func (s *state) timed(stage string, took time.Duration) {
	if s.Summary.Timings == nil {
		s.Summary.Timings = map[string]float64{}
	}
	// A stage that was begun in an earlier run took as long as all its tries.
	s.Summary.Timings[stage] += float64(took.Milliseconds()) / 1000
}
