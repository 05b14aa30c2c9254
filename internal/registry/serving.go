package registry

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// GatewayReport is what a gateway says of one service. Counts begin at 0 when its process starts.
type GatewayReport struct {
	Service        string    `json:"service"`
	Gateway        string    `json:"gateway"`
	Epoch          int64     `json:"epoch"`
	Generation     int64     `json:"generation"` // applied
	Requests       int64     `json:"requests"`
	CanaryRequests int64     `json:"canary_requests"`
	Pooled         bool      `json:"pooled,omitempty"` // its credit is of the rollout's pool; else its own
	Started        time.Time `json:"started_at"`
	// Known is until when it is known what conversations that tossed a coin were served, and what copies of a shadow step
	// brought: their (first) records are stored. It is zero where the gateway cannot tell.
	Known    time.Time `json:"known_until,omitzero"`
	Reported time.Time `json:"reported_at"` // by the database's clock; not read by ReportGateway
}

// ReportGateway keeps a gateway's newest report.
func (r *Registry) ReportGateway(ctx context.Context, g GatewayReport) error {
	_, err := r.pool.Exec(ctx, `
INSERT INTO gateways (service, gateway, epoch, generation, requests, canary_requests, pooled, started_at, known_until, reported_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
ON CONFLICT (service, gateway) DO UPDATE SET epoch = excluded.epoch, generation = excluded.generation,
    requests = excluded.requests, canary_requests = excluded.canary_requests, pooled = excluded.pooled,
    started_at = excluded.started_at, known_until = excluded.known_until, reported_at = excluded.reported_at`,
		g.Service, g.Gateway, g.Epoch, g.Generation, g.Requests, g.CanaryRequests, g.Pooled, g.Started, timeOrNull(g.Known))
	return wrap(err, "report gateway %s of %s", g.Gateway, g.Service)
}

// Gateways lists the gateways that reported within the given time, by name.
func (r *Registry) Gateways(ctx context.Context, service string, within time.Duration) ([]GatewayReport, error) {
	rows, err := r.pool.Query(ctx, `
SELECT service, gateway, epoch, generation, requests, canary_requests, pooled, started_at,
    coalesce(known_until, '0001-01-01 00:00:00+00'), reported_at FROM gateways
WHERE service = $1 AND reported_at > clock_timestamp() - $2::interval ORDER BY gateway`, service, within)
	if err != nil {
		return nil, wrap(err, "list gateways of %s", service)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[GatewayReport])
	for i := range list {
		if list[i].Known.IsZero() {
			list[i].Known = time.Time{} // in no time zone
		}
	}
	return list, wrap(err, "list gateways of %s", service)
}

// SetEndpoints replaces the endpoints of one release of a service; none removes them.
func (r *Registry) SetEndpoints(ctx context.Context, service string, release lifecycle.Digest, endpoints []lifecycle.Endpoint) error {
	err := r.inTx(ctx, func(tx pgx.Tx) error {
		// Two replacements at once would leave a mixture of both.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('endpoints/' || $1 || '/' || $2, 0))`, service, release); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM endpoints WHERE service = $1 AND release = $2`, service, release); err != nil {
			return err
		}
		for _, e := range endpoints {
			_, err := tx.Exec(ctx, `
INSERT INTO endpoints (service, release, url, model, embedder, capacity, ready, attribution, seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
				service, release, e.URL, e.Model, e.Embedder, e.Capacity, e.Ready, e.Attribution, timeOrNull(e.SeenAt))
			if err != nil {
				return err
			}
		}
		return nil
	})
	return wrap(err, "set the endpoints of release %s of %s", release.Short(), service)
}

// Endpoints lists all endpoints of a service, by release and address.
func (r *Registry) Endpoints(ctx context.Context, service string) ([]lifecycle.Endpoint, error) {
	rows, err := r.pool.Query(ctx, `
SELECT release, url, model, embedder, capacity, ready, attribution, seen_at FROM endpoints
WHERE service = $1 ORDER BY release, url, model`, service)
	if err != nil {
		return nil, wrap(err, "list endpoints of %s", service)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e lifecycle.Endpoint, err error) {
		var seen *time.Time
		err = row.Scan(&e.Release, &e.URL, &e.Model, &e.Embedder, &e.Capacity, &e.Ready, &e.Attribution, &seen)
		if seen != nil {
			e.SeenAt = *seen
		}
		return e, err
	})
	return list, wrap(err, "list endpoints of %s", service)
}

// AddCanaryConversation notes that a conversation began on the canary of a rollout, for other gateways. conversation
// is its keyed hash. Noting it twice changes nothing.
func (r *Registry) AddCanaryConversation(ctx context.Context, service, rollout, conversation string) error {
	_, err := r.pool.Exec(ctx, `
INSERT INTO canary_conversations (service, rollout, conversation) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		service, rollout, conversation)
	return wrap(err, "note a canary conversation of %s", service)
}

// MoveCanaryConversation notes that a conversation that was on the canary of a rollout is on stable for good.
func (r *Registry) MoveCanaryConversation(ctx context.Context, service, rollout, conversation string) error {
	_, err := r.pool.Exec(ctx, `
INSERT INTO canary_conversations (service, rollout, conversation, moved) VALUES ($1, $2, $3, true)
ON CONFLICT (service, rollout, conversation) DO UPDATE SET moved = true`,
		service, rollout, conversation)
	return wrap(err, "note that a canary conversation of %s was moved", service)
}

// CanaryConversation says whether a conversation is on the canary of a rollout: it began there and was not moved.
func (r *Registry) CanaryConversation(ctx context.Context, service, rollout, conversation string) (bool, error) {
	var found bool
	err := r.pool.QueryRow(ctx, `
SELECT EXISTS (SELECT FROM canary_conversations WHERE service = $1 AND rollout = $2 AND conversation = $3 AND NOT moved)`,
		service, rollout, conversation).Scan(&found)
	return found, wrap(err, "look for a canary conversation of %s", service)
}
