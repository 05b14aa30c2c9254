package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestStableAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	r := w.do(func(r *http.Request) {
		r.Header.Set("X-Refit-Release", "forged")
		r.Header.Set("X-Refit-Conversation-Hash", "forged")
		r.Header.Set("Authorization", "Bearer of the client")
		r.Header.Set("X-Request-Id", "mine-1")
		r.Header.Set("Cookie", "secret")
	}, chatPath, chat("hello", 0), "")
	require.Equal(t, http.StatusOK, r.Code, r.Body.String())
	require.Contains(t, r.Body.String(), `"content":"hello"`)
	require.Equal(t, []string{string(w.stable.ID())}, r.Header().Values(headerRelease), "the model server's own header is not believed")
	require.NotEmpty(t, r.Header().Get(headerInteraction))
	require.NotEmpty(t, r.Header().Get(headerConversation))
	require.Empty(t, r.Header().Get("Server"))

	require.Equal(t, []string{w.stable.ServedName()}, w.upstream.asked())
	got := w.upstream.header[0]
	require.Equal(t, "mine-1", got.Get("X-Request-Id"))
	require.Len(t, got.Get(headerHash), 32)
	for _, name := range []string{"Authorization", "Cookie", "X-Refit-Release", "X-Refit-Conversation"} {
		require.Empty(t, got.Get(name), name)
	}
	i := w.captured.last(t)
	require.Equal(t, r.Header().Get(headerInteraction), i.ID)
	require.Equal(t, w.stable.ID(), i.Release)
	require.Equal(t, got.Get(headerHash), i.Conversation)
	require.Equal(t, "ok", i.Outcome)
	require.Equal(t, lifecycle.Usage{Prompt: 3, Completion: 1}, i.Usage)
	require.False(t, i.Canary)
	require.Empty(t, i.Input, "content is captured only where the service says so")
	require.Empty(t, i.Output)
}

func TestContentIsCapturedWhereTheServiceSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.store.change(func(s *store) { s.service.Capture.Content = "full" })
	require.Eventually(t, func() bool {
		w.ask(chatPath, chat("hello there", 0), "")
		i := w.captured.last(t)
		return i.Input == "hello there" && i.Output == "hello"
	}, 10*time.Second, 5*time.Millisecond)
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.MaxBody = 200 })
	for name, tc := range map[string]struct {
		path, body string
		status     int
		code       string
	}{
		"too long":           {chatPath, chat(strings.Repeat("x", 300), 0), http.StatusRequestEntityTooLarge, "request_too_large"},
		"not JSON":           {chatPath, `{"model":`, http.StatusBadRequest, "invalid_request"},
		"no model":           {chatPath, `{"messages":[]}`, http.StatusBadRequest, "invalid_request"},
		"unknown service":    {chatPath, `{"model":"other","messages":[{"role":"user","content":"x"}]}`, http.StatusNotFound, "model_not_found"},
		"no user message":    {chatPath, `{"model":"docs","messages":[]}`, http.StatusBadRequest, "invalid_request"},
		"no such path":       {"/v1/images", `{}`, http.StatusNotFound, "not_found"},
		"fault of feedback":  {"/v1/feedback", `{"interaction":"i","kind":"shrug"}`, http.StatusBadRequest, "invalid_request"},
		"misspelt feedback":  {"/v1/feedback", `{"interaction":"i","kind":"thumbs-up","reasn":"x"}`, http.StatusBadRequest, "invalid_request"},
		"correction without": {"/v1/feedback", `{"interaction":"i","kind":"correction"}`, http.StatusBadRequest, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.ask(tc.path, tc.body, "")
			require.Equal(t, tc.status, r.Code, r.Body.String())
			var said struct {
				Error struct{ Message, Type, Code string }
			}
			require.NoError(t, json.Unmarshal(r.Body.Bytes(), &said))
			require.Equal(t, tc.code, said.Error.Code)
			require.NotEmpty(t, said.Error.Message)
			require.NotEmpty(t, said.Error.Type)
		})
	}
	require.Empty(t, w.upstream.asked())
}

func TestModelServersOwnRefusalReachesTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"message":"max_tokens is too large","type":"invalid_request_error"}}`)
		return true
	})
	r := w.ask(chatPath, chat("hello", 0), "")
	require.Equal(t, http.StatusBadRequest, r.Code)
	require.Contains(t, r.Body.String(), "max_tokens is too large")
	require.Equal(t, http.StatusBadRequest, w.captured.last(t).Status)
	require.Equal(t, "error", w.captured.last(t).Outcome)
}

func TestModelsAndReadiness(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	get := func(path string) (int, string) {
		out := httptest.NewRecorder()
		w.handler.ServeHTTP(out, httptest.NewRequest(http.MethodGet, path, nil))
		return out.Code, out.Body.String()
	}
	status, body := get("/v1/models")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"id":"docs"`)
	status, body = get("/v1/models/docs")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `{"id":"docs","object":"model"`)
	status, body = get("/v1/models/other")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "model_not_found")
	status, body = get("/readyz")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, w.stable.ID().Short())
	status, _ = get("/healthz")
	require.Equal(t, http.StatusOK, status)

	w.gateway.mu.Lock()
	w.gateway.draining = true
	w.gateway.mu.Unlock()
	status, _ = get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
}

func TestEmbeddingsAreStables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9999)
	for i := range 40 { // enough credit for any chat to toss
		w.ask(chatPath, chat(fmt.Sprint("warm ", i), 0), "")
	}
	w.store.change(func(s *store) {
		for i := range s.endpoints {
			s.endpoints[i].Embedder = "embedder-of-" + s.endpoints[i].Release.Short()
		}
	})
	require.Eventually(t, func() bool {
		r := w.ask("/v1/embeddings", `{"model":"docs","input":"text"}`, "")
		return r.Code == http.StatusOK && r.release() == string(w.stable.ID())
	}, 10*time.Second, time.Millisecond)
	asked := w.upstream.asked()
	require.Equal(t, "embedder-of-"+w.stable.ID().Short(), asked[len(asked)-1])
}

func TestImagesCountAsChatsDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9000)
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		fmt.Fprint(w, `{"created":1,"data":[{"url":"http://127.0.0.1:1/never-fetched"}]}`)
		return true
	})
	before := w.counted()
	sides := map[bool]int{}
	for i := range 60 {
		body := fmt.Sprintf(`{"model":"docs","prompt":"a cat %d","image_url":"http://127.0.0.1:1/x"}`, i)
		r := w.ask("/v1/images/generations", body, "")
		require.Equal(t, http.StatusOK, r.Code, r.Body.String())
		sides[r.release() == string(w.canary.ID())]++
	}
	require.EqualValues(t, 60, w.counted()-before)
	require.Positive(t, sides[true], "the canary makes images")
	require.Positive(t, sides[false])
	require.Equal(t, "images", w.captured.last(t).Endpoint)
}

// serveTCP gives the handler a real listener, as streams and cancels need one.
func (w *world) serveTCP() string {
	server := httptest.NewServer(w.handler)
	w.t.Cleanup(server.Close)
	return server.URL
}

func TestStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	second := make(chan struct{})
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n")
		w.(http.Flusher).Flush()
		<-second
		fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
		return true
	})
	body := strings.Replace(chat("hello", 0), `"model"`, `"stream":true,"model"`, 1)
	response, err := http.Post(w.serveTCP()+chatPath, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	require.Equal(t, string(w.stable.ID()), response.Header.Get(headerRelease))
	lines := bufio.NewReader(response.Body)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, first, "one", "the first event arrives before the second is made")
	close(second)
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.Contains(t, string(rest), "two")
	require.True(t, strings.HasSuffix(string(rest), "data: [DONE]\n\n"))
}

func TestBrokenStreamIsNotEndedCleanly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	body := strings.Replace(chat("hello", 0), `"model"`, `"stream":true,"model"`, 1)
	response, err := http.Post(w.serveTCP()+chatPath, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	require.Error(t, err, "the client must see that the answer broke off")
	require.NotContains(t, string(said), "[DONE]")
}

func TestCancelReachesTheModelServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	arrived, gone := make(chan struct{}), make(chan struct{})
	w.upstream.behave(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		close(arrived)
		<-r.Context().Done()
		close(gone)
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.serveTCP()+chatPath, strings.NewReader(chat("hello", 0)))
	require.NoError(t, err)
	go func() { <-arrived; cancel() }()
	_, err = http.DefaultClient.Do(request)
	require.ErrorIs(t, err, context.Canceled)
	<-gone
	require.Eventually(t, func() bool {
		w.captured.mu.Lock()
		defer w.captured.mu.Unlock()
		return len(w.captured.interactions) == 1 && w.captured.interactions[0].Outcome == "canceled"
	}, 10*time.Second, time.Millisecond)
}
