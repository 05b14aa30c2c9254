package registry

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// AddEvaluation stores a verdict and gives what is stored. There is one verdict per candidate, baseline and
// suite: a second one changes nothing and gives the first. Attempt is counted here: how many candidates, this
// one included, were held against this baseline and suite. An outcome of error is kept, but is not a verdict:
// a later one may follow it.
func (r *Registry) AddEvaluation(ctx context.Context, v lifecycle.Verdict, by lifecycle.Actor) (lifecycle.Verdict, error) {
	if !v.Candidate.Valid() || !v.Suite.Valid() || v.Outcome == "" {
		return lifecycle.Verdict{}, lifecycle.Errorf(lifecycle.Invalid, "verdict: give candidate, suite and outcome")
	}
	err := r.inTx(ctx, func(tx pgx.Tx) error {
		// Two verdicts at once would count the same attempt.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('evaluations/' || $1, 0))`, v.Service); err != nil {
			return err
		}
		stored, err := storedVerdict(ctx, tx, v)
		if err == nil && stored.Outcome != lifecycle.ErrorOutcome {
			v = stored
			return nil
		}
		if err != nil && !lifecycle.Is(err, lifecycle.NotFound) {
			return err
		}
		err = tx.QueryRow(ctx, `
SELECT 1 + count(DISTINCT candidate), clock_timestamp() FROM evaluations
WHERE service = $1 AND baseline = $2 AND suite = $3 AND candidate <> $4`,
			v.Service, v.Baseline, v.Suite, v.Candidate).Scan(&v.Attempt, &v.DecidedAt)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
INSERT INTO evaluations (service, candidate, baseline, suite, outcome, attempt, verdict, decided_by, decided_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			v.Service, v.Candidate, v.Baseline, v.Suite, v.Outcome, v.Attempt, v, by, v.DecidedAt)
		if err != nil {
			return err
		}
		return appendLedger(ctx, tx, lifecycle.LedgerEntry{
			Service: v.Service, Kind: lifecycle.Evaluated, Subject: string(v.Candidate), Actor: by, Reason: string(v.Outcome),
			Evidence: evidence(map[string]any{
				"baseline": v.Baseline, "suite": v.Suite, "report": v.Report, "outcome": v.Outcome, "attempt": v.Attempt,
			}),
		}, "")
	})
	if err != nil {
		return lifecycle.Verdict{}, wrap(err, "add the verdict on %s of %s", v.Candidate.Short(), v.Service)
	}
	return v, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func storedVerdict(ctx context.Context, on querier, v lifecycle.Verdict) (lifecycle.Verdict, error) {
	rows, err := on.Query(ctx, `
SELECT verdict FROM evaluations WHERE service = $1 AND candidate = $2 AND baseline = $3 AND suite = $4
ORDER BY outcome = 'error', ordinal DESC LIMIT 1`, v.Service, v.Candidate, v.Baseline, v.Suite)
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	stored, err := pgx.CollectExactlyOneRow(rows, scanVerdict)
	return stored, wrap(err, "find the verdict on %s of %s", v.Candidate.Short(), v.Service)
}

func scanVerdict(row pgx.CollectableRow) (v lifecycle.Verdict, err error) {
	var raw []byte
	if err = row.Scan(&raw); err != nil {
		return v, err
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, lifecycle.Errorf(lifecycle.Corrupt, "stored verdict: %w", err)
	}
	return v, nil
}

// Evaluation gives the verdict on a candidate against a baseline and suite. Where there were only errors it is
// the newest of them. None is NotFound.
func (r *Registry) Evaluation(ctx context.Context, service string, candidate, baseline, suite lifecycle.Digest) (lifecycle.Verdict, error) {
	v, err := storedVerdict(ctx, r.pool, lifecycle.Verdict{Service: service, Candidate: candidate, Baseline: baseline, Suite: suite})
	return v, wrap(err, "read a verdict of %s", service)
}

// Evaluations lists a service's verdicts, newest first; limit 0 means 20.
func (r *Registry) Evaluations(ctx context.Context, service string, limit int) ([]lifecycle.Verdict, error) {
	if limit <= 0 {
		limit = 20
	}
	rows, err := r.pool.Query(ctx, `SELECT verdict FROM evaluations WHERE service = $1 ORDER BY ordinal DESC LIMIT $2`, service, limit)
	if err != nil {
		return nil, wrap(err, "list verdicts of %s", service)
	}
	list, err := pgx.CollectRows(rows, scanVerdict)
	return list, wrap(err, "list verdicts of %s", service)
}

// EvaluationsOf lists the verdicts on a candidate, newest first.
func (r *Registry) EvaluationsOf(ctx context.Context, service string, candidate lifecycle.Digest) ([]lifecycle.Verdict, error) {
	rows, err := r.pool.Query(ctx, `SELECT verdict FROM evaluations WHERE service = $1 AND candidate = $2 ORDER BY ordinal DESC`, service, candidate)
	if err != nil {
		return nil, wrap(err, "list verdicts on release %s", candidate.Short())
	}
	list, err := pgx.CollectRows(rows, scanVerdict)
	return list, wrap(err, "list verdicts on release %s", candidate.Short())
}

// NewestPassed gives the candidate that passed its gate against a baseline last. None is NotFound.
func (r *Registry) NewestPassed(ctx context.Context, service string, baseline lifecycle.Digest) (lifecycle.Digest, error) {
	var candidate lifecycle.Digest
	err := r.pool.QueryRow(ctx, `
SELECT candidate FROM evaluations WHERE service = $1 AND baseline = $2 AND outcome = 'pass'
ORDER BY ordinal DESC LIMIT 1`, service, baseline).Scan(&candidate)
	return candidate, wrap(err, "find a release of %s that passed against %s", service, baseline.Short())
}
