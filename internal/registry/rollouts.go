package registry

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// RecordStep keeps how a step of a rollout went. The same record again changes nothing; a step that was held
// again is recorded anew, and the ledger has both.
func (r *Registry) RecordStep(ctx context.Context, service string, fence lifecycle.Fence, rollout string, record lifecycle.StepRecord) error {
	_, err := r.pool.Exec(ctx, `SELECT record_step($1, $2, $3, $4, $5, $6)`,
		service, fence, rollout, record.Index, record, lifecycle.Actor{Name: "refit", Via: "worker"})
	return wrap(err, "record step %d of rollout %s", record.Index, rollout)
}

const selectRollouts = `
SELECT o.id, o.service, o.release, o.baseline, o.owner, o.fence, o.phase, o.reason, o.started_by, o.started_at, o.ended_at,
    o.touched, o.shadow, coalesce((SELECT json_agg(s.record ORDER BY s.step) FROM rollout_steps s WHERE s.rollout = o.id), '[]')
FROM rollouts o`

func scanRollout(row pgx.CollectableRow) (o lifecycle.Rollout, err error) {
	var ended *time.Time
	var touched, shadow, steps []byte
	err = row.Scan(&o.ID, &o.Service, &o.Release, &o.Baseline, &o.Owner, &o.Fence, &o.Phase, &o.Reason, &o.StartedBy,
		&o.StartedAt, &ended, &touched, &shadow, &steps)
	if err != nil {
		return o, err
	}
	if ended != nil {
		o.EndedAt = *ended
	}
	if touched != nil {
		if err := json.Unmarshal(touched, &o.Touched); err != nil {
			return o, lifecycle.Errorf(lifecycle.Corrupt, "rollout %s: %w", o.ID, err)
		}
	}
	if shadow != nil {
		if err := json.Unmarshal(shadow, &o.Shadow); err != nil {
			return o, lifecycle.Errorf(lifecycle.Corrupt, "the shadow step of rollout %s: %w", o.ID, err)
		}
	}
	if err := json.Unmarshal(steps, &o.Steps); err != nil {
		return o, lifecycle.Errorf(lifecycle.Corrupt, "rollout %s: %w", o.ID, err)
	}
	return o, nil
}

// Rollout gives a rollout with its steps.
func (r *Registry) Rollout(ctx context.Context, id string) (lifecycle.Rollout, error) {
	rows, err := r.pool.Query(ctx, selectRollouts+` WHERE o.id = $1`, id)
	if err != nil {
		return lifecycle.Rollout{}, wrap(err, "read rollout %s", id)
	}
	rollout, err := pgx.CollectExactlyOneRow(rows, scanRollout)
	return rollout, wrap(err, "read rollout %s", id)
}

// RolloutsOf lists the rollouts of a release, newest first.
func (r *Registry) RolloutsOf(ctx context.Context, service string, release lifecycle.Digest) ([]lifecycle.Rollout, error) {
	rows, err := r.pool.Query(ctx, selectRollouts+` WHERE o.service = $1 AND o.release = $2 ORDER BY o.started_at DESC`, service, release)
	if err != nil {
		return nil, wrap(err, "list rollouts of release %s", release.Short())
	}
	list, err := pgx.CollectRows(rows, scanRollout)
	return list, wrap(err, "list rollouts of release %s", release.Short())
}

// Rollouts lists a service's rollouts, newest first; limit 0 means 20.
func (r *Registry) Rollouts(ctx context.Context, service string, limit int) ([]lifecycle.Rollout, error) {
	if limit <= 0 {
		limit = 20
	}
	rows, err := r.pool.Query(ctx, selectRollouts+` WHERE o.service = $1 ORDER BY o.started_at DESC LIMIT $2`, service, limit)
	if err != nil {
		return nil, wrap(err, "list rollouts of %s", service)
	}
	list, err := pgx.CollectRows(rows, scanRollout)
	return list, wrap(err, "list rollouts of %s", service)
}
