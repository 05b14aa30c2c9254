package registry

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// Leave is what a change of what serves was found to have when the calendar was read. It is held against the registry
// in the transaction that makes the change: where a freeze was opened, a window began or another declaration was applied
// since, nothing changes, and [HeldByFreeze] knows the error. A change without one asks no freeze; lowering a share and what
// was done before ask none either.
type Leave struct {
	Levers  []lifecycle.Lever // that the change changes; empty: it is not known which
	Version int               // of the declaration whose calendar was read
	Until   time.Time         // no window that holds it begins before
	Glass   time.Time         // until when no freeze holds it; zero: the glass is whole
}

// change is what leave is asked for; without a rollout it is a first stable release.
type change struct {
	service, rollout string
	share            lifecycle.BasisPoints
}

// HeldByFreeze says whether a change was refused because a freeze holds it.
func HeldByFreeze(err error) bool {
	var held *lifecycle.Error
	return errors.As(err, &held) && held.Kind == lifecycle.Refused && held.Fields[heldBy] != ""
}

const heldBy = "held_by"

// given changes the route if there is leave to.
func (r *Registry) given(ctx context.Context, leave *Leave, to change, doing, query string, args ...any) (lifecycle.Route, error) {
	if leave == nil {
		return r.route(ctx, doing, query, args...)
	}
	levers := leave.Levers
	if levers == nil {
		levers = []lifecycle.Lever{}
	}
	var route lifecycle.Route
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		var by string
		err := tx.QueryRow(ctx, `SELECT holding_freeze($1, $2, $3, $4, $5, $6, $7)`,
			to.service, to.rollout, to.share, levers, leave.Version, leave.Until, timeOrNull(leave.Glass)).Scan(&by)
		if err != nil {
			return err
		}
		if by != "" {
			return &lifecycle.Error{Kind: lifecycle.Refused, Message: "frozen by " + by, Fields: map[string]string{heldBy: by}}
		}
		return tx.QueryRow(ctx, query, args...).Scan(routeFields(&route)...)
	})
	if err != nil {
		return lifecycle.Route{}, wrap(err, "%s", doing)
	}
	return route, nil
}
