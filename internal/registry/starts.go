package registry

import "context"

// UseStartGrant notes that a run was started with the grant of this nonce. It says whether that run is the first to show
// it, which it stays however often it asks.
func (r *Registry) UseStartGrant(ctx context.Context, nonce, firstRunID string) (bool, error) {
	if _, err := r.pool.Exec(ctx, `INSERT INTO start_grants (nonce, first_run_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, nonce, firstRunID); err != nil {
		return false, wrap(err, "use the grant of a start")
	}
	var first string
	err := r.pool.QueryRow(ctx, `SELECT first_run_id FROM start_grants WHERE nonce = $1`, nonce).Scan(&first)
	return first == firstRunID, wrap(err, "use the grant of a start")
}
