package capture

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Traffic counts the conversations that a service's users held from a time on, and those of them that had an event on
// stable, by metric. Days that went to the archive alone are not counted.
func (s *Store) Traffic(ctx context.Context, service string, since time.Time) (lifecycle.TrafficSeen, error) {
	var out lifecycle.TrafficSeen
	var first *time.Time
	var now time.Time
	var counts [5]int64
	err := s.pool.QueryRow(ctx, `
WITH served AS (
    SELECT id, conversation, owner, started, NOT canary AS stable, outcome, rescued, guardrails FROM interactions
    WHERE service = $1 AND started >= $2 AND started <= now() AND conversation <> '' AND id NOT LIKE $3
), said AS (
    SELECT served.conversation, f.kind
    FROM feedback f JOIN served ON served.id = f.interaction AND (served.owner = '' OR served.owner = f.owner)
    WHERE f.service = $1 AND served.stable
)
SELECT now(), min(started), count(DISTINCT conversation), count(DISTINCT conversation) FILTER (WHERE stable),
    count(DISTINCT conversation) FILTER (WHERE stable AND (outcome = 'error' OR rescued)),
    count(DISTINCT conversation) FILTER (WHERE stable AND cardinality(guardrails) > 0),
    count(DISTINCT conversation) FILTER (WHERE stable AND outcome = 'refused'),
    (SELECT count(DISTINCT conversation) FROM said WHERE kind = 'thumbs-down'),
    (SELECT count(DISTINCT conversation) FROM said WHERE kind = 'abandoned')
FROM served`, service, since, lifecycle.ShadowPrefix+"%").Scan(&now, &first, &out.Conversations, &out.Stable, &counts[0], &counts[1], &counts[2], &counts[3], &counts[4])
	if err != nil {
		return lifecycle.TrafficSeen{}, wrap(err, "count the traffic of %s", service)
	}
	if first == nil {
		return lifecycle.TrafficSeen{}, nil
	}
	out.Since, out.Seen = first.UTC(), lifecycle.Duration(now.Sub(*first).Round(time.Second))
	out.Events = map[string]int64{}
	for i, metric := range Metrics() {
		out.Events[metric] = counts[i]
	}
	return out, nil
}
