package registry

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// AddAPIKey stores a key, its hash and not its secret, with a ledger entry in each of its services. An undeclared
// service is NotFound, a name that a key in force has is Conflict.
func (r *Registry) AddAPIKey(ctx context.Context, key lifecycle.APIKey) (lifecycle.APIKey, error) {
	made, err := oneKey(r.pool.Query(ctx, `SELECT `+keyColumns+` FROM add_api_key($1, $2, $3, $4, $5, $6, $7, $8)`,
		key.ID, key.Name, key.Services, key.Hash, key.RequestsPerMinute, key.TokensPerMinute, timeOrNull(key.ExpiresAt), key.CreatedBy))
	return made, wrap(err, "add API key %s", key.Name)
}

// RevokeAPIKey ends a key for good. A key that was revoked before stays as it is; an unknown one is NotFound.
func (r *Registry) RevokeAPIKey(ctx context.Context, id string, by lifecycle.Actor, reason string) (lifecycle.APIKey, error) {
	key, err := oneKey(r.pool.Query(ctx, `SELECT `+keyColumns+` FROM revoke_api_key($1, $2, $3)`, id, by, reason))
	return key, wrap(err, "revoke API key %s", id)
}

// APIKeys lists keys, newest first: those of a service, or all where none is named.
func (r *Registry) APIKeys(ctx context.Context, service string) ([]lifecycle.APIKey, error) {
	rows, err := r.pool.Query(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE $1 = '' OR $1 = ANY (services) ORDER BY created_at DESC, id`, service)
	if err != nil {
		return nil, wrap(err, "list API keys")
	}
	keys, err := pgx.CollectRows(rows, scanKey)
	return keys, wrap(err, "list API keys")
}

// FollowKeys calls apply with the keys in force at once, and again whenever one was made or revoked, until ctx
// ends. It goes on through failures of the database by itself. Calls come one after another.
func (r *Registry) FollowKeys(ctx context.Context, apply func([]lifecycle.APIKey)) error {
	return FollowKeys(ctx, FollowConfig{URL: r.url}, apply)
}

// FollowKeys is Registry.FollowKeys with a configuration of its own.
func FollowKeys(ctx context.Context, config FollowConfig, apply func([]lifecycle.APIKey)) error {
	k := &keysLook{apply: apply}
	return follow(ctx, config, "refit_keys", "the API keys", k.look)
}

// keysLook reads all keys in force when one of them changed.
type keysLook struct {
	apply   func([]lifecycle.APIKey)
	applied int64 // generation; the database begins with 1
}

func (k *keysLook) look(ctx context.Context, conn *pgx.Conn) error {
	var generation int64
	if err := conn.QueryRow(ctx, `SELECT generation FROM api_key_changes`).Scan(&generation); err != nil {
		return wrap(err, "read the generation of the API keys")
	}
	if generation == k.applied {
		return nil
	}
	// What is read may be newer than the generation: then the next look reads it once more.
	rows, err := conn.Query(ctx, `SELECT `+keyColumns+` FROM api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY id`)
	if err != nil {
		return wrap(err, "read the API keys")
	}
	keys, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return wrap(err, "read the API keys")
	}
	k.applied = generation
	k.apply(keys)
	return nil
}

const keyColumns = `id, name, services, hash, requests_per_minute, tokens_per_minute, created_by, created_at, expires_at, revoked_at, revoked_by`

func oneKey(rows pgx.Rows, err error) (lifecycle.APIKey, error) {
	if err != nil {
		return lifecycle.APIKey{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanKey)
}

func scanKey(row pgx.CollectableRow) (k lifecycle.APIKey, err error) {
	var expires, revoked *time.Time
	err = row.Scan(&k.ID, &k.Name, &k.Services, &k.Hash, &k.RequestsPerMinute, &k.TokensPerMinute, &k.CreatedBy, &k.CreatedAt,
		&expires, &revoked, &k.RevokedBy)
	if expires != nil {
		k.ExpiresAt = *expires
	}
	if revoked != nil {
		k.RevokedAt = *revoked
	}
	return k, err
}
