package registry

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/refitml/refit/internal/lifecycle"
)

// LedgerQuery asks for a part of a service's history.
type LedgerQuery struct {
	Service string
	After   int64                  // sequence; 0 begins at the start
	Limit   int                    // entries at most; default 100
	Newest  bool                   // where there are more than Limit, the last ones and not the first
	Kinds   []lifecycle.LedgerKind // empty: all
}

// Ledger reads a service's history, always oldest first. A service without one has no entries.
func (r *Registry) Ledger(ctx context.Context, q LedgerQuery) ([]lifecycle.LedgerEntry, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	if q.Kinds == nil {
		q.Kinds = []lifecycle.LedgerKind{}
	}
	direction := ""
	if q.Newest {
		direction = " DESC"
	}
	rows, err := r.pool.Query(ctx, `
SELECT * FROM (
    SELECT service, sequence, at, kind, subject, actor, via, reason, evidence FROM ledger
    WHERE service = $1 AND sequence > $2 AND (cardinality($3::text[]) = 0 OR kind = ANY ($3))
    ORDER BY sequence`+direction+` LIMIT $4
) l ORDER BY sequence`, q.Service, q.After, q.Kinds, q.Limit)
	if err != nil {
		return nil, wrap(err, "read the ledger of %s", q.Service)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e lifecycle.LedgerEntry, err error) {
		var raw []byte
		err = row.Scan(&e.Service, &e.Sequence, &e.At, &e.Kind, &e.Subject, &e.Actor.Name, &e.Actor.Via, &e.Reason, &raw)
		e.Evidence = raw
		return e, err
	})
	return entries, wrap(err, "read the ledger of %s", q.Service)
}

// LedgerHead is how far a service's ledger is.
type LedgerHead struct {
	Service  string           `json:"service"`
	Epoch    int64            `json:"epoch"` // of the registry
	Sequence int64            `json:"sequence"`
	Chain    lifecycle.Digest `json:"chain"` // "" before the first entry
}

// LedgerHeads lists the heads of all services, by name.
func (r *Registry) LedgerHeads(ctx context.Context) ([]LedgerHead, error) {
	rows, err := r.pool.Query(ctx, `
SELECT s.name, r.epoch, s.ledger_sequence, coalesce(encode(l.chain, 'hex'), '') FROM services s
JOIN routes r ON r.service = s.name LEFT JOIN ledger l ON l.service = s.name AND l.sequence = s.ledger_sequence ORDER BY s.name`)
	if err != nil {
		return nil, wrap(err, "read the heads of the ledgers")
	}
	heads, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LedgerHead])
	return heads, wrap(err, "read the heads of the ledgers")
}

// LedgerChain gives the entries of a service after a sequence number with their hashes, oldest first, page by page: a
// ledger that grows meanwhile is read to the end that it has then.
func (r *Registry) LedgerChain(ctx context.Context, service string, after int64) iter.Seq2[lifecycle.Chained, error] {
	return func(yield func(lifecycle.Chained, error) bool) {
		for after := after; ; {
			page, err := r.ledgerPage(ctx, service, after)
			if err != nil {
				yield(lifecycle.Chained{}, wrap(err, "read the ledger of %s", service))
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				after = e.Sequence
			}
			if len(page) < ledgerPage {
				return
			}
		}
	}
}

// ledgerPage is how many entries are read at once.
const ledgerPage = 1000

func (r *Registry) ledgerPage(ctx context.Context, service string, after int64) ([]lifecycle.Chained, error) {
	rows, err := r.pool.Query(ctx, `
SELECT service, sequence, at, kind, subject, actor, via, reason, coalesce(evidence::text, ''), coalesce(dedupe, ''), encode(chain, 'hex')
FROM ledger WHERE service = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, service, after, ledgerPage)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e lifecycle.Chained, err error) {
		err = row.Scan(&e.Service, &e.Sequence, &e.At, &e.Kind, &e.Subject, &e.Actor.Name, &e.Actor.Via, &e.Reason, &e.Text, &e.Key, &e.Chain)
		if e.Text != "" {
			e.Evidence = json.RawMessage(e.Text)
		}
		return e, err
	})
}

// Adopt begins a new epoch of a service's route after its database was restored: gateways that had applied more follow
// again, all on stable. evidence may name what was lost.
func (r *Registry) Adopt(ctx context.Context, service string, by lifecycle.Actor, reason string, evidence json.RawMessage) (lifecycle.Route, error) {
	return r.route(ctx, "adopt the registry of "+service, `SELECT `+routeColumns+` FROM adopt_registry($1, $2, $3, $4)`, service, by, reason, jsonOrNull(evidence))
}

// AppendLedger appends a fact that has no function of its own. Sequence and time are the database's. A second
// entry of the service with the same key is dropped, so that a repeated step writes once; an empty key always
// writes.
func (r *Registry) AppendLedger(ctx context.Context, entry lifecycle.LedgerEntry, key string) error {
	return wrap(appendLedger(ctx, r.pool, entry, key), "append %s to the ledger of %s", entry.Kind, entry.Service)
}

// execer is a connection, a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

func appendLedger(ctx context.Context, on execer, e lifecycle.LedgerEntry, key string) error {
	_, err := on.Exec(ctx, `
INSERT INTO ledger (service, kind, subject, actor, via, reason, evidence, dedupe)
VALUES ($1, $2, $3, $4, $5, $6, $7, nullif($8, ''))`,
		e.Service, e.Kind, e.Subject, e.Actor.Name, e.Actor.Via, e.Reason, jsonOrNull(e.Evidence), key)
	return err
}

// evidence encodes numbers and digests; what it is given always can be encoded.
func evidence(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return raw
}

// jsonOrNull keeps the database's null apart from JSON's.
func jsonOrNull(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	return raw
}

// timeOrNull lets the database say when.
func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}
