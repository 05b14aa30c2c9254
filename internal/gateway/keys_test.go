package gateway

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// key makes an API key that the registry of the test knows, and gives what its client sends.
func (w *world) key(edit func(*lifecycle.APIKey)) (secret string, key lifecycle.APIKey) {
	w.t.Helper()
	secret, id, err := lifecycle.NewAPIKey((rand.Text() + rand.Text() + rand.Text())[:64])
	require.NoError(w.t, err)
	_, hash, ok := lifecycle.ReadAPIKey(secret)
	require.True(w.t, ok)
	key = lifecycle.APIKey{ID: id, Name: "app", Services: []string{"docs"}, Hash: hash[:]}
	if edit != nil {
		edit(&key)
	}
	w.store.change(func(s *store) { s.keys = append(append([]lifecycle.APIKey{}, s.keys...), key) })
	w.await(func() bool {
		known := w.gateway.keys.known.Load()
		return known != nil && (*known)[id] != nil
	})
	return secret, key
}

func (w *world) await(met func() bool) {
	w.t.Helper()
	require.Eventually(w.t, met, 10*time.Second, time.Millisecond)
}

func bearer(secret string) func(*http.Request) {
	return func(r *http.Request) {
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
	}
}

// fault reads an answer in the shape that OpenAI's clients read.
func (r reply) fault(t *testing.T) (kind, code string) {
	t.Helper()
	var said struct {
		Error struct {
			Message string
			Type    string
			Code    string
			Param   *string
		}
	}
	require.NoError(t, json.Unmarshal(r.Body.Bytes(), &said), r.Body.String())
	require.NotEmpty(t, said.Error.Message)
	return said.Error.Type, said.Error.Code
}

func required(c *Config) { c.Keys = KeysRequired }

func TestOnlyKeysInForceAreLetIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, required)
	secret, _ := w.key(nil)
	other, _ := w.key(func(k *lifecycle.APIKey) { k.Services = []string{"other"} })
	expired, _ := w.key(func(k *lifecycle.APIKey) { k.ExpiresAt = w.clock.Now().Add(time.Minute) })
	forged := secret[:16] + "_" + other[17:]
	w.clock.move(time.Minute)

	for name, tc := range map[string]struct {
		secret string
		status int
		code   string
	}{
		"a key":                        {secret, http.StatusOK, ""},
		"none":                         {"", http.StatusUnauthorized, "invalid_api_key"},
		"not a key":                    {"sk-anything", http.StatusUnauthorized, "invalid_api_key"},
		"expired":                      {expired, http.StatusUnauthorized, "invalid_api_key"},
		"a known ID, another's secret": {forged, http.StatusUnauthorized, "invalid_api_key"},
		"another service's":            {other, http.StatusNotFound, "model_not_found"},
	} {
		for path, body := range map[string]string{chatPath: chat("hi", 0), "/v1/feedback": `{"service":"docs","interaction":"int-aaaaaaaaaaaaaaaaaaaaaaaaaa","kind":"thumbs-up"}`} {
			got := w.do(bearer(tc.secret), path, body, "")
			if tc.status == http.StatusOK {
				require.Less(t, got.Code, 300, "%s at %s: %s", name, path, got.Body)
				continue
			}
			require.Equal(t, tc.status, got.Code, "%s at %s: %s", name, path, got.Body)
			_, code := got.fault(t)
			require.Equal(t, tc.code, code)
		}
	}
	require.Len(t, w.upstream.asked(), 1, "nobody else reached a model server")
	require.Equal(t, http.StatusUnauthorized, w.get("/v1/models").Code)
	require.Equal(t, "Bearer", w.get("/v1/models").Header().Get("WWW-Authenticate"))
	require.Equal(t, http.StatusOK, w.get("/healthz").Code)
	require.Equal(t, http.StatusOK, w.get("/readyz").Code)
	twice := w.do(func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer " + secret, "Bearer " + other} }, chatPath, chat("hi", 0), "")
	require.Equal(t, http.StatusUnauthorized, twice.Code)
}

func TestAKeyNamesTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Keys, c.ClientHeader = KeysRequired, "X-User" })
	secret, key := w.key(nil)
	require.Equal(t, http.StatusOK, w.do(bearer(secret), chatPath, chat("hi", 0), "").Code)
	alone := w.captured.last(t)
	require.Equal(t, key.ID, alone.Client)
	require.Equal(t, http.StatusOK, w.do(func(r *http.Request) { bearer(secret)(r); r.Header.Set("X-User", "vera") }, chatPath, chat("hi", 0), "").Code)
	behind := w.captured.last(t)
	require.NotEqual(t, alone.Client, behind.Client, "one key, two people")
	require.NotEqual(t, alone.Conversation, behind.Conversation)
	require.NotContains(t, behind.Client, "vera")
}

func TestARevokedKeyStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil) // also where keys are optional
	secret, _ := w.key(nil)
	require.Equal(t, http.StatusOK, w.do(bearer(secret), chatPath, chat("hi", 0), "").Code)
	w.store.change(func(s *store) { s.keys = nil })
	w.await(func() bool { return len(*w.gateway.keys.known.Load()) == 0 })
	require.Equal(t, http.StatusUnauthorized, w.do(bearer(secret), chatPath, chat("hi", 0), "").Code)
	require.Equal(t, http.StatusOK, w.do(bearer("sk-what-clients-insist-on"), chatPath, chat("hi", 0), "").Code)
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("hi", 0), "").Code)
}

func TestKnownKeysAreServedWithoutTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, required)
	secret, _ := w.key(nil)
	file := filepath.Join(w.config.StateDir, "api-keys.json")
	w.await(func() bool { raw, err := os.ReadFile(file); return err == nil && json.Valid(raw) && len(raw) > 50 })
	w.stop()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotContains(t, string(raw), secret[17:], "the secret stands on disk")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	w.store.change(func(s *store) { s.down = true })
	w.start()
	w.await(func() bool {
		l := w.gateway.lane("docs")
		return l != nil && func() bool { _, ok := l.ready(); return ok }()
	})
	require.Equal(t, http.StatusOK, w.do(bearer(secret), chatPath, chat("hi", 0), "").Code)
	require.Equal(t, http.StatusUnauthorized, w.ask(chatPath, chat("hi", 0), "").Code)
	w.stop()

	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	w.start()
	got := w.do(bearer(secret), chatPath, chat("hi", 0), "")
	require.Equal(t, http.StatusServiceUnavailable, got.Code, "not knowing is no answer")
	require.Equal(t, "2", got.Header().Get("Retry-After"))
	require.Equal(t, http.StatusServiceUnavailable, w.get("/readyz").Code)
}

func TestAKeysRequestsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, required)
	secret, _ := w.key(func(k *lifecycle.APIKey) { k.RequestsPerMinute = 2 })
	free, _ := w.key(nil)
	ask := func(secret string) reply { return w.do(bearer(secret), chatPath, chat("hi", 0), "") }
	first := ask(secret)
	require.Equal(t, http.StatusOK, first.Code)
	require.Equal(t, "2", first.Header().Get("x-ratelimit-limit-requests"))
	require.Equal(t, "1", first.Header().Get("x-ratelimit-remaining-requests"))
	require.Equal(t, http.StatusBadRequest, w.do(bearer(secret), chatPath, "no JSON", "").Code, "what cannot be answered counts, too")
	over := ask(secret)
	require.Equal(t, http.StatusTooManyRequests, over.Code)
	kind, code := over.fault(t)
	require.Equal(t, []string{"requests", "rate_limit_exceeded"}, []string{kind, code})
	require.Equal(t, "0", over.Header().Get("x-ratelimit-remaining-requests"))
	wait, err := time.ParseDuration(over.Header().Get("Retry-After") + "s")
	require.NoError(t, err)
	reset, err := time.ParseDuration(over.Header().Get("x-ratelimit-reset-requests"))
	require.NoError(t, err)
	require.LessOrEqual(t, reset, wait)
	unlimited := ask(free)
	require.Equal(t, http.StatusOK, unlimited.Code, "another key's limit is its own")
	require.Empty(t, unlimited.Header().Get("x-ratelimit-limit-requests"))
	w.clock.move(wait)
	require.Equal(t, http.StatusOK, ask(secret).Code)
	require.Len(t, w.upstream.asked(), 3)
}

func TestAKeysTokensAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, required)
	w.upstream.behave(func(out http.ResponseWriter, _ *http.Request, model string) bool {
		out.Header().Set("Content-Type", "application/json")
		_, _ = out.Write([]byte(`{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":40,"completion_tokens":60}}`))
		return true
	})
	secret, _ := w.key(func(k *lifecycle.APIKey) { k.TokensPerMinute = 110 })
	ask := func(words string) reply { return w.do(bearer(secret), chatPath, chat(words, 0), "") }
	first := ask("hi")
	require.Equal(t, http.StatusOK, first.Code)
	require.Equal(t, "110", first.Header().Get("x-ratelimit-limit-tokens"))
	over := ask("hi")
	require.Equal(t, http.StatusTooManyRequests, over.Code, "the model server counted 100")
	kind, _ := over.fault(t)
	require.Equal(t, "tokens", kind)
	require.NotEmpty(t, over.Header().Get("Retry-After"))
	large := ask(string(make([]byte, 4000)))
	require.Equal(t, http.StatusTooManyRequests, large.Code)
	require.Empty(t, large.Header().Get("Retry-After"), "trying again does not help")
	w.clock.move(62 * time.Second)
	require.Equal(t, http.StatusOK, ask("hi").Code)
}
