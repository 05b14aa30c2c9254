package control_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry/registrytest"
)

func TestAKeysSecretIsShownOnce(t *testing.T) {
	w := newWorld(t)
	do(w, control.Apply, control.ApplyInput{Service: registrytest.Service(svc)})
	made := do(w, control.CreateKey, control.CreateKeyInput{Services: []string{svc, svc}, Name: "app", RequestsPerMinute: 60})
	id, _, ok := lifecycle.ReadAPIKey(made.Secret)
	require.True(t, ok)
	require.Equal(t, id, made.Key.ID)
	require.Equal(t, []string{svc}, made.Key.Services)
	require.Equal(t, "alice", made.Key.CreatedBy.Name)
	other := do(w, control.CreateKey, control.CreateKeyInput{Services: []string{svc}, Name: "other"})
	require.NotEqual(t, made.Secret, other.Secret)

	for _, seen := range []any{
		do(w, control.Keys, control.KeysInput{Service: svc}), do(w, control.Keys, control.KeysInput{}),
		do(w, control.Ledger, control.LedgerInput{Service: svc}), do(w, control.RevokeKey, control.RevokeKeyInput{ID: id, Reason: "leaked"}),
	} {
		raw, err := json.Marshal(seen)
		require.NoError(t, err)
		require.Contains(t, string(raw), id)
		require.NotContains(t, string(raw), made.Secret)
		require.NotContains(t, string(raw), `"hash"`)
	}
	found := do(w, control.RevokeKey, control.RevokeKeyInput{ID: other.Secret})
	require.Equal(t, other.Key.ID, found.ID, "a whole secret names its key, too")
	require.False(t, found.RevokedAt.IsZero())

	for name, in := range map[string]control.CreateKeyInput{
		"no service": {Name: "app"}, "no name": {Services: []string{svc}},
		"expired": {Name: "app", Services: []string{svc}, ExpiresAt: time.Now().Add(-time.Hour)},
	} {
		_, err := control.CreateKey.Do(w.ctx, w.control, as(control.Admin), in)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%s: %v", name, err)
	}
	_, err := control.Keys.Do(w.ctx, w.control, as(control.Viewer), control.KeysInput{Service: "nothing"})
	require.True(t, lifecycle.Is(err, lifecycle.NotFound))
}
