package control

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// CreateKeyInput says whose key it is and what it may do.
type CreateKeyInput struct {
	Services          []string  `json:"services"`
	Name              string    `json:"name"` // of the client; one key in force has it
	RequestsPerMinute int64     `json:"requests_per_minute,omitempty"`
	TokensPerMinute   int64     `json:"tokens_per_minute,omitempty"`
	ExpiresAt         time.Time `json:"expires_at,omitzero"`
}

// CreatedKey holds the secret, the only time that it can be seen.
type CreatedKey struct {
	Secret string           `json:"secret"`
	Key    lifecycle.APIKey `json:"key"`
}

// CreateKey makes an API key for a client of the data plane.
var CreateKey = UseCase[CreateKeyInput, CreatedKey]{"create-key", Admin, (*Control).createKey}

func (c *Control) createKey(ctx context.Context, caller Caller, in CreateKeyInput) (CreatedKey, error) {
	secret, id, err := lifecycle.NewAPIKey((rand.Text() + rand.Text() + rand.Text())[:64])
	if err != nil {
		return CreatedKey{}, err
	}
	_, hash, _ := lifecycle.ReadAPIKey(secret)
	services := slices.Clone(in.Services)
	slices.Sort(services)
	key := lifecycle.APIKey{
		ID: id, Name: in.Name, Services: slices.Compact(services), RequestsPerMinute: in.RequestsPerMinute,
		TokensPerMinute: in.TokensPerMinute, CreatedBy: caller.actor(), ExpiresAt: in.ExpiresAt, Hash: hash[:],
	}
	if err := key.Check(c.cfg.Now()); err != nil {
		return CreatedKey{}, err
	}
	made, err := c.cfg.Registry.AddAPIKey(ctx, key)
	if err != nil {
		return CreatedKey{}, err
	}
	return CreatedKey{Secret: secret, Key: shown(made)}, nil
}

// KeysInput asks for the keys of a service, or for all.
type KeysInput struct {
	Service string `json:"service,omitempty"`
}

// Keys lists API keys, newest first, without what would let anybody in.
var Keys = UseCase[KeysInput, []lifecycle.APIKey]{"keys", Viewer, (*Control).keys}

func (c *Control) keys(ctx context.Context, _ Caller, in KeysInput) ([]lifecycle.APIKey, error) {
	if in.Service != "" {
		if _, err := c.cfg.Registry.ServiceVersion(ctx, in.Service); err != nil {
			return nil, err
		}
	}
	keys, err := c.cfg.Registry.APIKeys(ctx, in.Service)
	for i := range keys {
		keys[i] = shown(keys[i])
	}
	return keys, err
}

// RevokeKeyInput names a key by its ID.
type RevokeKeyInput struct {
	ID     string `json:"id"`
	Reason string `json:"reason,omitempty"`
}

// RevokeKey ends a key for good. Whoever is on call may do that: a leaked key cannot wait.
var RevokeKey = UseCase[RevokeKeyInput, lifecycle.APIKey]{"revoke-key", Operator, (*Control).revokeKey}

func (c *Control) revokeKey(ctx context.Context, caller Caller, in RevokeKeyInput) (lifecycle.APIKey, error) {
	id := in.ID
	if read, _, ok := lifecycle.ReadAPIKey(id); ok {
		id = read // a whole secret was given, as it was found somewhere
	}
	key, err := c.cfg.Registry.RevokeAPIKey(ctx, id, caller.actor(), in.Reason)
	return shown(key), err
}

// shown is a key as people see it.
func shown(k lifecycle.APIKey) lifecycle.APIKey {
	k.Hash = nil
	return k
}
