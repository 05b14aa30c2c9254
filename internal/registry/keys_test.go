package registry_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

func newKey(t *testing.T, name string, services ...string) lifecycle.APIKey {
	t.Helper()
	secret, id, err := lifecycle.NewAPIKey((rand.Text() + rand.Text() + rand.Text())[:64])
	require.NoError(t, err)
	_, hash, ok := lifecycle.ReadAPIKey(secret)
	require.True(t, ok)
	return lifecycle.APIKey{ID: id, Name: name, Services: services, Hash: hash[:], RequestsPerMinute: 60, TokensPerMinute: 1000, CreatedBy: alice}
}

func TestAKeysLifeStandsInTheLedger(t *testing.T) {
	s := newStage(t)
	before := len(s.kinds())
	key := newKey(t, "app", svc)
	key.ExpiresAt = time.Now().Add(time.Hour).Truncate(time.Microsecond)
	made, err := s.Registry.AddAPIKey(s.ctx, key)
	require.NoError(t, err)
	require.Equal(t, key.Hash, made.Hash)
	require.True(t, key.ExpiresAt.Equal(made.ExpiresAt))
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Hour)

	_, err = s.Registry.AddAPIKey(s.ctx, newKey(t, "app", svc))
	requireKind(t, lifecycle.Conflict, err)
	_, err = s.Registry.AddAPIKey(s.ctx, newKey(t, "other", svc, "nothing"))
	requireKind(t, lifecycle.NotFound, err)
	_, err = s.Registry.RevokeAPIKey(s.ctx, "rfk_aaaaaaaaaaaa", alice, "")
	requireKind(t, lifecycle.NotFound, err)

	bob := lifecycle.Actor{Name: "bob", Via: "cli"}
	gone, err := s.Registry.RevokeAPIKey(s.ctx, key.ID, bob, "leaked")
	require.NoError(t, err)
	require.Equal(t, &bob, gone.RevokedBy)
	again, err := s.Registry.RevokeAPIKey(s.ctx, key.ID, alice, "again")
	require.NoError(t, err)
	require.Equal(t, gone, again, "revoking again changes nothing")
	_, err = s.Registry.AddAPIKey(s.ctx, newKey(t, "app", svc))
	require.NoError(t, err, "the name is free again")

	entries, err := s.Registry.Ledger(s.ctx, registry.LedgerQuery{Service: svc, After: int64(before)})
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.KeyCreated, lifecycle.KeyRevoked, lifecycle.KeyCreated}, s.kinds()[before:])
	require.Equal(t, key.ID, entries[0].Subject)
	require.Equal(t, "leaked", entries[1].Reason)
	require.Equal(t, bob, entries[1].Actor)
	require.NotContains(t, string(entries[0].Evidence), "hash")

	list, err := s.Registry.APIKeys(s.ctx, svc)
	require.NoError(t, err)
	require.Len(t, list, 2)
	none, err := s.Registry.APIKeys(s.ctx, "other")
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestKeysChangeOnlyThroughFunctions(t *testing.T) {
	s := newStage(t)
	key, err := s.Registry.AddAPIKey(s.ctx, newKey(t, "app", svc))
	require.NoError(t, err)
	for _, statement := range []string{
		`UPDATE api_keys SET revoked_at = NULL`, `DELETE FROM api_keys`, `UPDATE api_key_changes SET generation = 0`,
		`INSERT INTO api_keys SELECT * FROM api_keys`, `SELECT tell_keys_changed()`,
	} {
		require.ErrorContains(t, s.as(s.AppURL, statement), "42501", statement)
	}
	require.ErrorContains(t, s.as(s.RollbackURL, `SELECT revoke_api_key('`+key.ID+`', '{}', '')`), "42501")
}

func TestFollowersHearOfKeysAtOnce(t *testing.T) {
	s := newStage(t)
	ctx, cancel := context.WithCancel(context.Background())
	seen, ended := make(chan []lifecycle.APIKey, 100), make(chan error, 1)
	go func() {
		ended <- registry.FollowKeys(ctx, registry.FollowConfig{URL: s.AppURL, Poll: time.Hour}, func(k []lifecycle.APIKey) { seen <- k })
	}()
	t.Cleanup(func() { cancel(); require.ErrorIs(t, <-ended, context.Canceled) })
	require.Empty(t, await(t, seen))
	key, err := s.Registry.AddAPIKey(s.ctx, newKey(t, "app", svc))
	require.NoError(t, err)
	require.Equal(t, []lifecycle.APIKey{key}, await(t, seen))
	_, err = s.Registry.RevokeAPIKey(s.ctx, key.ID, alice, "")
	require.NoError(t, err)
	require.Empty(t, await(t, seen))
	_, err = s.Registry.AddAPIKey(s.ctx, newKey(t, strings.Repeat("a", 63), svc))
	require.NoError(t, err)
	require.Len(t, await(t, seen), 1)
}
