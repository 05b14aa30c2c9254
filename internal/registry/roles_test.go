package registry_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

func (s *stage) as(url, statement string) error {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, url)
	require.NoError(s.t, err)
	defer conn.Close(s.ctx)
	_, err = conn.Exec(s.ctx, statement)
	return err
}

func TestTheLedgerOnlyGrows(t *testing.T) {
	s := newStage(t)
	before := s.kinds()
	for _, statement := range []string{
		`UPDATE ledger SET reason = 'other'`, `DELETE FROM ledger`, `TRUNCATE ledger`, `TRUNCATE services CASCADE`,
		`UPDATE ledger SET reason = 'other' WHERE false`,
	} {
		require.Error(t, s.as(s.AppURL, statement), "application: %s", statement)
		require.ErrorContains(t, s.as(s.OwnerURL, statement), "append-only", "owner: %s", statement)
	}
	// Numbers are the database's, whatever is asked for.
	require.NoError(t, s.as(s.AppURL, `INSERT INTO ledger (service, sequence, at, kind, subject, actor, via, reason)
		VALUES ('docs', 999, '2001-01-01', 'paused', '', 'x', '', '')`))
	after := s.kinds()
	require.Len(t, after, len(before)+1)
	entries, err := s.Registry.Ledger(s.ctx, registry.LedgerQuery{Service: svc, After: int64(len(before))})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), entries[0].At, time.Hour)
}

func TestWhatServesChangesOnlyThroughFunctions(t *testing.T) {
	s := newStage(t)
	for _, statement := range []string{
		`UPDATE routes SET share_bp = 9000`, `DELETE FROM routes`, `UPDATE fences SET fence = 1`, `DELETE FROM fences`,
		`INSERT INTO fences VALUES ('docs', 'x', 1)`, `UPDATE claims SET closed_at = now()`, `DELETE FROM claims`,
		`UPDATE services SET ledger_sequence = 0`, `UPDATE rollouts SET phase = 'promoted'`, `UPDATE releases SET canonical = ''`,
		`UPDATE evaluations SET outcome = 'pass'`, `DELETE FROM evaluations`, `UPDATE service_versions SET digest = ''`,
		`UPDATE credit_pools SET level = 1000000`, `SELECT store_route(r) FROM routes r`, `SELECT next_fence('docs', 'promotion')`,
		`SELECT lock_route('docs')`, `SELECT void_credit('docs', '')`, `CREATE TABLE mine (n int)`, `SELECT roll_back_direct('docs', 'a', 'b')`,
	} {
		err := s.as(s.AppURL, statement)
		require.ErrorContains(t, err, "42501", "application: %s", statement)
	}
	require.Error(t, s.as(s.OwnerURL, `INSERT INTO releases (service, id, canonical, added_by) VALUES ('docs', repeat('0', 64), 'x', '{}')`),
		"a release is named by its digest")
}

func TestTheRollbackRoleDoesNothingElse(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	conn, err := pgx.Connect(s.ctx, s.OwnerURL)
	require.NoError(t, err)
	defer conn.Close(s.ctx)
	rows, err := conn.Query(s.ctx, `SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind IN ('r', 'S', 'v')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 15)
	for _, table := range tables {
		for _, statement := range []string{"SELECT FROM " + table, "DELETE FROM " + table} {
			require.Error(t, s.as(s.RollbackURL, statement), statement)
		}
	}
	rows, err = conn.Query(s.ctx, `SELECT p.proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = 'public' AND has_function_privilege('refit_rollback', p.oid, 'EXECUTE')`)
	require.NoError(t, err)
	functions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"roll_back_direct"}, functions)

	_, fence, err := registry.RollBackDirect(s.ctx, s.RollbackURL, registry.Rollback{Service: svc, By: alice, Reason: "bad"})
	require.NoError(t, err)
	require.Equal(t, s.claim.Fence+1, fence)
	require.Zero(t, s.route().Share)
}

func TestMigratingAgainChangesNothing(t *testing.T) {
	s := newStage(t)
	require.NoError(t, registry.Migrate(s.ctx, s.OwnerURL))
	is, wanted, err := registry.SchemaVersion(s.ctx, s.OwnerURL)
	require.NoError(t, err)
	require.Equal(t, wanted, is)
	require.Error(t, registry.Migrate(s.ctx, s.RollbackURL))
}

func TestWhatCannotBeReachedIsUnavailable(t *testing.T) {
	t.Parallel()
	const nobody = "postgres://refit_app@127.0.0.1:1/refit?sslmode=disable"
	_, err := registry.Open(t.Context(), registry.Config{URL: nobody})
	requireKind(t, lifecycle.Unavailable, err)
	lazy, err := registry.Open(t.Context(), registry.Config{URL: nobody, Lazy: true})
	require.NoError(t, err)
	defer lazy.Close()
	_, err = lazy.Route(t.Context(), svc)
	requireKind(t, lifecycle.Unavailable, err)
	_, err = registry.Open(t.Context(), registry.Config{})
	requireKind(t, lifecycle.Invalid, err)
	_, err = lazy.ApplyService(t.Context(), registrytest.Service("Not A Name"), alice)
	requireKind(t, lifecycle.Invalid, err)
}
