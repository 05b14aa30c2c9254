package capture

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// Pair is what stable and a rollout's candidate made of one request in the rollout's shadow step.
type Pair struct {
	Interaction                     string // the user's
	Began                           time.Time
	StableLatency, CandidateLatency time.Duration // without the time that the user waited for places
	StableEvents, CandidateEvents   []string      // of Metrics; none that somebody has to say
	Texts                           bool          // both answers were kept
	Scores                          *PairScore    // nil: none yet
}

// PairScore is a pair's scores, each between 0 and 1.
type PairScore struct {
	Interaction       string
	Stable, Candidate float64
}

// Pairs gives the pairs of a rollout's shadow step whose copy began before a time, in the order in which copies began:
// of each conversation the first that nobody cancelled on either side.
func (s *Store) Pairs(ctx context.Context, service, rollout string, candidate lifecycle.Digest, before time.Time) ([]Pair, error) {
	rows, err := s.pool.Query(ctx, `
WITH paired AS (
    SELECT DISTINCT ON (u.conversation) u.id, c.started,
        greatest(u.total - u.queue, 0) AS stable_total, greatest(c.total - c.queue, 0) AS candidate_total,
        ARRAY[u.outcome = 'error', cardinality(u.guardrails) > 0, u.outcome = 'refused'] AS stable_events,
        ARRAY[c.outcome = 'error', cardinality(c.guardrails) > 0, c.outcome = 'refused'] AS candidate_events,
        u.content = 'full' AND c.content = 'full' AND u.endpoint IN ('chat', 'completions') AS texts
    FROM interactions u JOIN interactions c ON c.service = u.service AND c.id = $3 || u.id AND c.started >= u.started
    WHERE u.service = $1 AND u.rollout = $2 AND u.step = $4 AND NOT u.canary AND u.conversation <> ''
        AND c.release = $5 AND c.started < $6 AND u.outcome <> 'canceled' AND c.outcome <> 'canceled'
    ORDER BY u.conversation, c.started, u.id
)
SELECT p.id, p.started, p.stable_total, p.candidate_total, p.stable_events, p.candidate_events, p.texts, k.stable, k.candidate
FROM paired p LEFT JOIN pair_scores k ON k.rollout = $2 AND k.interaction = p.id
ORDER BY p.started, p.id`, service, rollout, lifecycle.ShadowPrefix, lifecycle.ShadowIndex, candidate, before)
	if err != nil {
		return nil, wrap(err, "read the pairs of rollout %s", rollout)
	}
	list, err := pgx.CollectRows(rows, scanPair)
	return list, wrap(err, "read the pairs of rollout %s", rollout)
}

func scanPair(row pgx.CollectableRow) (p Pair, err error) {
	var stable, candidate float64
	var stableEvents, candidateEvents []bool
	var stableScore, candidateScore *float64
	err = row.Scan(&p.Interaction, &p.Began, &stable, &candidate, &stableEvents, &candidateEvents, &p.Texts, &stableScore, &candidateScore)
	if err != nil {
		return p, err
	}
	p.StableLatency, p.CandidateLatency = time.Duration(stable*float64(time.Second)), time.Duration(candidate*float64(time.Second))
	p.StableEvents, p.CandidateEvents = eventsOf(stableEvents), eventsOf(candidateEvents)
	if stableScore != nil && candidateScore != nil {
		p.Scores = &PairScore{Interaction: p.Interaction, Stable: *stableScore, Candidate: *candidateScore}
	}
	return p, nil
}

// eventsOf names the events that Pairs asks for, which are the first of Metrics.
func eventsOf(had []bool) (names []string) {
	for i, yes := range had {
		if yes {
			names = append(names, Metrics()[i])
		}
	}
	return names
}

// PairTexts is what a scorer looks at.
type PairTexts struct{ Interaction, Input, Stable, Candidate string }

// PairTexts reads the texts of pairs, as they were kept, by the users' interactions.
func (s *Store) PairTexts(ctx context.Context, service string, interactions []string) ([]PairTexts, error) {
	rows, err := s.pool.Query(ctx, `
SELECT u.id, u.input, u.output, c.output
FROM interactions u JOIN interactions c ON c.service = u.service AND c.id = $2 || u.id AND c.started >= u.started
WHERE u.service = $1 AND u.id = ANY($3)`, service, lifecycle.ShadowPrefix, interactions)
	if err != nil {
		return nil, wrap(err, "read the texts of %d pairs", len(interactions))
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PairTexts])
	return list, wrap(err, "read the texts of %d pairs", len(interactions))
}

// AddPairScore keeps a pair's scores. The first that was kept stays.
func (s *Store) AddPairScore(ctx context.Context, rollout string, score PairScore) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO pair_scores (rollout, interaction, stable, candidate) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		rollout, score.Interaction, score.Stable, score.Candidate)
	return wrap(err, "keep the score of pair %s", score.Interaction)
}
