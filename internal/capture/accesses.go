package capture

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Accesses gives the side of each request of a rollout's step that counted for the exposure, in the order of
// admission: true is the canary's. A request that stable rescued is the canary's.
func (s *Store) Accesses(ctx context.Context, service, rollout string, step int) ([]bool, error) {
	rows, err := s.pool.Query(ctx, `
SELECT canary FROM interactions
WHERE service = $1 AND rollout = $2 AND step = $3 AND endpoint IN ('chat', 'completions', 'images')
ORDER BY started, id`, service, rollout, step)
	if err != nil {
		return nil, wrap(err, "read what step %d of rollout %s served", step, rollout)
	}
	sides, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	return sides, wrap(err, "read what step %d of rollout %s served", step, rollout)
}
