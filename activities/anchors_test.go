package activities_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/lifecycle"
)

func TestHeadsOfLedgersAreAnchoredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	a := activities.Anchors{Registry: w.Registry, Store: w.Store, Lock: time.Minute}
	done := map[string]lifecycle.Anchor{}
	for range 2 {
		require.NoError(t, a.Anchor(t.Context(), done))
	}
	require.NoError(t, a.Anchor(t.Context(), map[string]lifecycle.Anchor{}), "another worker does it, too")
	list, err := w.Store.Anchors(t.Context(), "docs")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NoError(t, w.Registry.AppendLedger(t.Context(), lifecycle.LedgerEntry{Service: "docs", Kind: lifecycle.Paused}, ""))
	require.NoError(t, a.Anchor(t.Context(), done))
	list, err = w.Store.Anchors(t.Context(), "docs")
	require.NoError(t, err)
	require.Len(t, list, 2)
	audit, err := lifecycle.AuditLedger("docs", w.Registry.LedgerChain(t.Context(), "docs", 0), lifecycle.NotCounted, list)
	require.NoError(t, err)
	require.NoError(t, audit.Err())
	require.Equal(t, audit.Entries, audit.Anchored)
	require.Zero(t, audit.Unlocked)
}
