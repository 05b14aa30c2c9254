package control_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// anchors is what S3 has.
type anchors struct {
	list []lifecycle.Anchor
	err  error
}

func (a *anchors) Anchors(context.Context, string) ([]lifecycle.Anchor, error) { return a.list, a.err }

// anchored writes the ledger's head down.
func (w *world) anchored(a *anchors) {
	w.t.Helper()
	heads, err := w.Registry.LedgerHeads(w.ctx)
	require.NoError(w.t, err)
	for _, h := range heads {
		if h.Service == svc {
			a.list = append(a.list, lifecycle.Anchor{Service: svc, Epoch: h.Epoch, Sequence: h.Sequence, Chain: h.Chain, At: time.Now(), Locked: time.Now()})
		}
	}
}

func TestALedgerIsVerifiedAgainstItsAnchors(t *testing.T) {
	kept := &anchors{}
	w := newWorld(t, func(c *control.Config) { c.Anchors = kept })
	w.serve()
	w.anchored(kept)
	v := do(w, control.VerifyLedger, control.LedgerService{Service: svc})
	require.NoError(t, v.Err())
	require.Equal(t, v.Entries, v.Anchored)

	kept.err = errors.New("no way to S3")
	v = do(w, control.VerifyLedger, control.LedgerService{Service: svc})
	require.Empty(t, v.Faults)
	require.True(t, lifecycle.Is(v.Err(), lifecycle.Unavailable), "what could not be compared is not verified: %v", v.Err())
	kept.err = nil

	conn, err := pgx.Connect(w.ctx, w.OwnerURL)
	require.NoError(t, err)
	defer conn.Close(w.ctx)
	_, err = conn.Exec(w.ctx, `ALTER TABLE ledger DISABLE TRIGGER USER; UPDATE ledger SET actor = 'mallory' WHERE sequence = 2; ALTER TABLE ledger ENABLE TRIGGER USER`)
	require.NoError(t, err)
	v = do(w, control.VerifyLedger, control.LedgerService{Service: svc})
	require.True(t, lifecycle.Is(v.Err(), lifecycle.Corrupt))
	require.EqualValues(t, 2, v.Faults[0].Sequence)

	var all []lifecycle.Chained
	for after := int64(0); ; {
		page := do(w, control.ExportLedger, control.LedgerPage{Service: svc, After: after})
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		after = page[len(page)-1].Sequence
	}
	require.Len(t, all, int(v.Entries))
	refused(w, lifecycle.NotFound, control.VerifyLedger, control.LedgerService{Service: "nobody"})
}

func TestARestoredRegistryIsNoticedAndAdopted(t *testing.T) {
	kept := &anchors{}
	w := newWorld(t, func(c *control.Config) { c.Anchors = kept })
	stable, candidate, claim := w.serve()
	route := w.canary(candidate, claim, 500)
	w.report("g1", route)
	require.Empty(t, do(w, control.Status, control.StatusInput{Service: svc}).Restored)

	// The gateway and S3 know of more than this database does.
	ahead := route
	ahead.Generation += 5
	w.report("g1", ahead)
	w.anchored(kept)
	lost := kept.list[0]
	lost.Sequence += 9
	lost.Chain = lifecycle.DigestOf([]byte("lost"))
	kept.list = append(kept.list, lost)
	status := do(w, control.Status, control.StatusInput{Service: svc})
	require.Contains(t, status.Restored, "refit registry adopt "+svc)
	v := do(w, control.VerifyLedger, control.LedgerService{Service: svc})
	require.Equal(t, lifecycle.LedgerCut, v.Faults[0].Fault)

	refused(w, lifecycle.Invalid, control.Adopt, control.AdoptInput{Service: svc})
	adopted := do(w, control.Adopt, control.AdoptInput{Service: svc, Reason: "restored from last night"})
	require.Greater(t, adopted.Epoch, route.Epoch)
	require.Equal(t, stable, adopted.Stable)
	require.Empty(t, adopted.Canary)
	entries := do(w, control.Ledger, control.LedgerInput{Service: svc, Kinds: []lifecycle.LedgerKind{lifecycle.RegistryAdopted}})
	require.Len(t, entries, 1)
	require.Contains(t, string(entries[0].Evidence), string(lost.Chain), "what was lost is named")
	require.NoError(t, do(w, control.VerifyLedger, control.LedgerService{Service: svc}).Err())
	w.report("g1", adopted)
	require.Empty(t, do(w, control.Status, control.StatusInput{Service: svc}).Restored)
}

func TestWhatServedAtAMoment(t *testing.T) {
	w := newWorld(t)
	stable, candidate, claim := w.serve()
	now := func() time.Time { // by the database's clock, between two entries
		conn, err := pgx.Connect(w.ctx, w.AppURL)
		require.NoError(t, err)
		defer conn.Close(w.ctx)
		var at time.Time
		require.NoError(t, conn.QueryRow(w.ctx, "SELECT clock_timestamp()").Scan(&at))
		return at
	}
	served := func(at time.Time) lifecycle.ServedAt {
		return do(w, control.Served, control.ServedInput{Service: svc, At: at})
	}
	first := now()
	w.canary(candidate, claim, 500)
	trial := now()
	by := lifecycle.Actor{Name: "bob", Via: "ui"}
	require.NoError(t, w.Registry.AppendLedger(w.ctx, lifecycle.LedgerEntry{Service: svc, Kind: lifecycle.Approved, Actor: by, Reason: "looks good"}, ""))
	_, err := w.Registry.Promote(w.ctx, registry.Promotion{Service: svc, Fence: claim.Fence, Rollout: claim.Owner.FirstRunID, By: by, Reason: "all steps"})
	require.NoError(t, err)
	promoted := now()
	_, _, err = w.Registry.RollBack(w.ctx, registry.Rollback{Service: svc, By: by, Reason: "a bad night"})
	require.NoError(t, err)

	require.Empty(t, served(first.Add(-time.Hour)).Stable, "nothing served yet")
	at := served(first)
	require.Equal(t, stable, at.Stable)
	require.Empty(t, at.Canary)
	at = served(trial)
	require.Equal(t, stable, at.Stable)
	require.Equal(t, candidate, at.Canary)
	require.EqualValues(t, 500, at.Share)
	at = served(promoted)
	require.Equal(t, candidate, at.Stable)
	require.Empty(t, at.Canary)
	var kinds []lifecycle.LedgerKind
	for _, e := range at.Entries {
		kinds = append(kinds, e.Kind)
	}
	require.Subset(t, kinds, []lifecycle.LedgerKind{lifecycle.ReleaseAdded, lifecycle.RolloutStarted, lifecycle.ShareChanged, lifecycle.Approved, lifecycle.Promoted})
	require.Equal(t, stable, served(time.Time{}).Stable, "now, after the way back")

	bundle := do(w, control.Evidence, control.EvidenceInput{Service: svc, Release: string(candidate[:12])})
	require.Equal(t, candidate, bundle.ID)
	require.Equal(t, candidate, bundle.Release.ID())
	require.Len(t, bundle.Rollouts, 1)
	require.Equal(t, lifecycle.RolloutPromoted, bundle.Rollouts[0].Phase)
	kinds = nil
	for _, e := range bundle.Ledger {
		kinds = append(kinds, e.Kind)
	}
	require.Subset(t, kinds, []lifecycle.LedgerKind{lifecycle.ReleaseAdded, lifecycle.RolloutStarted, lifecycle.ShareChanged, lifecycle.Promoted, lifecycle.RolledBack})
	require.NotEmpty(t, bundle.Unread, "there is no S3 here, and it says so")
	require.NotEmpty(t, bundle.Head)
	refused(w, lifecycle.NotFound, control.Evidence, control.EvidenceInput{Service: svc, Release: "ffffffff"})
}
