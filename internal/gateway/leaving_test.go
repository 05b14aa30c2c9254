package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// streamed is chat as a stream.
func streamed(words string) string { return strings.Replace(chat(words, 0), `{`, `{"stream":true,`, 1) }

const oneChunk = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n"

// A client that leaves stops the model at once, wherever the answer is. The best of several tries is measured,
// because a busy machine makes single ones slow.
func TestAClientThatLeavesStopsTheModelWithin200ms(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body  string
		begin string // what the model server says before the client leaves
	}{
		"before the first token":     {streamed("hello"), ""},
		"in the middle of a stream":  {streamed("hello"), oneChunk},
		"an answer that comes whole": {chat("hello", 0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			url := w.serveTCP()
			arrived, stopped := make(chan struct{}), make(chan time.Time)
			w.upstream.behave(func(w http.ResponseWriter, r *http.Request, _ string) bool {
				if tc.begin != "" {
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprint(w, tc.begin)
					w.(http.Flusher).Flush()
				}
				arrived <- struct{}{}
				<-r.Context().Done()
				stopped <- time.Now()
				return true
			})
			best := time.Hour
			for range 5 {
				ctx, leave := context.WithCancel(t.Context())
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+chatPath, strings.NewReader(tc.body))
				require.NoError(t, err)
				ended := make(chan error, 1)
				go func() {
					response, err := http.DefaultClient.Do(request)
					if err == nil {
						_, err = io.ReadAll(response.Body)
						response.Body.Close()
					}
					ended <- err
				}()
				<-arrived
				left := time.Now()
				leave()
				best = min(best, (<-stopped).Sub(left))
				require.Error(t, <-ended)
			}
			require.Less(t, best, 200*time.Millisecond)
			t.Logf("the model server was stopped after %s", best)
			require.Eventually(t, func() bool {
				w.captured.mu.Lock()
				defer w.captured.mu.Unlock()
				return len(w.captured.interactions) == 5
			}, 10*time.Second, time.Millisecond)
			for _, i := range w.captured.interactions {
				require.Equal(t, "canceled", i.Outcome)
				require.Equal(t, 499, i.Status)
			}
		})
	}
}

func TestAnErrorBeforeTheFirstChunkHasItsStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	url := w.serveTCP()
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter)
		status int
		says   string
	}{
		"the model server is broken": {func(w http.ResponseWriter) { w.WriteHeader(500) }, 503, "upstream_unavailable"},
		"it says so in its stream": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, ": hello\n\ndata: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n")
		}, 503, "upstream_unavailable"},
		"the stream ends before it began": {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/event-stream") }, 503, "upstream_unavailable"},
		"it is too much for the model": {func(w http.ResponseWriter) {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`)
		}, 400, `"param":"messages"`},
		"a code that is a number": {func(w http.ResponseWriter) {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}`)
		}, 400, `"code":"invalid_request"`},
		"a fault in another shape": {func(w http.ResponseWriter) {
			w.WriteHeader(422)
			fmt.Fprint(w, `{"detail":[{"loc":["body","n"]}]}`)
		}, 422, "refused"},
	} {
		w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool { tc.answer(w); return true })
		response, err := http.Post(url+chatPath, "application/json", strings.NewReader(streamed("hello")))
		require.NoError(t, err, name)
		said, err := io.ReadAll(response.Body)
		response.Body.Close()
		require.NoError(t, err, name)
		require.Equal(t, tc.status, response.StatusCode, "%s: %s", name, said)
		require.Equal(t, "application/json", response.Header.Get("Content-Type"), name)
		require.Contains(t, string(said), tc.says, name)
		require.Contains(t, string(said), `"error":{`, name)
	}
}

// Whatever way a model server breaks off, no client takes what came for a whole answer.
func TestWhatBreaksOffIsNotEndedCleanly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	url := w.serveTCP()
	for name, tc := range map[string]struct {
		body   string
		answer string
	}{
		"a stream between events":      {streamed("x"), "Content-Type: text/event-stream\r\n\r\n" + oneChunk},
		"a stream inside an event":     {streamed("x"), "Content-Type: text/event-stream\r\n\r\n" + oneChunk + "data: {\"cho"},
		"a stream that says its end":   {streamed("x"), "Content-Type: text/event-stream\r\nConnection: close\r\n\r\n" + oneChunk},
		"a stream of a failure":        {streamed("x"), "Content-Type: text/event-stream\r\nConnection: close\r\n\r\n" + oneChunk + "data: {\"error\":{\"message\":\"m\"}}\n\ndata: [DONE]\n\n"},
		"an answer that comes whole":   {chat("x", 0), "Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":[{\"index\":0,"},
		"an answer cut without length": {chat("x", 0), "Content-Type: application/json\r\nConnection: close\r\n\r\n{\"choices\":[{\"index\":0,"},
	} {
		w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n"+tc.answer)
				conn.Close()
			}
			return true
		})
		response, err := http.Post(url+chatPath, "application/json", strings.NewReader(tc.body))
		require.NoError(t, err, name)
		said, err := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			require.Error(t, err, "%s: the client must see that the answer broke off", name)
		} else {
			require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, name)
		}
		require.NotContains(t, string(said), "[DONE]", name)
		require.Equal(t, "error", w.captured.last(t).Outcome, name)
	}
}
