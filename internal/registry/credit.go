package registry

import "context"

// CreditDraw is what a gateway tells the pool of a rollout's exposure credit and asks of it, as in package
// rollout: credit in basis points of a request, units in whole requests.
type CreditDraw struct {
	Service, Rollout string
	Gateway          string // its ID for as long as its totals count; a restarted gateway has a new one
	Epoch            int64  // that the gateway knows; another than the pool's is granted nothing
	Earned           int64  // Σp over the gateway's requests in the epoch
	Given            int64  // units that it handed back in the epoch
	Held             int64  // units that it still has
	Want             int64  // units that it asks for
	Cap              int64  // of pool and drawn units together, in basis points of a request
	Base             int64  // of it, what one gateway alone may use
}

// CreditGrant is the pool's answer.
type CreditGrant struct {
	Epoch    int64
	Units    int64 // granted now
	Keep     int64 // of the units held, how many hold
	Total    int64 // credit of all gateways and the pool, in basis points of a request
	Gateways int64 // that share it
}

// DrawCredit draws units from the pool that the gateways of a rollout share. Without a share, and where nobody
// renewed the lease, nothing is granted.
func (r *Registry) DrawCredit(ctx context.Context, d CreditDraw) (CreditGrant, error) {
	var g CreditGrant
	err := r.pool.QueryRow(ctx, `
SELECT epoch, units, keep, total, gateways FROM draw_credit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		d.Service, d.Rollout, d.Gateway, d.Epoch, d.Earned, d.Given, d.Held, d.Want, d.Cap, d.Base,
	).Scan(&g.Epoch, &g.Units, &g.Keep, &g.Total, &g.Gateways)
	return g, wrap(err, "draw credit of rollout %s", d.Rollout)
}
