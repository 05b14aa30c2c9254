package capture

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Much traffic is counted in one of sampledOneIn conversations, by a hash of their IDs that an index is made of (migration
// 00019); less is counted whole. So what it costs does not grow with the traffic by much.
const (
	sampledOneIn = 64
	sampleEnough = 8000 // sampled requests from which the sample is counted alone
)

// Traffic counts the conversations that a service's users held from a time on, and those of them that had an event on
// stable, by metric. Much traffic is estimated by a sample of the conversations; OneIn says so. Days that went to the archive
// alone are not counted.
func (s *Store) Traffic(ctx context.Context, service string, since time.Time) (lifecycle.TrafficSeen, error) {
	seen, requests, err := s.countTraffic(ctx, trafficSampled, service, since)
	if err == nil && requests < sampleEnough {
		seen, _, err = s.countTraffic(ctx, trafficWhole, service, since)
		return seen, wrap(err, "count the traffic of %s", service)
	}
	seen.OneIn = sampledOneIn
	seen.Conversations *= sampledOneIn
	seen.Stable *= sampledOneIn
	for metric := range seen.Events {
		seen.Events[metric] *= sampledOneIn
	}
	return seen, wrap(err, "count the traffic of %s", service)
}

const (
	trafficServed = `FROM interactions i WHERE i.service = $1 AND i.started >= $2 AND i.started <= now() AND i.conversation <> '' AND i.id NOT LIKE $3`
	inTheSample   = ` AND (hashtextextended(i.conversation, 0) & 63) = 0`

	trafficWhole   = trafficTalks + trafficServed + trafficSaid + trafficServed + trafficCounts
	trafficSampled = trafficTalks + trafficServed + inTheSample + trafficSaid + trafficServed + inTheSample + trafficCounts

	trafficTalks = `
WITH talks AS (
    SELECT min(i.started) AS began, count(*) AS requests, bool_or(NOT i.canary) AS stable,
        bool_or(NOT i.canary AND (i.outcome = 'error' OR i.rescued)) AS errors,
        bool_or(NOT i.canary AND cardinality(i.guardrails) > 0) AS guardrails,
        bool_or(NOT i.canary AND i.outcome = 'refused') AS refusals
    `
	trafficSaid = ` GROUP BY i.conversation
), said AS (
    SELECT i.conversation, bool_or(f.kind = 'thumbs-down') AS down, bool_or(f.kind = 'abandoned') AS abandoned
    FROM feedback f JOIN LATERAL (SELECT i.conversation, i.owner, i.canary `
	trafficCounts = ` AND i.id = f.interaction) i ON NOT i.canary AND (i.owner = '' OR i.owner = f.owner)
    WHERE f.service = $1 AND f.kind IN ('thumbs-down', 'abandoned') GROUP BY i.conversation
)
SELECT now(), min(began), coalesce(sum(requests), 0)::bigint, count(*), count(*) FILTER (WHERE stable),
    count(*) FILTER (WHERE errors), count(*) FILTER (WHERE guardrails), count(*) FILTER (WHERE refusals),
    (SELECT count(*) FROM said WHERE down), (SELECT count(*) FROM said WHERE abandoned)
FROM talks`
)

func (s *Store) countTraffic(ctx context.Context, query, service string, since time.Time) (out lifecycle.TrafficSeen, requests int64, err error) {
	var first *time.Time
	var now time.Time
	var counts [5]int64
	err = s.pool.QueryRow(ctx, query, service, since, lifecycle.ShadowPrefix+"%").Scan(&now, &first, &requests,
		&out.Conversations, &out.Stable, &counts[0], &counts[1], &counts[2], &counts[3], &counts[4])
	if err != nil || first == nil {
		return lifecycle.TrafficSeen{}, 0, err
	}
	out.Since, out.Seen = first.UTC(), lifecycle.Duration(now.Sub(*first).Round(time.Second))
	out.Events = map[string]int64{}
	for i, metric := range Metrics() {
		out.Events[metric] = counts[i]
	}
	return out, requests, nil
}
