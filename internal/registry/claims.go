package registry

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

const claimColumns = `service, loop, fence, namespace, workflow_id, first_run_id, claimed_at`

func scanClaim(row pgx.CollectableRow) (c lifecycle.Claim, err error) {
	err = row.Scan(&c.Service, &c.Loop, &c.Fence, &c.Owner.Namespace, &c.Owner.WorkflowID, &c.Owner.FirstRunID, &c.ClaimedAt)
	return c, err
}

// TakeClaim takes the one right to run a loop of a service. The owner that holds it gets the same claim again.
// Somebody else's claim is Busy, with the holder in the error's fields: namespace, workflow_id, first_run_id,
// fence, claimed_at.
func (r *Registry) TakeClaim(ctx context.Context, service string, loop lifecycle.Loop, owner lifecycle.Owner, by lifecycle.Actor) (lifecycle.Claim, error) {
	if err := checkOwner(loop, owner); err != nil {
		return lifecycle.Claim{}, err
	}
	return r.claim(ctx, "take "+string(loop)+" of "+service, `SELECT `+claimColumns+` FROM take_claim($1, $2, $3, $4, $5, $6)`,
		service, loop, owner.Namespace, owner.WorkflowID, owner.FirstRunID, by)
}

// TakeOver closes the claim that still has the fence from and gives the right to another owner with a new
// fence. A promotion's canary is taken off the route in the same transaction, and its rollout ends as rolled
// back. Whether the holder is gone is the caller's finding. A claim that changed hands since is Busy.
func (r *Registry) TakeOver(ctx context.Context, service string, loop lifecycle.Loop, from lifecycle.Fence, owner lifecycle.Owner, by lifecycle.Actor, reason string) (lifecycle.Claim, error) {
	if err := checkOwner(loop, owner); err != nil {
		return lifecycle.Claim{}, err
	}
	return r.claim(ctx, "take over "+string(loop)+" of "+service, `SELECT `+claimColumns+` FROM take_over($1, $2, $3, $4, $5, $6, $7, $8)`,
		service, loop, from, owner.Namespace, owner.WorkflowID, owner.FirstRunID, by, reason)
}

func checkOwner(loop lifecycle.Loop, owner lifecycle.Owner) error {
	if !slices.Contains(lifecycle.Loops(), loop) {
		return lifecycle.Errorf(lifecycle.Invalid, "loop: %q; give one of %v", loop, lifecycle.Loops())
	}
	if owner.Namespace == "" || owner.WorkflowID == "" || owner.FirstRunID == "" {
		return lifecycle.Errorf(lifecycle.Invalid, "owner: incomplete; give namespace, workflow_id and first_run_id")
	}
	return nil
}

func (r *Registry) claim(ctx context.Context, doing, query string, args ...any) (lifecycle.Claim, error) {
	rows, err := r.pool.Query(ctx, query, args...)
	if err != nil {
		return lifecycle.Claim{}, wrap(err, "%s", doing)
	}
	claim, err := pgx.CollectExactlyOneRow(rows, scanClaim)
	return claim, wrap(err, "%s", doing)
}

// ReleaseClaim gives a claim back; giving it back twice, or after it was taken over, changes nothing. A canary
// that it still has out is taken off the route.
func (r *Registry) ReleaseClaim(ctx context.Context, claim lifecycle.Claim, by lifecycle.Actor) error {
	_, err := r.pool.Exec(ctx, `SELECT release_claim($1, $2, $3, $4)`, claim.Service, claim.Loop, claim.Fence, by)
	return wrap(err, "give %s of %s back", claim.Loop, claim.Service)
}

// Claims lists the open claims of a service, by loop.
func (r *Registry) Claims(ctx context.Context, service string) ([]lifecycle.Claim, error) {
	rows, err := r.pool.Query(ctx, `SELECT `+claimColumns+` FROM claims WHERE service = $1 AND closed_at IS NULL ORDER BY loop`, service)
	if err != nil {
		return nil, wrap(err, "list claims of %s", service)
	}
	claims, err := pgx.CollectRows(rows, scanClaim)
	return claims, wrap(err, "list claims of %s", service)
}
