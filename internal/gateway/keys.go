package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// Whether a gateway asks for API keys; see Config.Keys.
const (
	KeysRequired = "required"
	KeysOptional = "optional"
)

// caller is a client by its API key, with what it used of its limits at this gateway. A nil caller is a client
// without a key where none is required: it may ask every service and has no limits.
type caller struct {
	key      lifecycle.APIKey
	owner    string  // of its interactions
	requests *window // nil: no limit
	tokens   *window // nil: no limit
}

// keyring is the keys in force. Safe for concurrent use.
type keyring struct {
	signer   signer
	required bool
	now      func() time.Time
	started  time.Time
	file     string // where a restart without the registry finds them
	log      *slog.Logger
	known    atomic.Pointer[map[string]*caller] // by ID; nil: not known yet
}

func newKeyring(c Config, s signer, started time.Time) *keyring {
	k := &keyring{
		signer: s, required: c.Keys == KeysRequired, now: c.Now, started: started,
		file: filepath.Join(c.StateDir, "api-keys.json"), log: c.Log,
	}
	k.restore()
	return k
}

// follow keeps the keys as the registry has them until ctx ends. Calls of set come one after another.
func (k *keyring) follow(ctx context.Context, store Store) {
	for {
		err := store.FollowKeys(ctx, k.set)
		if ctx.Err() != nil {
			return
		}
		k.log.ErrorContext(ctx, "the API keys are not followed; trying again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// set takes all keys in force, and keeps them on disk. What a key used of its limits goes on counting.
func (k *keyring) set(keys []lifecycle.APIKey) {
	k.take(keys)
	raw, err := json.Marshal(savedKeys{Version: savedVersion, Keys: keys})
	if err == nil {
		err = replaceFile(k.file, raw)
	}
	if err != nil {
		k.log.Error("the API keys could not be kept on disk", "error", err)
	}
	k.log.Info("API keys", "in_force", len(keys))
}

func (k *keyring) take(keys []lifecycle.APIKey) {
	before := k.known.Load()
	known := make(map[string]*caller, len(keys))
	for _, key := range keys {
		if before != nil && (*before)[key.ID] != nil {
			known[key.ID] = (*before)[key.ID] // a key never changes: it is made and revoked
			continue
		}
		c := &caller{key: key, owner: k.signer.owner(key.ID)}
		if key.RequestsPerMinute > 0 {
			c.requests = &window{limit: key.RequestsPerMinute}
		}
		if key.TokensPerMinute > 0 {
			c.tokens = &window{limit: key.TokensPerMinute}
		}
		known[key.ID] = c
	}
	k.known.Store(&known)
}

// savedKeys is what stands on disk: hashes, no secret.
type savedKeys struct {
	Version int                `json:"version"`
	Keys    []lifecycle.APIKey `json:"keys"`
}

// restore begins with the keys that this gateway knew last. Without a file that can be read none is known, which
// is not the same as that there is none.
func (k *keyring) restore() {
	raw, err := os.ReadFile(k.file)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var saved savedKeys
	if err == nil {
		err = json.Unmarshal(raw, &saved)
	}
	if err == nil && saved.Version != savedVersion {
		err = lifecycle.Errorf(lifecycle.Corrupt, "version %d is not known", saved.Version)
	}
	if err != nil {
		k.log.Warn("the API keys on disk cannot be read; waiting for the registry", "file", k.file, "error", err)
		return
	}
	k.take(saved.Keys)
}

// ready says whether a client with a key could be let in.
func (k *keyring) ready() bool { return !k.required || k.known.Load() != nil }

// since is the time that limits are counted on; the clock's monotonic part decides.
func (k *keyring) since() time.Duration { return k.now().Sub(k.started) }

// enter says who asks and counts the request, before a byte of the body is read.
func (k *keyring) enter(w http.ResponseWriter, r *http.Request) (*caller, *problem) {
	c, p := k.identify(r.Header)
	if p != nil || c == nil || c.requests == nil {
		return c, p
	}
	q, ok := c.requests.take(k.since(), 1)
	c.requests.show(w.Header(), "Requests", q)
	if !ok {
		p := overLimit("requests", c.requests.limit, q)
		return nil, &p
	}
	return c, nil
}

// identify finds the key. A credential that has not the form of one of Refit's keys is, where none is required,
// what OpenAI's clients insist on sending.
func (k *keyring) identify(header http.Header) (*caller, *problem) {
	values := header["Authorization"]
	secret := ""
	if len(values) == 1 {
		scheme, credential, _ := strings.Cut(values[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			secret = strings.TrimSpace(credential)
		}
	}
	if !k.required && !strings.HasPrefix(secret, lifecycle.APIKeyPrefix) {
		return nil, nil
	}
	known := k.known.Load()
	if known == nil {
		p := keysUnknown()
		return nil, &p
	}
	id, hash, ok := lifecycle.ReadAPIKey(secret)
	c := (*known)[id] // the ID is no secret, so how long this takes may be seen
	if !ok || c == nil || !sameHash(c.key.Hash, hash) || !c.key.ExpiresAt.IsZero() && !k.now().Before(c.key.ExpiresAt) {
		p := unauthorized(len(values) > 0)
		return nil, &p
	}
	return c, nil
}

func sameHash(known []byte, given [sha256.Size]byte) bool {
	return subtle.ConstantTimeCompare(known, given[:]) == 1
}

// id is the key's ID; "" without a key.
func (c *caller) id() string {
	if c == nil {
		return ""
	}
	return c.key.ID
}

// owns gives the owner of the client's interactions; "" without a key.
func (c *caller) owns() string {
	if c == nil {
		return ""
	}
	return c.owner
}

// may says whether the client may ask a service.
func (c *caller) may(service string) bool {
	return c == nil || slices.Contains(c.key.Services, service)
}

// bytesPerToken is how a request's tokens are guessed before a model server counted them.
const bytesPerToken = 4

// spending is what one request takes of its key's tokens.
type spending struct {
	window   *window // nil: no limit
	reserved int64
}

// reserve holds what a request of that length is likely to cost.
func (k *keyring) reserve(w http.ResponseWriter, c *caller, bytes int) (spending, *problem) {
	if c == nil || c.tokens == nil {
		return spending{}, nil
	}
	n := guessTokens(bytes)
	q, ok := c.tokens.reserve(k.since(), n)
	c.tokens.show(w.Header(), "Tokens", q)
	if !ok {
		p := overLimit("tokens", c.tokens.limit, q)
		return spending{}, &p
	}
	return spending{window: c.tokens, reserved: n}, nil
}

// settle counts what was really used: as the model server counted, and where it did not get to that (the client
// left, or the server does not say) what the request's and the answer's length let expect. What no model server
// worked on costs nothing.
func (k *keyring) settle(s spending, result *answer.Result) {
	if s.window == nil {
		return
	}
	if result == nil {
		result = &answer.Result{}
	}
	was := int64(result.Usage.Prompt) + int64(result.Usage.Completion)
	if was <= 0 && (result.Started || result.Outcome == answer.OutcomeCanceled) {
		was = s.reserved + guessTokens(len(result.Output))
	}
	s.window.settle(k.since(), s.reserved, was)
}

func guessTokens(bytes int) int64 { return int64(bytes+bytesPerToken-1) / bytesPerToken }

// refuseCaller turns a client away, and counts it without a word of what it said.
func (g *Gateway) refuseCaller(w http.ResponseWriter, p problem) {
	g.metrics.shed.WithLabelValues("", p.code).Inc()
	p.write(w)
}
