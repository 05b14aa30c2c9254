package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

const routeColumns = `service, epoch, generation, stable, previous, canary, share_bp, rollout, step, lease, band_key, changed_at, shadow_bp`

func routeFields(route *lifecycle.Route) []any {
	return []any{
		&route.Service, &route.Epoch, &route.Generation, &route.Stable, &route.Previous, &route.Canary, &route.Share,
		&route.Rollout, &route.Step, &route.Lease, &route.BandKey, &route.ChangedAt, &route.Shadow,
	}
}

// Route gives what serves now. A declared service without a stable release has an empty Stable; an undeclared
// one is NotFound.
func (r *Registry) Route(ctx context.Context, service string) (lifecycle.Route, error) {
	return r.route(ctx, "read the route of "+service, `SELECT `+routeColumns+` FROM routes WHERE service = $1`, service)
}

func (r *Registry) route(ctx context.Context, doing, query string, args ...any) (lifecycle.Route, error) {
	var route lifecycle.Route
	if err := r.pool.QueryRow(ctx, query, args...).Scan(routeFields(&route)...); err != nil {
		return lifecycle.Route{}, wrap(err, "%s", doing)
	}
	return route, nil
}

// FirstStable gives a service its first stable release.
type FirstStable struct {
	Service string
	Fence   lifecycle.Fence // of the promotion claim
	Release lifecycle.Digest
	By      lifecycle.Actor
	Reason  string
	Leave   *Leave
}

// SetFirstStable sets the stable release of a service that has none. Repeating it changes nothing; where
// another release is stable it is Refused.
func (r *Registry) SetFirstStable(ctx context.Context, in FirstStable) (lifecycle.Route, error) {
	return r.given(ctx, in.Leave, change{service: in.Service}, "set the first stable release of "+in.Service,
		`SELECT `+routeColumns+` FROM set_first_stable($1, $2, $3, $4, $5)`, in.Service, in.Fence, in.Release, in.By, in.Reason)
}

// RolloutStart opens a rollout.
type RolloutStart struct {
	Service string
	Fence   lifecycle.Fence
	ID      string // the owner's first run ID
	Release lifecycle.Digest
	Owner   lifecycle.Owner
	By      lifecycle.Actor
}

// StartRollout opens a rollout with a share of 0 and a new key for its band. Opening it again while it runs
// changes nothing; one that has ended is a Conflict. A release that is stable already is Refused.
func (r *Registry) StartRollout(ctx context.Context, in RolloutStart) error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return lifecycle.Errorf(lifecycle.Internal, "make a band key: %w", err)
	}
	_, err := r.pool.Exec(ctx, `SELECT FROM start_rollout($1, $2, $3, $4, $5, $6, $7)`,
		in.Service, in.Fence, in.ID, in.Release, in.Owner, key, in.By)
	return wrap(err, "start rollout %s of %s", in.ID, in.Service)
}

// ShareChange sets the canary's share.
type ShareChange struct {
	Service  string
	Fence    lifecycle.Fence
	Rollout  string
	Step     int
	Share    lifecycle.BasisPoints // 0 to 9,999
	By       lifecycle.Actor
	Reason   string
	Evidence json.RawMessage
	Leave    *Leave
}

// SetShare sets the share of the rollout in flight. The same share at the same step again changes nothing. A
// rollout that is not in flight any more is Fenced.
func (r *Registry) SetShare(ctx context.Context, in ShareChange) (lifecycle.Route, error) {
	return r.given(ctx, in.Leave, change{in.Service, in.Rollout, in.Share}, "set the share of "+in.Service,
		`SELECT `+routeColumns+` FROM set_share($1, $2, $3, $4, $5, $6, $7, $8)`,
		in.Service, in.Fence, in.Rollout, in.Step, in.Share, in.By, in.Reason, jsonOrNull(in.Evidence))
}

// RenewLease adds 1 to the lease counter and gives it. Neither generation nor ledger change.
func (r *Registry) RenewLease(ctx context.Context, service string, fence lifecycle.Fence) (int64, error) {
	var lease int64
	err := r.pool.QueryRow(ctx, `SELECT renew_lease($1, $2)`, service, fence).Scan(&lease)
	return lease, wrap(err, "renew the lease of %s", service)
}

// Promotion moves the stable pointer to the canary.
type Promotion struct {
	Service  string
	Fence    lifecycle.Fence
	Rollout  string
	By       lifecycle.Actor
	Reason   string
	Evidence json.RawMessage
	Leave    *Leave
}

// Promote makes the canary stable and the stable release the previous one. Promoting the same rollout again
// changes nothing.
func (r *Registry) Promote(ctx context.Context, in Promotion) (lifecycle.Route, error) {
	return r.given(ctx, in.Leave, change{in.Service, in.Rollout, lifecycle.Whole}, "promote rollout "+in.Rollout+" of "+in.Service,
		`SELECT `+routeColumns+` FROM promote($1, $2, $3, $4, $5, $6)`,
		in.Service, in.Fence, in.Rollout, in.By, in.Reason, jsonOrNull(in.Evidence))
}

// Rollback takes the way back.
type Rollback struct {
	Service  string
	Fence    lifecycle.Fence // 0 takes a new one: the direct way
	Rollout  string          // of a fenced holder: only this rollout is ended; empty: whatever is in flight
	By       lifecycle.Actor
	Reason   string
	Evidence json.RawMessage
	Touched  *lifecycle.Touched // whom the release touched, where it was counted
	Invalid  bool               // the exposure bound was broken
}

const rollBackColumns = `(b.route).service, (b.route).epoch, (b.route).generation, (b.route).stable, (b.route).previous,
(b.route).canary, (b.route).share_bp, (b.route).rollout, (b.route).step, (b.route).lease, (b.route).band_key, (b.route).changed_at, (b.route).shadow_bp, b.fence`

// RollBack takes a service back: with a canary out the canary goes and stable stays; without one stable and
// previous change places, and where there is no previous it is Refused. It gives the route and the fence it
// was done under. A fenced holder whose rollout is not in flight changes nothing and gets the route.
func (r *Registry) RollBack(ctx context.Context, in Rollback) (lifecycle.Route, lifecycle.Fence, error) {
	var touched any
	if in.Touched != nil {
		touched = in.Touched
	}
	return rollBack(r.pool.QueryRow(ctx, `SELECT `+rollBackColumns+` FROM roll_back($1, $2, $3, $4, $5, $6, $7, $8) b`,
		in.Service, in.Fence, in.Rollout, in.By, in.Reason, jsonOrNull(in.Evidence), touched, in.Invalid), in.Service)
}

// RollBackDirect is RollBack with a new fence for who has nothing but the address of the role for rollbacks.
// Only Service, By.Name and Reason are read; the ledger says that it came the direct way.
func RollBackDirect(ctx context.Context, url string, in Rollback) (lifecycle.Route, lifecycle.Fence, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return lifecycle.Route{}, 0, wrap(err, "reach the registry to roll %s back", in.Service)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return rollBack(conn.QueryRow(ctx, `SELECT `+rollBackColumns+` FROM roll_back_direct($1, $2, $3) b`,
		in.Service, in.By.Name, in.Reason), in.Service)
}

func rollBack(row pgx.Row, service string) (lifecycle.Route, lifecycle.Fence, error) {
	var route lifecycle.Route
	var fence lifecycle.Fence
	if err := row.Scan(append(routeFields(&route), &fence)...); err != nil {
		return lifecycle.Route{}, 0, wrap(err, "roll %s back", service)
	}
	return route, fence, nil
}
