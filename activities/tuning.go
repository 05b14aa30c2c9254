package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/feedback"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Tuning holds the steps that learn from feedback.
type Tuning struct {
	Shelf
	Captured *capture.Store
	Roots    []string // folders that suites may lie in; none: there are no such suites
}

// Files of a feedback dataset.
const (
	examplesFile = "examples.jsonl"     // one feedback.Example a line
	feedbackCard = "feedback-card.json" // what was counted, dropped and reported
)

// Labels of a feedback dataset.
const (
	feedbackLabel = "feedback" // "curated"
	untilLabel    = "until"    // time of the newest item that was looked at; the next dataset begins behind it
	runLabel      = "run"      // of the workflow that made it
)

// card is what a feedback dataset says of itself.
type card struct {
	Since    time.Time          `json:"since,omitzero"`
	Until    time.Time          `json:"until"`
	Masked   int                `json:"masked"`
	Dropped  map[string]int     `json:"dropped"`
	Deficits []feedback.Deficit `json:"deficits"`
	Result   steps.TuningResult `json:"result"` // without the dataset's own digest
}

// Curate turns the feedback since the last dataset into a dataset. Where too little of it can be kept there is
// none, and the next run looks at the same feedback again.
func (t Tuning) Curate(ctx context.Context, in steps.CurateInput) (steps.TuningResult, error) {
	defer beat(ctx, nil)()
	run := activity.GetInfo(ctx).WorkflowExecution.RunID
	made, err := t.Registry.LatestArtifact(ctx, in.Service, lifecycle.DatasetArtifact, map[string]string{feedbackLabel: "curated", runLabel: run})
	if err == nil {
		return t.again(ctx, made.Digest)
	}
	if !lifecycle.Is(err, lifecycle.NotFound) {
		return steps.TuningResult{}, err
	}
	since, err := t.since(ctx, in.Service)
	if err != nil {
		return steps.TuningResult{}, err
	}
	items, err := t.items(ctx, in.Service, since)
	if err != nil {
		return steps.TuningResult{}, err
	}
	about := card{Since: since, Until: since}
	if len(items) > 0 {
		about.Until = items[len(items)-1].At
	}
	curated, screened, err := t.curate(ctx, in, items)
	if err != nil {
		return steps.TuningResult{}, err
	}
	about.Masked, about.Dropped, about.Deficits = curated.Masked, curated.Dropped, curated.Deficits
	about.Result = result(curated)
	about.Result.Screened = screened
	if !curated.Enough {
		return about.Result, nil
	}
	return t.keepExamples(ctx, in, run, curated.Examples, about)
}

// curate curates, and leaves out examples that hold a case of one of the service's suites, or refuses them by policy. Where
// there is something to keep or to tell, a report names them.
func (t Tuning) curate(ctx context.Context, in steps.CurateInput, items []feedback.Item) (feedback.Curated, *steps.Screened, error) {
	var curated feedback.Curated
	datasets := Datasets{Shelf: t.Shelf, Roots: t.Roots}
	known, unmade, err := datasets.suitesThereAre(ctx, in)
	if err != nil {
		return curated, nil, err
	}
	found := known.findings("feedback")
	found.Unmade = unmade
	looked := looked{Name: "feedback"}
	var hits []corpus.Hit
	curated = feedback.Curate(items, in.Policy, feedback.Settings{Known: func(e feedback.Example) bool {
		looked.Documents++
		held := known.Find(corpus.Document{ID: e.ID, Text: strings.Join([]string{e.Prompt, e.Chosen, e.Rejected}, "\n\n")})
		if len(held) > 0 {
			looked.Hits++
		}
		hits = append(hits, held...)
		return len(held) > 0
	}})
	if !curated.Enough && looked.Hits == 0 {
		return curated, nil, nil
	}
	found.Datasets = append(found.Datasets, looked)
	report, err := t.keepFindings(ctx, in.Service, in.By, &found, func(hit func(corpus.Hit) error) error {
		for _, h := range hits {
			if err := hit(h); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return curated, nil, err
	}
	screened := found.summary(report)
	asked := steps.ScreenInput{Service: in.Service, Job: found.Job, By: in.By}
	if err := datasets.recordScreen(ctx, asked, screened, known.policy.Action); err != nil {
		return curated, nil, err
	}
	if screened.Hits > 0 && known.policy.Action == lifecycle.RefuseContaminated {
		return curated, nil, refusedFor(found.Job, screened)
	}
	return curated, &screened, nil
}

func result(c feedback.Curated) steps.TuningResult {
	out := steps.TuningResult{Items: len(c.Examples), Reason: c.Reason, Feedback: c.Counts}
	for n := range maps.Values(c.Dropped) {
		out.Dropped += n
	}
	if len(c.Deficits) > 0 {
		out.Deficit = c.Deficits[0].Name
	}
	return out
}

// since gives the time behind what the last dataset looked at, in the store's precision.
func (t Tuning) since(ctx context.Context, service string) (time.Time, error) {
	last, err := t.Registry.LatestArtifact(ctx, service, lifecycle.DatasetArtifact, map[string]string{feedbackLabel: "curated"})
	if lifecycle.Is(err, lifecycle.NotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	until, err := time.Parse(time.RFC3339Nano, last.Labels[untilLabel])
	if err != nil {
		return time.Time{}, lifecycle.Errorf(lifecycle.Corrupt, "label %s of dataset %s: %w", untilLabel, last.Digest.Short(), err)
	}
	return until.Add(time.Microsecond), nil
}

// maxItems bounds what one dataset looks at; the rest is for the next one.
const maxItems = 200_000

// items gives all feedback from a time on, oldest first, in pages of the store's size.
func (t Tuning) items(ctx context.Context, service string, since time.Time) ([]feedback.Item, error) {
	var items []feedback.Item
	seen := map[string]bool{}
	for len(items) < maxItems {
		page, err := t.Captured.FeedbackItems(ctx, service, since, 0)
		if err != nil {
			return nil, err
		}
		before := len(items)
		for _, item := range page {
			if !seen[item.ID] { // pages overlap by the items of one moment
				items = append(items, feedback.Item(item))
			}
			seen[item.ID] = true
		}
		if len(items) == before {
			break
		}
		since = page[len(page)-1].At
	}
	return items, nil
}

func (t Tuning) keepExamples(ctx context.Context, in steps.CurateInput, run string, examples []feedback.Example, about card) (steps.TuningResult, error) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	for _, e := range examples {
		if err := encoder.Encode(e); err != nil {
			return steps.TuningResult{}, fmt.Errorf("encode example %s: %w", e.ID, err)
		}
	}
	raw, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return steps.TuningResult{}, fmt.Errorf("encode the card of a feedback dataset: %w", err)
	}
	ref, err := t.keep(ctx, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact}, Service: in.Service, MadeBy: in.By,
		Labels: map[string]string{
			feedbackLabel: "curated", runLabel: run, untilLabel: about.Until.UTC().Format(time.RFC3339Nano),
			"examples": strconv.Itoa(len(examples)),
		},
	}, func(to tree) error {
		if err := to.write(examplesFile, lines.Bytes()); err != nil {
			return err
		}
		return to.write(feedbackCard, append(raw, '\n'))
	})
	about.Result.Dataset = ref.Digest
	return about.Result, err
}

// again gives what a try of this run before made: what came after it waits for the next run.
func (t Tuning) again(ctx context.Context, dataset lifecycle.Digest) (steps.TuningResult, error) {
	root, err := t.open(ctx, lifecycle.DatasetArtifact, dataset)
	if err != nil {
		return steps.TuningResult{}, err
	}
	defer root.Close()
	raw, err := root.ReadFile(feedbackCard)
	var about card
	if err == nil {
		err = json.Unmarshal(raw, &about)
	}
	if err != nil {
		return steps.TuningResult{}, lifecycle.Errorf(lifecycle.Corrupt, "read the card of feedback dataset %s: %w", dataset.Short(), err)
	}
	about.Result.Dataset = dataset
	return about.Result, nil
}

// OpenLadder opens the record of a deficit with a dataset as its evidence; opening it again adds only evidence
// that is new.
func (t Tuning) OpenLadder(ctx context.Context, in steps.OpenLadderInput) (lifecycle.LadderRecord, error) {
	return t.Registry.OpenLadder(ctx, lifecycle.LadderRecord{
		Service: in.Service, Deficit: in.Deficit, Evidence: []lifecycle.Digest{in.Dataset},
	}, in.By)
}
