package capture

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// Conversation is one conversation's evidence in a rollout: it counts for the step in which its first request
// of that rollout came, whatever came later.
type Conversation struct {
	Conversation string // keyed hash
	Step         int
	Canary       bool // side of its first request
	Coin         bool // it tossed one
	Propensity   float64
	Requests     int // in the rollout
	Started      time.Time
	Latency      time.Duration    // of its first answer, with the time that it waited for places
	Answered     time.Time        // the end of its first answer
	Events       map[string]int64 // metrics of which it had an event, with the first one's time in Unix microseconds; nil: none
}

// AllSteps asks Evidence for every step.
const AllSteps = -1

// Metrics lists the events that are always collected. Latency is given as it is: which answer is slow is the
// judge's question.
func Metrics() []string {
	return []string{"errors", "guardrails", "refusals", "thumbs-down", "abandoned"}
}

// Evidence gives the conversations of a rollout that began in a step, or in any, in the order of their first
// requests. A request that stable rescued is an error of the canary. Feedback on an interaction that has an owner counts
// where it is the owner's.
func (s *Store) Evidence(ctx context.Context, service, rollout string, step int) ([]Conversation, error) {
	rows, err := s.pool.Query(ctx, `
WITH served AS (
    SELECT *, started + greatest(total - queue, 0) * interval '1 second' AS ended
    FROM interactions WHERE service = $1 AND rollout = $2
), begun AS (
    SELECT DISTINCT ON (conversation) conversation, step, canary, coin, propensity, started, total, ended
    FROM served ORDER BY conversation, started, turn, id
), events AS (
    SELECT conversation, count(*) AS requests,
        min(ended) FILTER (WHERE outcome = 'error' OR rescued) AS errors,
        min(ended) FILTER (WHERE cardinality(guardrails) > 0) AS guardrails,
        min(ended) FILTER (WHERE outcome = 'refused') AS refusals
    FROM served GROUP BY conversation
), said AS (
    SELECT served.conversation,
        min(f.at) FILTER (WHERE f.kind = 'thumbs-down') AS thumbs_down,
        min(f.at) FILTER (WHERE f.kind = 'abandoned') AS abandoned
    FROM feedback f JOIN served ON served.id = f.interaction AND (served.owner = '' OR served.owner = f.owner) WHERE f.service = $1 GROUP BY served.conversation
)
SELECT b.conversation, b.step, b.canary, b.coin, b.propensity, e.requests, b.started, b.total, b.ended, e.errors, e.guardrails, e.refusals, s.thumbs_down, s.abandoned
FROM begun b JOIN events e USING (conversation) LEFT JOIN said s USING (conversation)
WHERE $3 = -1 OR b.step = $3
ORDER BY b.started, b.conversation`, service, rollout, step)
	if err != nil {
		return nil, wrap(err, "read the evidence of rollout %s", rollout)
	}
	list, err := pgx.CollectRows(rows, scanConversation)
	return list, wrap(err, "read the evidence of rollout %s", rollout)
}

func scanConversation(row pgx.CollectableRow) (c Conversation, err error) {
	var seconds float64
	metrics := Metrics()
	events := make([]*time.Time, len(metrics))
	fields := []any{&c.Conversation, &c.Step, &c.Canary, &c.Coin, &c.Propensity, &c.Requests, &c.Started, &seconds, &c.Answered}
	for i := range events {
		fields = append(fields, &events[i])
	}
	if err = row.Scan(fields...); err != nil {
		return c, err
	}
	c.Latency = time.Duration(seconds * float64(time.Second))
	for i, at := range events {
		if at == nil {
			continue
		}
		if c.Events == nil {
			c.Events = map[string]int64{}
		}
		c.Events[metrics[i]] = at.UnixMicro()
	}
	return c, nil
}

// Touched counts what a rollout's canary answered, as far as it is loaded.
func (s *Store) Touched(ctx context.Context, service, rollout string) (lifecycle.Touched, error) {
	var t lifecycle.Touched
	err := s.pool.QueryRow(ctx, `
SELECT count(DISTINCT conversation), count(*), coalesce(sum(prompt_tokens::bigint + completion_tokens), 0)
FROM interactions WHERE service = $1 AND rollout = $2 AND canary`, service, rollout).Scan(&t.Conversations, &t.Requests, &t.Tokens)
	return t, wrap(err, "count whom rollout %s touched", rollout)
}

// FeedbackItem is feedback with the interaction that it hangs on.
type FeedbackItem struct {
	ID          string
	Interaction string
	Client      string // "" where the gateway knew none
	Release     lifecycle.Digest
	Kind        string
	Reason      string
	Correction  string
	Input       string // "" where content is not captured
	Output      string
	At          time.Time
}

// FeedbackItems lists feedback from a time on, oldest first, whose interaction is stored and nobody else's; limit 0 means
// 10,000.
func (s *Store) FeedbackItems(ctx context.Context, service string, since time.Time, limit int) ([]FeedbackItem, error) {
	setDefault(&limit, 10_000)
	rows, err := s.pool.Query(ctx, `
SELECT f.id, f.interaction, i.client, i.release, f.kind, f.reason, f.correction, i.input, i.output, f.at
FROM feedback f JOIN interactions i ON i.service = f.service AND i.id = f.interaction AND (i.owner = '' OR i.owner = f.owner)
WHERE f.service = $1 AND f.at >= $2 ORDER BY f.at, f.id LIMIT $3`, service, since, limit)
	if err != nil {
		return nil, wrap(err, "read the feedback on %s", service)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByPos[FeedbackItem])
	return items, wrap(err, "read the feedback on %s", service)
}

// FeedbackCounts counts all feedback by kind, also where its interaction is not stored.
func (s *Store) FeedbackCounts(ctx context.Context, service string) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, `SELECT kind, count(*) FROM feedback WHERE service = $1 GROUP BY kind`, service)
	if err != nil {
		return nil, wrap(err, "count the feedback on %s", service)
	}
	counts := map[string]int{}
	var kind string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&kind, &n}, func() error { counts[kind] = n; return nil })
	return counts, wrap(err, "count the feedback on %s", service)
}
