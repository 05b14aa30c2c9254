package capture

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// Files of an archive of one day.
const (
	InteractionsFile = "interactions.parquet"
	FeedbackFile     = "feedback.parquet"
)

// ArchivedDay says which artifact holds a service's day, and how many rows.
type ArchivedDay struct {
	Service      string
	Day          time.Time
	Artifact     lifecycle.Digest
	Interactions int64
	Feedback     int64
}

// DayRows is what the database holds of a day, and what its newest archive does.
type DayRows struct {
	Day          time.Time
	Interactions int64
	Feedback     int64
	Artifact     lifecycle.Digest // "": there is no archive
	Kept         bool             // the archive holds all of it
}

// Days lists the days before one of which the database holds anything, oldest first.
func (s *Store) Days(ctx context.Context, service string, before time.Time) ([]DayRows, error) {
	rows, err := s.pool.Query(ctx, `
WITH there AS (
    SELECT day, sum(interactions)::bigint AS interactions, sum(feedback)::bigint AS feedback FROM (
        SELECT (started AT TIME ZONE 'UTC')::date AS day, count(*) AS interactions, 0 AS feedback
        FROM interactions WHERE service = $1 AND started < $2 GROUP BY 1
        UNION ALL
        SELECT (at AT TIME ZONE 'UTC')::date, 0, count(*) FROM feedback WHERE service = $1 AND at < $2 GROUP BY 1
    ) AS each GROUP BY day
)
SELECT t.day, t.interactions, t.feedback, coalesce(a.artifact, ''),
    coalesce(a.interactions = t.interactions AND a.feedback = t.feedback, false)
FROM there t LEFT JOIN LATERAL (
    SELECT * FROM archived_days d WHERE d.service = $1 AND d.day = t.day ORDER BY ordinal DESC LIMIT 1
) a ON true
ORDER BY t.day`, service, Day(before))
	if err != nil {
		return nil, wrap(err, "list the days of %s", service)
	}
	days, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DayRows])
	return days, wrap(err, "list the days of %s", service)
}

// ArchiveDay writes a day as two Parquet files, of one moment of the database and ordered, so that the same rows
// give the same bytes. It returns how many rows each has.
func (s *Store) ArchiveDay(ctx context.Context, service string, day time.Time, interactions, feedback io.Writer) (ArchivedDay, error) {
	day = Day(day)
	out := ArchivedDay{Service: service, Day: day}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		if out.Interactions, err = archiveInteractions(ctx, tx, service, day, interactions); err != nil {
			return err
		}
		out.Feedback, err = archiveFeedback(ctx, tx, service, day, feedback)
		return err
	})
	return out, wrap(err, "archive %s of %s", day.Format(time.DateOnly), service)
}

func archiveInteractions(ctx context.Context, tx pgx.Tx, service string, day time.Time, to io.Writer) (int64, error) {
	rows, err := tx.Query(ctx, `
SELECT service, id, conversation, turn, client, release, rollout, step, canary, coin, propensity, moved, rescued, endpoint,
    started, retrieval, first_token, model, post_processing, total, prompt_tokens, completion_tokens, outcome, status,
    guardrails, finish, passages, input, output, owner, content, scores, queue, parameters::text, used::text
FROM interactions WHERE service = $1 AND started >= $2 AND started < $3 ORDER BY started, id`, service, day, day.AddDate(0, 0, 1))
	if err != nil {
		return 0, err
	}
	out := newArchive[archivedInteraction](to)
	var i lifecycle.Interaction
	var parameters, used string
	_, err = pgx.ForEachRow(rows, []any{
		&i.Service, &i.ID, &i.Conversation, &i.Turn, &i.Client, &i.Release, &i.Rollout, &i.Step, &i.Canary, &i.Coin, &i.Propensity,
		&i.Moved, &i.Rescued, &i.Endpoint, &i.Started, &i.Latency.Retrieval, &i.Latency.FirstToken, &i.Latency.Model,
		&i.Latency.PostProcessing, &i.Latency.Total, &i.Usage.Prompt, &i.Usage.Completion, &i.Outcome, &i.Status,
		&i.Guardrails, &i.Finish, &i.Passages, &i.Input, &i.Output, &i.Owner, &i.Content, &i.Scores, &i.Latency.Queue, &parameters, &used,
	}, func() error {
		i.Parameters, i.Used = json.RawMessage(parameters), lifecycle.Used{}
		if err := json.Unmarshal([]byte(used), &i.Used); err != nil {
			return lifecycle.Errorf(lifecycle.Corrupt, "what interaction %s used: %w", i.ID, err)
		}
		row, err := archived(i)
		if err != nil {
			return err
		}
		return out.add(row)
	})
	return out.rows, errors.Join(err, out.writer.Close())
}

func archiveFeedback(ctx context.Context, tx pgx.Tx, service string, day time.Time, to io.Writer) (int64, error) {
	rows, err := tx.Query(ctx, `
SELECT service, id, interaction, kind, reason, correction, at, owner
FROM feedback WHERE service = $1 AND at >= $2 AND at < $3 ORDER BY at, id`, service, day, day.AddDate(0, 0, 1))
	if err != nil {
		return 0, err
	}
	out := newArchive[archivedFeedback](to)
	var f archivedFeedback
	_, err = pgx.ForEachRow(rows, []any{&f.Service, &f.ID, &f.Interaction, &f.Kind, &f.Reason, &f.Correction, &f.At, &f.Owner},
		func() error { return out.add(f) })
	return out.rows, errors.Join(err, out.writer.Close())
}

// AddArchivedDay says that an artifact holds a day. Saying it again changes nothing.
func (s *Store) AddArchivedDay(ctx context.Context, d ArchivedDay) error {
	_, err := s.pool.Exec(ctx, `
INSERT INTO archived_days (service, day, artifact, interactions, feedback) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING`, d.Service, d.Day, d.Artifact, d.Interactions, d.Feedback)
	return wrap(err, "say that %s of %s is archived", d.Day.Format(time.DateOnly), d.Service)
}

// ForgetDay removes a day from the database. A day whose newest archive does not hold all of it is a Conflict: it has to
// be archived again. A day that is hardly over is Refused. Forgetting it again changes nothing.
func (s *Store) ForgetDay(ctx context.Context, service string, day time.Time) error {
	_, err := s.pool.Exec(ctx, `SELECT forget_day($1, $2)`, service, Day(day))
	return wrap(err, "forget %s of %s", day.Format(time.DateOnly), service)
}
