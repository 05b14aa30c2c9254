package capture_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry/registrytest"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func store(t *testing.T) (*capture.Store, registrytest.Database) {
	t.Helper()
	t.Parallel()
	d := registrytest.New(t)
	s, err := capture.Open(t.Context(), capture.Config{URL: d.AppURL})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s, d
}

// served is a request of a conversation, some seconds after noon.
func served(conversation string, second, step int, change func(*lifecycle.Interaction)) lifecycle.Interaction {
	i := lifecycle.Interaction{
		ID: fmt.Sprintf("%s-%d", conversation, second), Service: "docs", Conversation: conversation, Rollout: "run-1", Step: step,
		Started: noon.Add(time.Duration(second) * time.Second), Outcome: "ok", Endpoint: "chat", Status: 200,
		Latency: lifecycle.Latency{Total: 0.25}, Usage: lifecycle.Usage{Prompt: 10, Completion: 5},
	}
	if change != nil {
		change(&i)
	}
	return i
}

func canary(i *lifecycle.Interaction) { i.Canary, i.Coin, i.Propensity = true, true, 0.15 }
func coin(i *lifecycle.Interaction)   { i.Coin, i.Propensity = true, 0.15 }

func TestEvidenceHasOneRowPerConversation(t *testing.T) {
	s, _ := store(t)
	batch := []lifecycle.Interaction{
		served("late", 30, 1, coin),
		served("first", 1, 0, canary),
		served("first", 40, 1, func(i *lifecycle.Interaction) { i.Outcome, i.Moved = "error", true }), // moved to stable, went wrong there
		served("first", 50, 1, func(i *lifecycle.Interaction) { i.Outcome = "error" }),
		served("rescued", 2, 0, func(i *lifecycle.Interaction) { canary(i); i.Rescued = true }),
		served("guarded", 3, 0, func(i *lifecycle.Interaction) { coin(i); i.Guardrails = []string{"deny-pattern"} }),
		served("refused", 4, 0, func(i *lifecycle.Interaction) { i.Outcome = "refused" }),
		served("other", 5, 0, func(i *lifecycle.Interaction) { i.Rollout = "run-0" }),
	}
	require.NoError(t, s.AddInteractions(t.Context(), batch))
	require.NoError(t, s.AddInteractions(t.Context(), batch[:3])) // loaded again after a crash
	require.NoError(t, s.AddFeedback(t.Context(), []lifecycle.Feedback{
		{ID: "f1", Service: "docs", Interaction: "guarded-3", Kind: "thumbs-down", At: noon.Add(time.Hour)},
		{ID: "f2", Service: "docs", Interaction: "late-30", Kind: "abandoned", At: noon.Add(time.Hour)},
		{ID: "f3", Service: "docs", Interaction: "late-30", Kind: "thumbs-up", At: noon.Add(time.Hour)},
	}))

	all, err := s.Evidence(t.Context(), "docs", "run-1", capture.AllSteps)
	require.NoError(t, err)
	var names []string
	for _, c := range all {
		names = append(names, c.Conversation)
	}
	require.Equal(t, []string{"first", "rescued", "guarded", "refused", "late"}, names)
	micro := func(second int) int64 { return noon.Add(time.Duration(second) * time.Second).UnixMicro() }
	const answering = 250_000 // an event comes with the end of its answer
	require.Equal(t, capture.Conversation{
		Conversation: "first", Step: 0, Canary: true, Coin: true, Propensity: 0.15, Requests: 3, Started: all[0].Started,
		Latency: 250 * time.Millisecond, Answered: all[0].Started.Add(250 * time.Millisecond), Events: map[string]int64{"errors": micro(40) + answering},
	}, all[0])
	require.Equal(t, map[string]int64{"errors": micro(2) + answering}, all[1].Events)
	require.Equal(t, map[string]int64{"guardrails": micro(3) + answering, "thumbs-down": noon.Add(time.Hour).UnixMicro()}, all[2].Events)
	require.Equal(t, map[string]int64{"refusals": micro(4) + answering}, all[3].Events)
	require.False(t, all[3].Coin)
	require.Equal(t, map[string]int64{"abandoned": noon.Add(time.Hour).UnixMicro()}, all[4].Events)

	second, err := s.Evidence(t.Context(), "docs", "run-1", 1)
	require.NoError(t, err)
	require.Len(t, second, 1, "a conversation counts for the step in which it began")
	require.Equal(t, "late", second[0].Conversation)

	touched, err := s.Touched(t.Context(), "docs", "run-1")
	require.NoError(t, err)
	require.Equal(t, lifecycle.Touched{Conversations: 2, Requests: 2, Tokens: 30}, touched)
}

func TestFeedbackMayComeFirstAndCountsOnce(t *testing.T) {
	s, _ := store(t)
	down := lifecycle.Feedback{ID: "f1", Service: "docs", Interaction: "c-1", Kind: "thumbs-down", Reason: "wrong-api", At: noon}
	require.NoError(t, s.AddFeedback(t.Context(), []lifecycle.Feedback{down, down}))
	require.NoError(t, s.AddFeedback(t.Context(), []lifecycle.Feedback{down}))
	items, err := s.FeedbackItems(t.Context(), "docs", time.Time{}, 0)
	require.NoError(t, err)
	require.Empty(t, items)
	counts, err := s.FeedbackCounts(t.Context(), "docs")
	require.NoError(t, err)
	require.Equal(t, map[string]int{"thumbs-down": 1}, counts)

	require.NoError(t, s.AddInteractions(t.Context(), []lifecycle.Interaction{served("c", 1, 0, func(i *lifecycle.Interaction) {
		i.Input, i.Output, i.Client = "how?\x00", "so\xff", "client"
	})}))
	items, err = s.FeedbackItems(t.Context(), "docs", noon, 10)
	require.NoError(t, err)
	require.Len(t, items, 1)
	require.Equal(t, "how?\uFFFD", items[0].Input, "what PostgreSQL cannot store does not stop the rest")
	require.Equal(t, "wrong-api", items[0].Reason)
	items, err = s.FeedbackItems(t.Context(), "docs", noon.Add(time.Second), 10)
	require.NoError(t, err)
	require.Empty(t, items)

	down.ID, down.Kind = "f2", "applause"
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(s.AddFeedback(t.Context(), []lifecycle.Feedback{down})))
}

func TestFeedbackOfAnotherClientCountsNowhere(t *testing.T) {
	s, _ := store(t)
	require.NoError(t, s.AddInteractions(t.Context(), []lifecycle.Interaction{
		served("owned", 1, 0, func(i *lifecycle.Interaction) { i.Owner = "a" }), served("open", 2, 0, nil),
	}))
	say := func(id, interaction, owner string) lifecycle.Feedback {
		return lifecycle.Feedback{ID: id, Service: "docs", Interaction: interaction, Kind: "thumbs-down", At: noon, Owner: owner}
	}
	require.NoError(t, s.AddFeedback(t.Context(), []lifecycle.Feedback{say("1", "owned-1", "b"), say("2", "owned-1", "")}))
	count := func() (events, items int) {
		all, err := s.Evidence(t.Context(), "docs", "run-1", capture.AllSteps)
		require.NoError(t, err)
		for _, c := range all {
			events += len(c.Events)
		}
		list, err := s.FeedbackItems(t.Context(), "docs", time.Time{}, 0)
		require.NoError(t, err)
		return events, len(list)
	}
	events, items := count()
	require.Zero(t, events+items)
	require.NoError(t, s.AddFeedback(t.Context(), []lifecycle.Feedback{say("3", "owned-1", "a"), say("4", "open-2", "b")}))
	events, items = count()
	require.Equal(t, []int{2, 2}, []int{events, items})
}

func TestLoaderStoresTheSpoolOnce(t *testing.T) {
	s, _ := store(t)
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: dir, Log: quiet})
	require.NoError(t, err)
	ended := make(chan error, 1)
	loader := capture.NewLoader(spool, s, capture.LoaderConfig{Batch: 30, Log: quiet})
	go func() { ended <- loader.Run(t.Context()) }()
	for n := range 200 {
		spool.Interaction(served(fmt.Sprintf("c%03d", n), n, 0, coin))
	}
	poison := served("poison", 500, 1<<40, coin) // a step that no column holds
	spool.Interaction(poison)
	require.NoError(t, spool.Feedback(t.Context(), lifecycle.Feedback{ID: "f", Service: "docs", Interaction: "c000-0", Kind: "thumbs-up", At: noon}))
	require.NoError(t, spool.Close())
	require.NoError(t, <-ended)
	require.Equal(t, capture.Losses{Refused: 1}, spool.Losses())

	all, err := s.Evidence(t.Context(), "docs", "run-1", capture.AllSteps)
	require.NoError(t, err)
	require.Len(t, all, 200)
	counts, err := s.FeedbackCounts(t.Context(), "docs")
	require.NoError(t, err)
	require.Equal(t, 1, counts["thumbs-up"])

	left, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	require.NoError(t, err)
	require.Empty(t, left, "what is loaded does not stay on disk")
	all, err = s.Evidence(t.Context(), "docs", "run-1", capture.AllSteps)
	require.NoError(t, err)
	require.Len(t, all, 200)
}

// The acknowledgement of a batch that was stored is lost, or the process is: the batch comes again.
func TestABatchWhoseAcknowledgementWasLostIsStoredOnce(t *testing.T) {
	s, _ := store(t)
	quiet := slog.New(slog.DiscardHandler)
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: t.TempDir(), Log: quiet})
	require.NoError(t, err)
	for n := range 20 {
		spool.Interaction(served(fmt.Sprintf("c%03d", n), n, 0, coin))
	}
	again := t.TempDir()
	require.NoError(t, os.CopyFS(again, os.DirFS(spool.Dir())))
	require.NoError(t, spool.Close())
	require.NoError(t, capture.NewLoader(spool, s, capture.LoaderConfig{Log: quiet}).Run(t.Context()))

	spool, err = capture.OpenSpool(capture.SpoolConfig{Dir: again, Log: quiet})
	require.NoError(t, err)
	require.NoError(t, spool.Close())
	require.NoError(t, capture.NewLoader(spool, s, capture.LoaderConfig{Log: quiet}).Run(t.Context()))
	all, err := s.Evidence(t.Context(), "docs", "run-1", capture.AllSteps)
	require.NoError(t, err)
	require.Len(t, all, 20)
	for _, c := range all {
		require.Equal(t, 1, c.Requests)
	}
}

func TestWithoutPostgreSQLTheSpoolKeeps(t *testing.T) {
	t.Parallel()
	gone, err := capture.Open(t.Context(), capture.Config{URL: "postgres://refit_app@127.0.0.1:1/refit?sslmode=disable"})
	require.NoError(t, err)
	defer gone.Close()
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, spool.Feedback(t.Context(), lifecycle.Feedback{ID: "f", Service: "docs", Interaction: "i", Kind: "thumbs-up"}))
	loader := capture.NewLoader(spool, gone, capture.LoaderConfig{Log: slog.New(slog.DiscardHandler)})
	for range 2 { // what could not be loaded is offered again
		_, err = loader.Load(t.Context())
		require.Equal(t, lifecycle.Unavailable, lifecycle.KindOf(err))
	}
	require.NoError(t, spool.Close())
	_, err = gone.FeedbackCounts(t.Context(), "docs")
	require.Equal(t, lifecycle.Unavailable, lifecycle.KindOf(err))
}

func TestRecordsGoToTheirDaysAlsoLateOnes(t *testing.T) {
	s, d := store(t)
	quiet, today := slog.New(slog.DiscardHandler), capture.Day(time.Now())
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: t.TempDir(), Log: quiet})
	require.NoError(t, err)
	for n, ago := range []int{0, 0, 1, 30, 800} {
		i := served(fmt.Sprintf("c%d", n), n, 0, coin)
		i.Started = today.AddDate(0, 0, -ago).Add(time.Hour)
		spool.Interaction(i)
	}
	require.NoError(t, spool.Close())
	require.NoError(t, capture.NewLoader(spool, s, capture.LoaderConfig{Log: quiet}).Run(t.Context()))

	conn, err := pgx.Connect(t.Context(), d.AppURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `SELECT tableoid::regclass::text, count(*) FROM interactions GROUP BY 1`)
	require.NoError(t, err)
	got := map[string]int{}
	var table string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&table, &n}, func() error { got[table] = n; return nil })
	require.NoError(t, err)
	part := func(ago int) string { return "interactions_" + today.AddDate(0, 0, -ago).Format("20060102") }
	require.Equal(t, map[string]int{part(0): 2, part(1): 1, part(30): 1, "interactions_default": 1}, got)
	var ahead int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_class WHERE relname = $1`, part(-3)).Scan(&ahead))
	require.Equal(t, 1, ahead, "days are there before their first record")
}

// What the judge and the tuning loop ask goes by indexes in every partition.
func TestQueriesStayIndexed(t *testing.T) {
	s, d := store(t)
	today := capture.Day(time.Now())
	_, err := s.KeepDays(t.Context(), []time.Time{today, today.AddDate(0, 0, -1)})
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), d.AppURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), `SET enable_seqscan = off`)
	require.NoError(t, err)
	for name, query := range map[string]string{
		"evidence":  `SELECT * FROM interactions WHERE service = 'docs' AND rollout = 'r' AND rollout <> ''`,
		"accesses":  `SELECT canary FROM interactions WHERE service = 'docs' AND rollout = 'r' AND step = 1 ORDER BY started, id`,
		"feedback":  `SELECT 1 FROM feedback f JOIN interactions i ON i.service = f.service AND i.id = f.interaction WHERE f.service = 'docs' AND f.at >= now()`,
		"a day":     `SELECT * FROM interactions WHERE service = 'docs' AND started >= now() AND started < now() + interval '1 day'`,
		"one alone": `SELECT 1 FROM interactions WHERE service = 'docs' AND id = 'i'`,
	} {
		rows, err := conn.Query(t.Context(), `EXPLAIN `+query)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		plan := strings.Join(lines, "\n")
		require.NotContains(t, plan, "Seq Scan", name)
		require.Contains(t, plan, "Index", name)
	}
}

// Every field is in its column, whatever stands in it.
func TestEveryFieldIsInItsColumn(t *testing.T) {
	s, d := store(t)
	plain := served("plain", 1, 2, nil)
	full := lifecycle.Interaction{
		ID: "full", Service: "docs", Conversation: "c", Turn: 3, Client: "client", Release: "release", Rollout: "run", Step: 4, Canary: true,
		Coin: true, Propensity: 0.25, Moved: true, Rescued: true, Endpoint: "chat", Started: noon.Add(1234567 * time.Nanosecond),
		Latency: lifecycle.Latency{Retrieval: 0.1, Queue: 0.2, FirstToken: 0.3, Model: 0.4, PostProcessing: 0.5, Total: 0.6},
		Usage:   lifecycle.Usage{Prompt: 7, Completion: 8}, Outcome: "ok", Status: 200, Guardrails: []string{"pii[0]:email", "é\x00"},
		Finish: "stop", Passages: []string{"", "p,\"{}\\"}, Input: "how\x00?\xff", Output: strings.Repeat("so\n", 50_000), Owner: "owner",
		Content: lifecycle.ContentFull, Scores: []float64{0.5, -1e300}, Parameters: []byte(`{"n": 1}`),
		Used: lifecycle.Used{Prompt: "p\"", Index: "i", Parameters: "q", PostProcess: "r", RescuedBy: "s"},
	}
	require.NoError(t, s.AddInteractions(t.Context(), []lifecycle.Interaction{plain, full}))
	conn, err := pgx.Connect(t.Context(), d.AppURL)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `
SELECT id, service, conversation, turn, client, release, rollout, step, canary, coin, propensity, moved, rescued, endpoint, started,
	retrieval, queue, first_token, model, post_processing, total, prompt_tokens, completion_tokens, outcome, status, guardrails, finish, passages,
	input, output, owner, content, scores, parameters, used->>'prompt', used->>'index', used->>'parameters', used->>'post_process', used->>'rescued_by'
FROM interactions ORDER BY id`)
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i lifecycle.Interaction, err error) {
		var used [5]*string
		err = row.Scan(&i.ID, &i.Service, &i.Conversation, &i.Turn, &i.Client, &i.Release, &i.Rollout, &i.Step, &i.Canary, &i.Coin, &i.Propensity,
			&i.Moved, &i.Rescued, &i.Endpoint, &i.Started, &i.Latency.Retrieval, &i.Latency.Queue, &i.Latency.FirstToken, &i.Latency.Model,
			&i.Latency.PostProcessing, &i.Latency.Total, &i.Usage.Prompt, &i.Usage.Completion, &i.Outcome, &i.Status, &i.Guardrails, &i.Finish,
			&i.Passages, &i.Input, &i.Output, &i.Owner, &i.Content, &i.Scores, &i.Parameters, &used[0], &used[1], &used[2], &used[3], &used[4])
		for n, to := range []*lifecycle.Digest{&i.Used.Prompt, &i.Used.Index, &i.Used.Parameters, &i.Used.PostProcess, &i.Used.RescuedBy} {
			if used[n] != nil {
				*to = lifecycle.Digest(*used[n])
			}
		}
		i.Started = i.Started.UTC()
		return i, err
	})
	require.NoError(t, err)
	full.Guardrails[1], full.Input, full.Started = "é\uFFFD", "how\uFFFD?\uFFFD", noon.Add(1234*time.Microsecond)
	plain.Guardrails, plain.Passages, plain.Scores, plain.Parameters = []string{}, []string{}, []float64{}, []byte("{}")
	require.Equal(t, []lifecycle.Interaction{full, plain}, got)
}
