package capture

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/registry/registrytest"
)

// fillWeek writes a week of requests, three a conversation and one of eight another service's, into the partitions of their days.
func fillWeek(t *testing.T, url string, requests int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for _, statement := range []string{
		`SELECT keep_days(ARRAY(SELECT (utc_today() - g)::date FROM generate_series(0, 8) g))`,
		`INSERT INTO interactions (service, id, conversation, turn, client, release, rollout, step, canary, coin, propensity, moved, rescued,
    endpoint, started, retrieval, first_token, model, post_processing, total, prompt_tokens, completion_tokens, outcome, status, guardrails,
    finish, passages, input, output, owner, content)
SELECT CASE WHEN i % 8 = 7 THEN 'other' ELSE 'docs' END, 'i-' || md5(i::text), 'c-' || md5((i / 3)::text), i % 3, 'key', repeat('a', 64), '', 0,
    (i / 3) % 50 = 0, false, 0, false, false, 'chat', now() - interval '7 days' * (1 - i::float8 / $1), 0.01, 0.2, 0.5, 0.01, 0.7, 200, 150,
    CASE WHEN i % 40 = 0 THEN 'error' WHEN i % 90 = 0 THEN 'refused' ELSE 'ok' END, 200, CASE WHEN i % 200 = 0 THEN '{pii}'::text[] ELSE '{}' END,
    'stop', '{}', repeat(md5(i::text), 8), repeat(md5(i::text), 12), '', 'full'
FROM generate_series(0, $1 - 1) i`,
		`INSERT INTO feedback (service, id, interaction, kind, reason, correction, at)
SELECT 'docs', 'f-' || i, 'i-' || md5(i::text), 'thumbs-down', '', '', now() FROM generate_series(0, $1 - 1, 100) i`,
		`ANALYZE interactions`, `ANALYZE feedback`,
	} {
		var args []any
		if strings.Contains(statement, "$1") {
			args = append(args, requests)
		}
		_, err := conn.Exec(t.Context(), statement, args...)
		require.NoError(t, err, statement)
	}
}

// TestAWeeksTrafficIsCountedByASample fills a week with some ten thousand requests, and with two million when REFIT_LONG is 1.
func TestAWeeksTrafficIsCountedByASample(t *testing.T) {
	t.Parallel()
	long := os.Getenv("REFIT_LONG") == "1"
	requests, off := 48_000, 0.3
	if long {
		requests, off = 2_000_000, 0.05
	}
	d := registrytest.New(t)
	fillWeek(t, d.OwnerURL, requests)
	s, err := Open(t.Context(), Config{URL: d.AppURL})
	require.NoError(t, err)
	defer s.Close()
	week := time.Now().Add(-8 * 24 * time.Hour)

	began := time.Now()
	whole, all, err := s.countTraffic(t.Context(), trafficWhole, "docs", week)
	require.NoError(t, err)
	t.Logf("all of %d requests: %v", all, time.Since(began))
	require.EqualValues(t, requests/8*7, all)
	began = time.Now()
	sample, sampled, err := s.countTraffic(t.Context(), trafficSampled, "docs", week)
	require.NoError(t, err)
	t.Logf("a sample of %d requests: %v", sampled, time.Since(began))
	require.InEpsilon(t, all, sampled*sampledOneIn, off)
	require.InEpsilon(t, whole.Conversations, sample.Conversations*sampledOneIn, off)
	for metric, n := range whole.Events {
		if n > 20*sampledOneIn {
			require.InEpsilon(t, n, sample.Events[metric]*sampledOneIn, 3*off, metric)
		}
	}

	seen, err := s.Traffic(t.Context(), "docs", week)
	require.NoError(t, err)
	if !long {
		require.Equal(t, whole.Conversations, seen.Conversations, "so few are counted whole")
		require.Zero(t, seen.OneIn)
		return
	}
	require.Equal(t, sample.Conversations*sampledOneIn, seen.Conversations)
	require.EqualValues(t, sampledOneIn, seen.OneIn)
	rows, err := s.pool.Query(t.Context(), "EXPLAIN "+trafficSampled, "docs", week, "shadow-%")
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for back := 1; back < 7; back++ {
		day := time.Now().UTC().AddDate(0, 0, -back).Format("20060102")
		require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan on interactions_"+day, "full days are read by the sample's index")
	}
}
