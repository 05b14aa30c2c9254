package activities_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/feedback"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// say captures an interaction and what its user said of it.
func (w *world) say(t *testing.T, id, client, kind, reason, correction string, at time.Time) {
	t.Helper()
	require.NoError(t, w.captured.AddInteractions(t.Context(), []lifecycle.Interaction{{
		ID: id, Service: "docs", Conversation: id, Client: client, Endpoint: "chat", Outcome: "ok", Started: at,
		Input: "What does " + id + " do?", Output: "It runs " + id + ".",
	}}))
	require.NoError(t, w.captured.AddFeedback(t.Context(), []lifecycle.Feedback{{
		ID: "f-" + id, Service: "docs", Interaction: id, Kind: kind, Reason: reason, Correction: correction, At: at,
	}}))
}

func TestFeedbackBecomesADatasetOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	tuning := activities.Tuning{Shelf: w.Shelf, Captured: w.captured}
	in := steps.CurateInput{Service: "docs", Policy: lifecycle.FeedbackPolicy{MinItems: 4, MaxShare: 0.5}, By: by}
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for i := range 3 {
		w.say(t, fmt.Sprint("topic-", i), fmt.Sprint("client-", i), "correction", "wrong-fact", fmt.Sprint("It stops topic-", i, "."), start.Add(time.Duration(i)*time.Minute))
	}
	w.say(t, "down", "client-1", "thumbs-down", "too-long", "", start.Add(4*time.Minute))

	few, err := do(t, steps.CurateFeedback, tuning.Curate, in)
	require.NoError(t, err)
	require.Empty(t, few.Dataset, "three examples are too few")
	require.Equal(t, map[string]int{"correction": 3, "thumbs-down": 1}, few.Feedback)
	require.Equal(t, "wrong-fact", few.Deficit)

	w.say(t, "up", "client-4", "thumbs-up", "", "", start.Add(5*time.Minute))
	enough, err := do(t, steps.CurateFeedback, tuning.Curate, in)
	require.NoError(t, err)
	require.True(t, enough.Dataset.Valid(), enough.Reason)
	require.Equal(t, 4, enough.Items)
	require.Equal(t, 1, enough.Dropped, "a thumbs-down says nothing to learn")
	require.Equal(t, "wrong-fact", enough.Deficit)
	raw, err := w.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: enough.Dataset}, "examples.jsonl", 1<<20)
	require.NoError(t, err)
	var examples []feedback.Example
	for line := range bytes.Lines(raw) {
		var e feedback.Example
		require.NoError(t, json.Unmarshal(line, &e))
		examples = append(examples, e)
	}
	require.Len(t, examples, 4)
	require.Equal(t, "It stops topic-0.", examples[0].Chosen)
	require.Equal(t, "It runs topic-0.", examples[0].Rejected)

	w.say(t, "late", "client-5", "thumbs-up", "", "", start.Add(6*time.Minute))
	again, err := do(t, steps.CurateFeedback, tuning.Curate, in)
	require.NoError(t, err)
	require.Equal(t, enough, again, "a try after a lost answer gives the same, whatever came since")

	// The test environment's run is always the same one, so what the next run would see is asked for by the label.
	recorded, err := w.Registry.LatestArtifact(t.Context(), "docs", lifecycle.DatasetArtifact, map[string]string{"feedback": "curated"})
	require.NoError(t, err)
	require.Equal(t, start.Add(5*time.Minute).Format(time.RFC3339Nano), recorded.Labels["until"])
}

func TestTheNextDatasetBeginsBehindTheLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	tuning := activities.Tuning{Shelf: w.Shelf, Captured: w.captured}
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	w.put(t, "docs", lifecycle.DatasetArtifact, map[string]string{
		"feedback": "curated", "run": "another", "until": start.Format(time.RFC3339Nano),
	}, map[string]string{"examples.jsonl": "\n"})
	w.say(t, "old", "client-1", "thumbs-down", "", "", start)
	w.say(t, "new", "client-2", "thumbs-up", "", "", start.Add(time.Microsecond))
	out, err := do(t, steps.CurateFeedback, tuning.Curate, steps.CurateInput{Service: "docs", Policy: lifecycle.FeedbackPolicy{MinItems: 1, MaxShare: 1}, By: by})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"thumbs-up": 1}, out.Feedback)
	require.Empty(t, out.Deficit, "nobody reports one")
}

func TestALadderIsOpenedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	tuning := activities.Tuning{Shelf: w.Shelf, Captured: w.captured}
	in := steps.OpenLadderInput{Service: "docs", Deficit: "wrong-fact", Dataset: lifecycle.DigestOf([]byte("d")), By: by}
	first, err := do(t, steps.OpenLadder, tuning.OpenLadder, in)
	require.NoError(t, err)
	again, err := do(t, steps.OpenLadder, tuning.OpenLadder, in)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, []lifecycle.Digest{in.Dataset}, first.Evidence)
	lever, _ := first.NextLever()
	require.Equal(t, lifecycle.PromptLever, lever)
}
