package activities_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// served is an interaction that uses every column.
func served(n int, at time.Time) lifecycle.Interaction {
	return lifecycle.Interaction{
		ID: fmt.Sprintf("int-%04d", n), Service: "docs", Conversation: fmt.Sprint("c", n/3), Turn: n % 3, Client: "client", Owner: "owner",
		Release: lifecycle.DigestOf([]byte("release")), Rollout: "run", Step: n % 4, Canary: n%2 == 0, Coin: true, Propensity: 0.15,
		Moved: n%5 == 0, Rescued: n%7 == 0, Endpoint: "chat", Started: at,
		Latency: lifecycle.Latency{Retrieval: 0.01, Queue: 0.02, FirstToken: 0.2, Model: 0.5 + float64(n)/7, PostProcessing: 0.001, Total: 0.7},
		Usage:   lifecycle.Usage{Prompt: 100 + n, Completion: n}, Outcome: "ok", Status: 200,
		Guardrails: strings.Fields(strings.Repeat("deny-pattern[0] ", n%3)), Finish: "stop",
		Passages: []string{"p1", fmt.Sprint("p", n)}, Scores: []float64{0.9, 1 / float64(n+3)},
		Parameters: json.RawMessage(`{"seed": 7}`), Used: lifecycle.Used{Prompt: lifecycle.DigestOf([]byte("model"))},
		Content: lifecycle.ContentFull, Input: fmt.Sprintf("What is %d? \u00e9\u4e16", n), Output: strings.Repeat("so ", n%50),
	}
}

// file gives a file of an artifact in S3.
func (w *world) file(t *testing.T, artifact lifecycle.Digest, name string) *bytes.Reader {
	t.Helper()
	raw, err := w.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ArchiveArtifact, Digest: artifact}, name, 64<<20)
	require.NoError(t, err)
	return bytes.NewReader(raw)
}

func (w *world) archivedIn(t *testing.T, artifact lifecycle.Digest) (list []lifecycle.Interaction, said []lifecycle.Feedback) {
	t.Helper()
	interactions, feedback := w.file(t, artifact, capture.InteractionsFile), w.file(t, artifact, capture.FeedbackFile)
	require.NoError(t, capture.ReadInteractions(interactions, interactions.Size(), func(i lifecycle.Interaction) error {
		list = append(list, i)
		return nil
	}))
	require.NoError(t, capture.ReadFeedback(feedback, feedback.Size(), func(f lifecycle.Feedback) error {
		said = append(said, f)
		return nil
	}))
	return list, said
}

// inDatabase gives rows of the database as PostgreSQL itself writes them as JSON.
func (w *world) inDatabase(t *testing.T, query string, args ...any) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.db.AppURL)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), query, args...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

func TestADayIsArchivedRowByRowAndThenForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	now := time.Now().UTC()
	day := func(ago int) time.Time { return capture.Day(now).AddDate(0, 0, -ago) }
	var all []lifecycle.Interaction
	for ago, rows := range map[int]int{0: 3, 1: 40, 40: 300} {
		_, err := w.captured.KeepDays(t.Context(), []time.Time{day(ago)})
		require.NoError(t, err)
		for n := range rows {
			all = append(all, served(ago*1000+n, day(ago).Add(time.Duration(n)*time.Second+123456*time.Microsecond)))
		}
	}
	require.NoError(t, w.captured.AddInteractions(t.Context(), all))
	for n, kind := range lifecycle.FeedbackKinds() {
		require.NoError(t, w.captured.AddFeedback(t.Context(), []lifecycle.Feedback{{
			ID: fmt.Sprint("f", n), Service: "docs", Interaction: "int-40001", Kind: kind, Reason: "r", Correction: "c", At: day(40).Add(time.Hour), Owner: "owner",
		}}))
	}
	archive := activities.Archive{Shelf: w.Shelf, Captured: w.captured, Now: func() time.Time { return now }}
	planIn := steps.PlanArchiveInput{Service: "docs", Retention: lifecycle.Duration(30 * 24 * time.Hour)}
	plan, err := do(t, steps.PlanArchive, archive.Plan, planIn)
	require.NoError(t, err)
	old, yesterday := day(40).Format(time.DateOnly), day(1).Format(time.DateOnly)
	require.Equal(t, steps.ArchivePlan{Archive: []string{old, yesterday}, Forget: []string{old}}, plan, "today is not over")

	_, err = do(t, steps.ForgetDay, archive.ForgetDay, steps.ArchiveDayInput{Service: "docs", Day: old, By: by})
	require.Equal(t, lifecycle.Conflict, steps.KindOf(err), "what is not archived is not forgotten: %v", err)

	in := steps.ArchiveDayInput{Service: "docs", Day: old, By: by}
	kept, err := do(t, steps.ArchiveDay, archive.Day, in)
	require.NoError(t, err)
	require.EqualValues(t, 300, kept.Interactions)
	require.EqualValues(t, 4, kept.Feedback)
	again, err := do(t, steps.ArchiveDay, archive.Day, in)
	require.NoError(t, err)
	require.Equal(t, kept, again, "a try after a lost answer is the same artifact")

	t.Run("row by row", func(t *testing.T) {
		interactions, said := w.archivedIn(t, kept.Artifact)
		require.Len(t, interactions, 300)
		for n, i := range interactions {
			want := served(40_000+n, i.Started)
			require.Equal(t, day(40).Add(time.Duration(n)*time.Second+123456*time.Microsecond), i.Started)
			require.JSONEq(t, string(want.Parameters), string(i.Parameters))
			i.Parameters = want.Parameters
			require.Equal(t, fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", i), "row %d", n)
		}
		require.Len(t, said, 4)
		require.Equal(t, "owner", said[0].Owner)
		// Each column, against what PostgreSQL itself says.
		rows := w.inDatabase(t, `SELECT (to_jsonb(i) - 'started' || jsonb_build_object('started', (extract(epoch FROM started) * 1000000)::bigint))::text
			FROM interactions i WHERE service = 'docs' AND started < $1 ORDER BY started, id`, day(39))
		require.Len(t, rows, 300)
		for n, row := range rows {
			var want map[string]any
			require.NoError(t, json.Unmarshal([]byte(row), &want))
			i := interactions[n]
			require.EqualValues(t, want["started"], i.Started.UnixMicro())
			require.Equal(t, want["output"], i.Output)
			require.Equal(t, want["input"], i.Input)
			require.EqualValues(t, want["model"], i.Latency.Model)
			require.EqualValues(t, want["completion_tokens"], i.Usage.Completion)
			require.Len(t, want, 35, "a column that the archive does not know")
		}
	})

	t.Run("rows that come after the archive keep the day", func(t *testing.T) {
		require.NoError(t, w.captured.AddInteractions(t.Context(), []lifecycle.Interaction{served(49_999, day(40).Add(23*time.Hour))}))
		_, err := do(t, steps.ForgetDay, archive.ForgetDay, in)
		require.Equal(t, lifecycle.Conflict, steps.KindOf(err))
		plan, err := do(t, steps.PlanArchive, archive.Plan, planIn)
		require.NoError(t, err)
		require.Contains(t, plan.Archive, old)
		more, err := do(t, steps.ArchiveDay, archive.Day, in)
		require.NoError(t, err)
		require.NotEqual(t, kept.Artifact, more.Artifact)
		require.EqualValues(t, 301, more.Interactions)
	})

	for range 2 { // again changes nothing
		_, err = do(t, steps.ForgetDay, archive.ForgetDay, in)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"43"}, w.inDatabase(t, `SELECT count(*)::text FROM interactions`))
	require.Equal(t, []string{"0"}, w.inDatabase(t, `SELECT count(*)::text FROM feedback`))
	require.Empty(t, w.inDatabase(t, `SELECT relname::text FROM pg_class WHERE relname = 'interactions_' || to_char($1::date, 'YYYYMMDD')`, day(40)))
	entries, err := w.Registry.Ledger(t.Context(), registry.LedgerQuery{Service: "docs"})
	require.NoError(t, err)
	forgotten := 0
	for _, e := range entries {
		if e.Kind == lifecycle.DayForgotten {
			forgotten++
			require.Equal(t, old, e.Subject)
		}
	}
	require.Equal(t, 1, forgotten)

	plan, err = do(t, steps.PlanArchive, archive.Plan, planIn)
	require.NoError(t, err)
	require.Equal(t, steps.ArchivePlan{Archive: []string{yesterday}, Forget: []string{}}, plan)
	_, err = do(t, steps.ArchiveDay, archive.Day, steps.ArchiveDayInput{Service: "docs", Day: "yesterday"})
	require.Equal(t, lifecycle.Invalid, steps.KindOf(err))
}

func TestWithoutS3NothingIsSaidToBeArchived(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	day := capture.Day(time.Now()).AddDate(0, 0, -5)
	require.NoError(t, w.captured.AddInteractions(t.Context(), []lifecycle.Interaction{served(1, day.Add(time.Hour))}))
	gone := w.Shelf
	var err error
	gone.Store, err = artifacts.Open(artifacts.Config{Endpoint: "127.0.0.1:1", AccessKey: "a", SecretKey: "b", Bucket: "refit"})
	require.NoError(t, err)
	in := steps.ArchiveDayInput{Service: "docs", Day: day.Format(time.DateOnly), By: by}
	_, err = do(t, steps.ArchiveDay, activities.Archive{Shelf: gone, Captured: w.captured}.Day, in)
	require.Error(t, err)
	days, err := w.captured.Days(t.Context(), "docs", time.Now())
	require.NoError(t, err)
	require.Len(t, days, 1)
	require.Empty(t, days[0].Artifact)
	left, err := os.ReadDir(w.Scratch)
	require.NoError(t, err)
	require.Empty(t, left, "nothing of it stays on this machine")
}
