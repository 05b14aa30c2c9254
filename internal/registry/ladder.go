package registry

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// LadderID names the record of a deficit.
func LadderID(service, deficit string) string {
	return string(lifecycle.DigestOf([]byte(service + "\x00" + deficit)))
}

// OpenLadder opens the record of a deficit and gives what is stored. Opening it again only adds evidence that
// is new. ID, OpenedAt and Attempts of the argument are not read.
func (r *Registry) OpenLadder(ctx context.Context, record lifecycle.LadderRecord, by lifecycle.Actor) (lifecycle.LadderRecord, error) {
	if record.Deficit == "" {
		return lifecycle.LadderRecord{}, lifecycle.Errorf(lifecycle.Invalid, "deficit: missing; name what users report")
	}
	id := LadderID(record.Service, record.Deficit)
	err := r.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
INSERT INTO ladders (service, id, deficit, opened_by) VALUES ($1, $2, $3, $4) ON CONFLICT (service, id) DO NOTHING`,
			record.Service, id, record.Deficit, by)
		if err != nil {
			return err
		}
		for _, digest := range record.Evidence {
			if _, err := tx.Exec(ctx, `
INSERT INTO ladder_evidence (service, ladder, digest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, record.Service, id, digest); err != nil {
				return err
			}
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		return appendLedger(ctx, tx, lifecycle.LedgerEntry{
			Service: record.Service, Kind: lifecycle.LadderOpened, Subject: record.Deficit, Actor: by,
			Evidence: evidence(map[string]any{"ladder": id, "evidence": record.Evidence}),
		}, "")
	})
	if err != nil {
		return lifecycle.LadderRecord{}, wrap(err, "open the ladder of %s for %s", record.Service, record.Deficit)
	}
	return r.ladder(ctx, record.Service, id)
}

// AddLeverResult records what one lever achieved against a deficit. A result for the same lever, candidate and
// suite is recorded once. An unopened record is NotFound.
func (r *Registry) AddLeverResult(ctx context.Context, service, ladder string, result lifecycle.LeverResult) error {
	_, err := r.pool.Exec(ctx, `
INSERT INTO ladder_attempts (service, ladder, lever, candidate, suite, gain, ceiling)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		service, ladder, result.Lever, result.Candidate, result.Suite, result.Gain, result.Ceiling)
	return wrap(err, "record what %s achieved for %s", result.Lever, service)
}

const selectLadders = `
SELECT l.id, l.service, l.deficit, l.opened_at,
    coalesce((SELECT array_agg(e.digest ORDER BY e.ordinal) FROM ladder_evidence e WHERE e.service = l.service AND e.ladder = l.id), '{}'),
    coalesce((SELECT json_agg(json_build_object('lever', a.lever, 'candidate', a.candidate, 'suite', a.suite, 'gain', a.gain,
        'ceiling', a.ceiling) ORDER BY a.ordinal) FROM ladder_attempts a WHERE a.service = l.service AND a.ladder = l.id), '[]')
FROM ladders l`

func scanLadder(row pgx.CollectableRow) (l lifecycle.LadderRecord, err error) {
	var attempts []byte
	if err = row.Scan(&l.ID, &l.Service, &l.Deficit, &l.OpenedAt, &l.Evidence, &attempts); err != nil {
		return l, err
	}
	if err := json.Unmarshal(attempts, &l.Attempts); err != nil {
		return l, lifecycle.Errorf(lifecycle.Corrupt, "ladder %s: %w", l.ID, err)
	}
	return l, nil
}

func (r *Registry) ladder(ctx context.Context, service, id string) (lifecycle.LadderRecord, error) {
	rows, err := r.pool.Query(ctx, selectLadders+` WHERE l.service = $1 AND l.id = $2`, service, id)
	if err != nil {
		return lifecycle.LadderRecord{}, wrap(err, "read a ladder of %s", service)
	}
	record, err := pgx.CollectExactlyOneRow(rows, scanLadder)
	return record, wrap(err, "read a ladder of %s", service)
}

// Ladder lists a service's records, oldest first.
func (r *Registry) Ladder(ctx context.Context, service string) ([]lifecycle.LadderRecord, error) {
	rows, err := r.pool.Query(ctx, selectLadders+` WHERE l.service = $1 ORDER BY l.opened_at, l.id`, service)
	if err != nil {
		return nil, wrap(err, "list the ladder of %s", service)
	}
	records, err := pgx.CollectRows(rows, scanLadder)
	return records, wrap(err, "list the ladder of %s", service)
}
