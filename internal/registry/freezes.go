package registry

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// OpenFreeze holds a service's changes until the freeze is closed or ends by itself. Opening the same again changes
// nothing; another one of the same name that is open is Conflict, an undeclared service NotFound.
func (r *Registry) OpenFreeze(ctx context.Context, f lifecycle.Freeze) (lifecycle.Freeze, error) {
	if f.Levers == nil {
		f.Levers = []lifecycle.Lever{}
	}
	opened, err := oneFreeze(r.pool.Query(ctx, `SELECT `+freezeColumns+` FROM open_freeze($1, $2, $3, $4, $5, $6)`,
		f.Service, f.Name, f.Reason, f.Levers, timeOrNull(f.EndsAt), f.OpenedBy))
	return opened, wrap(err, "open freeze %s of %s", f.Name, f.Service)
}

// CloseFreeze ends the newest freeze of a name. One that is closed stays as it is; an unknown one is NotFound.
func (r *Registry) CloseFreeze(ctx context.Context, service, name string, by lifecycle.Actor, reason string) (lifecycle.Freeze, error) {
	closed, err := oneFreeze(r.pool.Query(ctx, `SELECT `+freezeColumns+` FROM close_freeze($1, $2, $3, $4)`, service, name, reason, by))
	return closed, wrap(err, "close freeze %s of %s", name, service)
}

// Freezes lists a service's incidents, newest first: those that hold now, or all.
func (r *Registry) Freezes(ctx context.Context, service string, all bool) ([]lifecycle.Freeze, error) {
	rows, err := r.pool.Query(ctx, `SELECT `+freezeColumns+` FROM freezes
WHERE service = $1 AND ($2 OR closed_at IS NULL AND (ends_at IS NULL OR ends_at > clock_timestamp()))
ORDER BY ordinal DESC LIMIT 1000`, service, all)
	if err != nil {
		return nil, wrap(err, "list freezes of %s", service)
	}
	list, err := pgx.CollectRows(rows, scanFreeze)
	return list, wrap(err, "list freezes of %s", service)
}

const freezeColumns = `service, name, reason, levers, opened_by, opened_at, ends_at, closed_by, closed_at`

func oneFreeze(rows pgx.Rows, err error) (lifecycle.Freeze, error) {
	if err != nil {
		return lifecycle.Freeze{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanFreeze)
}

func scanFreeze(row pgx.CollectableRow) (f lifecycle.Freeze, err error) {
	var ends, closed *time.Time
	err = row.Scan(&f.Service, &f.Name, &f.Reason, &f.Levers, &f.OpenedBy, &f.OpenedAt, &ends, &f.ClosedBy, &closed)
	if ends != nil {
		f.EndsAt = *ends
	}
	if closed != nil {
		f.ClosedAt = *closed
	}
	return f, err
}
