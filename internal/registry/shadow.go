package registry

import (
	"context"

	"github.com/refitml/refit/internal/lifecycle"
)

// ShadowChange sets what share of requests a rollout's candidate gets copies of before its first share.
type ShadowChange struct {
	Service string
	Fence   lifecycle.Fence
	Rollout string
	Share   lifecycle.BasisPoints // 0 to 10,000
	By      lifecycle.Actor
	Reason  string
}

// SetShadow begins or ends a rollout's shadow step. The same again changes nothing. A rollout that is not in flight any
// more is Fenced, one that has a share of users a Conflict.
func (r *Registry) SetShadow(ctx context.Context, in ShadowChange) (lifecycle.Route, error) {
	return r.route(ctx, "set the shadow step of "+in.Service,
		`SELECT `+routeColumns+` FROM set_shadow($1, $2, $3, $4, $5, $6)`, in.Service, in.Fence, in.Rollout, in.Share, in.By, in.Reason)
}

// RecordShadow keeps how a rollout's shadow step went. The same record again changes nothing.
func (r *Registry) RecordShadow(ctx context.Context, service string, fence lifecycle.Fence, rollout string, record lifecycle.ShadowRecord) error {
	_, err := r.pool.Exec(ctx, `SELECT record_shadow($1, $2, $3, $4, $5)`, service, fence, rollout, record, lifecycle.Actor{Name: "refit", Via: "worker"})
	return wrap(err, "record the shadow step of rollout %s", rollout)
}
