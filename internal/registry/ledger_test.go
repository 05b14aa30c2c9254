package registry_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

// audit checks the ledger of docs against anchors.
func (s *stage) audit(anchors ...lifecycle.Anchor) lifecycle.LedgerAudit {
	s.t.Helper()
	head := s.head()
	a, err := lifecycle.AuditLedger("docs", s.Registry.LedgerChain(s.ctx, "docs", 0), head.Sequence, anchors)
	require.NoError(s.t, err)
	return a
}

func (s *stage) head() registry.LedgerHead {
	s.t.Helper()
	heads, err := s.Registry.LedgerHeads(s.ctx)
	require.NoError(s.t, err)
	for _, h := range heads {
		if h.Service == "docs" {
			return h
		}
	}
	require.Fail(s.t, "docs has no head")
	return registry.LedgerHead{}
}

// asOwner does what the database's owner can do with the ledger's triggers off.
func (s *stage) asOwner(sql string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, s.OwnerURL)
	require.NoError(s.t, err)
	defer conn.Close(s.ctx)
	_, err = conn.Exec(s.ctx, "ALTER TABLE ledger DISABLE TRIGGER USER; "+sql+"; ALTER TABLE ledger ENABLE TRIGGER USER")
	require.NoError(s.t, err)
}

// chainAgain makes the chain whole after somebody changed something.
const chainAgain = `; DO $$
DECLARE l ledger; link bytea := '';
BEGIN
    FOR l IN SELECT * FROM ledger WHERE service = 'docs' ORDER BY sequence LOOP
        link := ledger_link(l, link);
        UPDATE ledger SET chain = link WHERE service = 'docs' AND sequence = l.sequence;
    END LOOP;
END $$`

func TestTheDatabasesChainIsTheOneThatIsChecked(t *testing.T) {
	s := newStage(t)
	for _, e := range []lifecycle.LedgerEntry{
		{Kind: lifecycle.Paused, Subject: "ein Ümlaut, ein 😀", Actor: lifecycle.Actor{Name: "ann", Via: "cli"}, Reason: "line\nbreak"},
		{Kind: lifecycle.Resumed, Evidence: []byte(`{"b": 1.50, "a": [1e3, "ü", null, true], "deep": {"z": 1, "yy": 2}}`)},
		{Kind: lifecycle.LeaseLapsed, Evidence: []byte(`null`)},
	} {
		e.Service = "docs"
		require.NoError(t, s.Registry.AppendLedger(s.ctx, e, "key of "+string(e.Kind)))
		require.NoError(t, s.Registry.AppendLedger(s.ctx, e, "key of "+string(e.Kind)), "written once")
	}
	a := s.audit()
	require.Empty(t, a.Faults)
	head := s.head()
	require.Equal(t, head.Sequence, a.Entries)
	require.Equal(t, head.Chain, a.Head)
	require.EqualValues(t, 1, head.Epoch)
}

func TestALedgerThatWasTamperedWithIsFound(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		sql, fault string
		anchored   bool // only anchors can tell
	}{
		"changed":         {`UPDATE ledger SET reason = 'another' WHERE service = 'docs' AND sequence = 2`, lifecycle.LedgerChanged, false},
		"removed":         {`DELETE FROM ledger WHERE service = 'docs' AND sequence = 2`, lifecycle.LedgerRemoved, false},
		"last removed":    {`DELETE FROM ledger l USING services s WHERE l.service = 'docs' AND s.name = 'docs' AND l.sequence = s.ledger_sequence`, lifecycle.LedgerRemoved, false},
		"inserted":        {`UPDATE ledger SET sequence = -sequence WHERE service = 'docs' AND sequence > 2; UPDATE ledger SET sequence = 1 - sequence WHERE service = 'docs' AND sequence < 0; INSERT INTO ledger SELECT service, 3, at, kind, subject, 'mallory', via, reason, evidence, NULL, chain FROM ledger WHERE service = 'docs' AND sequence = 2; UPDATE services SET ledger_sequence = ledger_sequence + 1 WHERE name = 'docs'`, lifecycle.LedgerChanged, false},
		"rewritten":       {`UPDATE ledger SET reason = 'another' WHERE service = 'docs' AND sequence = 2` + chainAgain, lifecycle.LedgerRewritten, true},
		"cut and counted": {`DELETE FROM ledger WHERE service = 'docs' AND sequence > 2; UPDATE services SET ledger_sequence = 2 WHERE name = 'docs'`, lifecycle.LedgerCut, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			head := s.head()
			require.Greater(t, head.Sequence, int64(3))
			anchor := lifecycle.Anchor{Service: "docs", Epoch: 1, Sequence: head.Sequence, Chain: head.Chain, At: time.Now()}
			require.Empty(t, s.audit(anchor).Faults)
			s.asOwner(row.sql)
			require.Equal(t, row.anchored, len(s.audit().Faults) == 0, "without anchors")
			faults := s.audit(anchor).Faults
			require.NotEmpty(t, faults)
			require.Equal(t, row.fault, faults[0].Fault, "%+v", faults)
		})
	}
}

func TestAdoptingBeginsANewEpoch(t *testing.T) {
	s := newStage(t)
	before, err := s.Registry.Route(s.ctx, "docs")
	require.NoError(t, err)
	s.rollOut(500)
	after, err := s.Registry.Adopt(s.ctx, "docs", lifecycle.Actor{Name: "ann", Via: "cli"}, "restored from last night", []byte(`{"lost": 7}`))
	require.NoError(t, err)
	require.Equal(t, before.Epoch+1, after.Epoch)
	require.Equal(t, before.Stable, after.Stable)
	require.Empty(t, after.Canary)
	_, err = s.Registry.RenewLease(s.ctx, "docs", s.claim.Fence)
	require.True(t, lifecycle.Is(err, lifecycle.Fenced), "%v", err)
	next, err := s.Registry.TakeClaim(s.ctx, "docs", lifecycle.PromotionLoop, lifecycle.Owner{Namespace: "n", WorkflowID: "w", FirstRunID: "next"}, alice)
	require.NoError(t, err)
	require.Greater(t, next.Fence, s.claim.Fence+1_000_000)
	entries, err := s.Registry.Ledger(s.ctx, registry.LedgerQuery{Service: "docs", Kinds: []lifecycle.LedgerKind{lifecycle.RegistryAdopted}})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Contains(t, string(entries[0].Evidence), `"lost": 7`)
	require.Empty(t, s.audit().Faults)
	_, err = s.Registry.Adopt(s.ctx, "nobody", lifecycle.Actor{Name: "ann"}, "why", nil)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
}

func TestOnlyATrustedReleaseIsGivenToWhoServes(t *testing.T) {
	s := newStage(t)
	ours, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	theirs, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	open := func(signer ed25519.PrivateKey, trusted ...ed25519.PublicKey) *registry.Registry {
		r, err := registry.Open(s.ctx, registry.Config{URL: s.AppURL, Signer: signer, Trusted: trusted})
		require.NoError(t, err)
		t.Cleanup(r.Close)
		return r
	}
	_, _, err = s.Registry.TrustedRelease(s.ctx, svc, string(s.stable))
	require.NoError(t, err, "where no key is trusted nothing need be signed")
	careful := open(nil, ours)
	_, _, err = careful.TrustedRelease(s.ctx, svc, string(s.stable))
	requireKind(t, lifecycle.Refused, err)
	require.ErrorContains(t, err, s.stable.Short())
	requireKind(t, lifecycle.Invalid, careful.SignRelease(s.ctx, registrytest.Release(svc, 1)))

	signer := open(private)
	for range 2 {
		require.NoError(t, signer.SignRelease(s.ctx, registrytest.Release(svc, 1)))
	}
	id, release, err := careful.TrustedRelease(s.ctx, svc, string(s.stable[:10]))
	require.NoError(t, err)
	require.Equal(t, s.stable, id)
	require.Equal(t, registrytest.Release(svc, 1), release)
	_, _, err = open(nil, theirs).TrustedRelease(s.ctx, svc, string(s.stable))
	requireKind(t, lifecycle.Refused, err)
	third, err := signer.AddRelease(s.ctx, registrytest.Release(svc, 3), alice)
	require.NoError(t, err)
	_, _, err = careful.TrustedRelease(s.ctx, svc, string(third))
	require.NoError(t, err, "a release is signed when it is added")
	conn, err := pgx.Connect(s.ctx, s.OwnerURL)
	require.NoError(t, err)
	defer conn.Close(s.ctx)
	_, err = conn.Exec(s.ctx, `UPDATE release_signatures SET release = $1 WHERE release = $2`, s.canary, third)
	require.NoError(t, err)
	_, _, err = careful.TrustedRelease(s.ctx, svc, string(s.canary))
	requireKind(t, lifecycle.Refused, err)
}
