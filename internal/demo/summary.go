package demo

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Summary is demo-summary.json: what a run showed, in numbers. Its form is described in docs/demo-summary.md and is
// stable: fields are only ever added.
type Summary struct {
	Releases   []ReleaseLine      `json:"releases"`
	Scores     []ScoreLine        `json:"scores"`
	Retrieval  RetrievalLine      `json:"retrieval"`
	Steps      []StepLine         `json:"steps"`
	Refused    RefusedLine        `json:"refused"`
	RolledBack RolledBackLine     `json:"rolled_back"`
	Busy       BusyLine           `json:"busy"`
	Feedback   FeedbackLine       `json:"feedback"`
	Timings    map[string]float64 `json:"timings_s"` // by stage, in seconds
	Addresses  map[string]string  `json:"addresses"`
	Screens    []ScreenLine       `json:"screens"`
}

// ScreenLine is one training job's data, held against the suites of the service before anything was trained.
type ScreenLine struct {
	Job       string           `json:"job"`       // "base", "embedder", "forgetful", "candidate"
	Documents int              `json:"documents"` // of the training parts of its datasets
	Cases     int              `json:"cases"`     // that were looked for
	Removed   int              `json:"removed"`   // documents that held one, and were not trained on
	Report    lifecycle.Digest `json:"report"`
}

// screens are those of all training jobs of the run.
func (s state) screens() []ScreenLine {
	lines := []ScreenLine{}
	for _, made := range []struct {
		job     string
		screens []steps.Screened
	}{{"base", s.Base.Screens}, {"embedder", s.Index.Screens}, {"forgetful", s.Forgetful.Screens}, {"candidate", s.Candidate.Screens}} {
		for _, each := range made.screens {
			lines = append(lines, ScreenLine{made.job, each.Documents, each.Cases, each.Removed, each.Report})
		}
	}
	return lines
}

// ReleaseLine is one release of the run and what became of it.
type ReleaseLine struct {
	Name    string           `json:"name"` // "base", "forgetful", "candidate", "mistake"
	Release lifecycle.Digest `json:"release"`
	Fate    string           `json:"fate"` // "first stable", "refused", "promoted", "rolled back"
	Reason  string           `json:"reason"`
}

// ScoreLine is one capability of the promoted candidate's gate, larger is better; low and high are the limits of
// candidate minus baseline.
type ScoreLine struct {
	Capability string            `json:"capability"`
	Metric     string            `json:"metric"`
	Baseline   float64           `json:"baseline"`
	Candidate  float64           `json:"candidate"`
	Low        float64           `json:"low"`
	High       float64           `json:"high"`
	Verdict    lifecycle.Outcome `json:"verdict"`
}

// RetrievalLine is the index measured next to lexical search alone, on the same queries.
type RetrievalLine struct {
	Hybrid  steps.RetrievalScores `json:"hybrid"`
	Lexical steps.RetrievalScores `json:"lexical"`
}

// StepLine is one canary step. Allowed, conversations, verdict and reason are the rollout's own record; reached and
// highest window were counted by this process from the model servers' counters, and are null where they could
// not be.
type StepLine struct {
	Allowed       lifecycle.BasisPoints  `json:"allowed_bp"`
	Reached       *lifecycle.BasisPoints `json:"reached_bp"`
	HighestWindow *lifecycle.BasisPoints `json:"highest_window_bp"`
	Conversations int64                  `json:"conversations"` // on the canary, that the verdict rests on
	Verdict       lifecycle.Decision     `json:"verdict"`
	Reason        string                 `json:"reason"`
}

// RefusedLine is the candidate that its gate stopped.
type RefusedLine struct {
	Release lifecycle.Digest  `json:"release"`
	Verdict lifecycle.Outcome `json:"verdict"`
	Reasons []string          `json:"reasons"`
}

// RolledBackLine is the release that passed its gate and was taken back from users.
type RolledBackLine struct {
	Release       lifecycle.Digest `json:"release"`
	Conversations int64            `json:"conversations"` // that it touched
	Reason        string           `json:"reason"`
}

// BusyLine is what the second promotion was told: who holds the claim.
type BusyLine struct {
	Holder string `json:"holder"` // workflow ID
}

// FeedbackLine counts what the gateway took and Refit stored, and names the dataset that was made of it.
type FeedbackLine struct {
	ThumbsUp   int              `json:"thumbs_up"`
	ThumbsDown int              `json:"thumbs_down"`
	Dataset    lifecycle.Digest `json:"dataset"`
}

// JSON gives the summary's one form.
func (s Summary) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(s, "", "  ")
	return append(raw, '\n'), lifecycle.Wrap(err, "encode the summary")
}

// Write replaces the file in one step.
func (s Summary) Write(path string) error {
	raw, err := s.JSON()
	if err != nil {
		return err
	}
	return replace(path, raw)
}

// replace writes a file so that nobody ever reads half of it.
func replace(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return lifecycle.Wrap(err, "write %s", path)
	}
	defer os.Remove(file.Name()) // fails once it was renamed, which is meant
	_, err = file.Write(content)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(file.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return lifecycle.Wrap(err, "write %s", path)
}
