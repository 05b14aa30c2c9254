package registry_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/registry/registrytest"
)

// insertBefore is how a release before days writes an interaction.
const insertBefore = `INSERT INTO interactions (service, id, conversation, turn, client, release, rollout, step, canary, coin,
	propensity, moved, rescued, endpoint, started, retrieval, first_token, model, post_processing, total, prompt_tokens,
	completion_tokens, outcome, status, guardrails, finish, passages, input, output)
	VALUES ('docs', $1, 'c', 0, '', '', 'run', 0, false, false, 0, false, false, 'chat', now() - $2::interval, 0, 0, 0, 0, 0, 1, 1,
	'ok', 200, '{}', 'stop', '{}', 'in', 'out') ON CONFLICT DO NOTHING`

func TestRowsOfTheReleaseBeforeGoToTheirDays(t *testing.T) {
	t.Parallel()
	d := registrytest.New(t)
	ctx := t.Context()
	config, err := pgx.ParseConfig(d.OwnerURL)
	require.NoError(t, err)
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"))
	require.NoError(t, err)
	down := func() {
		for {
			result, err := provider.Down(ctx)
			require.NoError(t, err)
			if result.Source.Version == 8 {
				return
			}
		}
	}
	app, err := pgx.Connect(ctx, d.AppURL)
	require.NoError(t, err)
	defer app.Close(ctx)
	count := func(query string) (n int) {
		require.NoError(t, app.QueryRow(ctx, query).Scan(&n))
		return n
	}

	down()
	for id, age := range map[string]string{"today": "0s", "yesterday": "1 day", "long ago": "3 years"} {
		_, err = app.Exec(ctx, insertBefore, id, age)
		require.NoError(t, err)
	}
	_, err = provider.Up(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, count(`SELECT count(*) FROM interactions WHERE input = 'in' AND content = '' AND parameters = '{}'`))
	require.Equal(t, 1, count(`SELECT count(*) FROM interactions WHERE tableoid = 'interactions_default'::regclass`), "only what has no day")
	require.Equal(t, 3, count(`SELECT count(DISTINCT tableoid) FROM interactions`))

	_, err = app.Exec(ctx, insertBefore, "today", "0s") // its gateways go on
	require.NoError(t, err)
	_, err = app.Exec(ctx, insertBefore, "tomorrow", "-1 day")
	require.NoError(t, err)
	require.Equal(t, 2, count(`SELECT count(*) FROM interactions WHERE tableoid = 'interactions_default'::regclass`), "a day without a partition")
	require.Equal(t, 1, count(`SELECT cardinality(keep_days(ARRAY[(now() AT TIME ZONE 'UTC')::date + 1]))`))
	require.Equal(t, 1, count(`SELECT count(*) FROM interactions WHERE tableoid = 'interactions_default'::regclass`), "it moved to its day")
	require.Zero(t, count(`SELECT cardinality(keep_days(ARRAY['1999-01-01', '2999-01-01']::date[]))`), "days that cannot be meant")

	down() // and a way back
	require.Equal(t, 1, count(`SELECT count(*) FROM interactions WHERE id = 'long ago'`))
	_, err = provider.Up(ctx)
	require.NoError(t, err)
}

func TestTheApplicationForgetsOnlyWhatIsArchived(t *testing.T) {
	s := newStage(t)
	const old = `(now() AT TIME ZONE 'UTC')::date - 10`
	exec := func(statement string) error { return s.as(s.AppURL, statement) }
	require.NoError(t, exec(`SELECT keep_days(ARRAY[`+old+`])`))
	conn, err := pgx.Connect(s.ctx, s.AppURL)
	require.NoError(t, err)
	defer conn.Close(s.ctx)
	_, err = conn.Exec(s.ctx, insertBefore, "i", "10 days")
	require.NoError(t, err)
	for _, statement := range []string{`DELETE FROM interactions`, `DROP TABLE interactions`, `UPDATE interactions SET input = ''`,
		`DELETE FROM archived_days`, `UPDATE archived_days SET interactions = 0`, `DELETE FROM feedback`, `SELECT count(*) FROM interactions_default`} {
		require.ErrorContains(t, exec(statement), "42501", statement)
	}
	require.ErrorContains(t, exec(`SELECT forget_day('docs', `+old+`)`), "holds 1 interactions")
	require.ErrorContains(t, exec(`SELECT forget_day('docs', (now() AT TIME ZONE 'UTC')::date)`), "not over long enough")
	require.NoError(t, exec(`INSERT INTO artifacts (service, digest, kind, size, files, parents, labels, made_by, made_at)
		VALUES ('docs', repeat('a', 64), 'archive', 1, 1, '{}', '{}', '{}', now())`))
	archived := func(interactions string) {
		require.NoError(t, exec(`INSERT INTO archived_days (service, day, artifact, interactions, feedback)
			VALUES ('docs', `+old+`, repeat('a', 64), `+interactions+`, 0)`))
	}
	archived("1")
	_, err = conn.Exec(s.ctx, insertBefore, "late", "10 days")
	require.NoError(t, err)
	require.ErrorContains(t, exec(`SELECT forget_day('docs', `+old+`)`), "holds 2 interactions", "what came after the archive is not in it")
	require.NoError(t, exec(`INSERT INTO artifacts (service, digest, kind, size, files, parents, labels, made_by, made_at)
		VALUES ('docs', repeat('b', 64), 'archive', 1, 1, '{}', '{}', '{}', now())`))
	require.NoError(t, exec(`INSERT INTO archived_days (service, day, artifact, interactions, feedback)
		VALUES ('docs', `+old+`, repeat('b', 64), 2, 0)`))
	for range 2 { // again changes nothing
		require.NoError(t, exec(`SELECT forget_day('docs', `+old+`)`))
	}
	var rows, partitions int
	require.NoError(t, conn.QueryRow(s.ctx, `SELECT count(*) FROM interactions`).Scan(&rows))
	require.Zero(t, rows)
	require.NoError(t, conn.QueryRow(s.ctx, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'interactions'::regclass`).Scan(&partitions))
	require.Equal(t, 1, partitions, "the day's partition is gone, the default one is there")
}

func TestADayIsForgottenForOneServiceAlone(t *testing.T) {
	s := newStage(t)
	_, err := s.Registry.ApplyService(s.ctx, registrytest.Service("art"), alice)
	require.NoError(t, err)
	conn, err := pgx.Connect(s.ctx, s.AppURL)
	require.NoError(t, err)
	defer conn.Close(s.ctx)
	_, err = conn.Exec(s.ctx, `SELECT keep_days(ARRAY[(now() AT TIME ZONE 'UTC')::date - 10])`)
	require.NoError(t, err)
	_, err = conn.Exec(s.ctx, insertBefore, "i", "10 days")
	require.NoError(t, err)
	require.NoError(t, s.as(s.OwnerURL, `INSERT INTO interactions SELECT (jsonb_populate_record(i, '{"service": "art"}')).* FROM interactions i`))
	require.NoError(t, s.as(s.AppURL, `INSERT INTO artifacts (service, digest, kind, size, files, parents, labels, made_by, made_at)
		VALUES ('art', repeat('a', 64), 'archive', 1, 1, '{}', '{}', '{}', now())`))
	require.NoError(t, s.as(s.AppURL, `INSERT INTO archived_days (service, day, artifact, interactions, feedback)
		VALUES ('art', (now() AT TIME ZONE 'UTC')::date - 10, repeat('a', 64), 1, 0)`))
	require.NoError(t, s.as(s.AppURL, `SELECT forget_day('art', (now() AT TIME ZONE 'UTC')::date - 10)`))
	var service string
	require.NoError(t, conn.QueryRow(s.ctx, `SELECT service FROM interactions`).Scan(&service))
	require.Equal(t, "docs", service)
}
