package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// installGates lets the test stop any transaction that writes into the ledger, just before it does: whatever changes what
// serves writes its entry in the same transaction, with the route's lock held. A gate that is shut stays so over a kill of
// PostgreSQL.
func (w *world) installGates() {
	w.t.Helper()
	w.own(`CREATE TABLE e2e_gates (kind text PRIMARY KEY)`)
	w.own(`
CREATE FUNCTION e2e_gate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    WHILE EXISTS (SELECT FROM e2e_gates WHERE kind = NEW.kind) LOOP
        PERFORM pg_advisory_xact_lock_shared(4711, hashtext(NEW.kind)); -- so that it can be seen who waits where
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN NEW;
END $$`)
	w.own(`CREATE TRIGGER a_gate BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION e2e_gate()`)
}

// own does a statement as the database's owner.
func (w *world) own(sql string, args ...any) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.ownerURL)
	require.NoError(w.t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	require.NoError(w.t, err, sql)
}

func (w *world) shut(kinds ...lifecycle.LedgerKind) {
	w.t.Helper()
	for _, kind := range kinds {
		w.own(`INSERT INTO e2e_gates VALUES ($1)`, kind)
	}
}

func (w *world) open(kind lifecycle.LedgerKind) {
	w.t.Helper()
	w.own(`DELETE FROM e2e_gates WHERE kind = $1`, kind)
}

// awaitAt waits until somebody stands before a gate.
func (w *world) awaitAt(kind lifecycle.LedgerKind) {
	w.t.Helper()
	await(w.t, fmt.Sprintf("somebody to be about to write %s", kind), func() (bool, any) {
		waiting := query(w, scanInt, `
SELECT count(*)::int FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.classid = 4711 AND l.objid = hashtext($1)::oid AND d.datname = current_database()`, kind)[0]
		return waiting > 0, waiting
	})
}
