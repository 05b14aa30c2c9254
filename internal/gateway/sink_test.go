package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestTheEndOfAnAnswerIsHeld(t *testing.T) {
	t.Parallel()
	send := func(s *sink, pieces ...string) {
		for _, p := range pieces {
			_, err := s.Write([]byte(p))
			require.NoError(t, err)
			require.NoError(t, s.Flush())
		}
	}
	begin := func(contentType string) (*sink, *httptest.ResponseRecorder) {
		w := httptest.NewRecorder()
		s := &sink{patience: patience{w: w}, own: [3]field{{headerRelease, []string{"r"}}}}
		s.Start(http.StatusOK, http.Header{"Content-Type": {contentType}})
		return s, w
	}
	t.Run("of a stream", func(t *testing.T) {
		s, w := begin("text/event-stream")
		send(s, "data: a\n\n", "data: [DONE]\n\n")
		require.Equal(t, "data: a\n\n", w.Body.String())
		require.True(t, w.Flushed)
		s.release()
		require.Equal(t, "data: a\n\ndata: [DONE]\n\n", w.Body.String())
	})
	t.Run("what only looks like it goes out with what follows", func(t *testing.T) {
		s, w := begin("text/event-stream; charset=utf-8")
		send(s, `data: {"text":"[DONE]"}`+"\n\n")
		require.Empty(t, w.Body.String())
		send(s, "data: b\n\n")
		require.Equal(t, `data: {"text":"[DONE]"}`+"\n\ndata: b\n\n", w.Body.String())
	})
	t.Run("of an answer that is no stream", func(t *testing.T) {
		s, w := begin("application/json")
		send(s, `{"a":`, `1}`)
		require.Empty(t, w.Body.String())
		require.False(t, w.Flushed)
		s.release()
		require.Equal(t, `{"a":1}`, w.Body.String())
		require.Equal(t, "7", w.Header().Get("Content-Length"))
		require.Equal(t, "r", w.Header().Get(headerRelease))
	})
}

// watchful looks at what the client has when an interaction is handed on.
type watchful struct {
	captured
	look func(lifecycle.Interaction)
}

func (c *watchful) Interaction(i lifecycle.Interaction) {
	c.look(i)
	c.captured.Interaction(i)
}

func TestARecordIsKeptBeforeItsAnswerEnds(t *testing.T) {
	t.Parallel()
	var out *httptest.ResponseRecorder
	looked := 0
	capture := &watchful{look: func(lifecycle.Interaction) {
		looked++
		require.NotContains(t, out.Body.String(), "[DONE]")
		require.NotContains(t, out.Body.String(), `"finish_reason":"stop"}],"usage"`)
		require.NotContains(t, out.Body.String(), "error")
	}}
	w := newWorld(t, func(c *Config) { c.Capture = capture })
	ask := func(body string) string {
		out = httptest.NewRecorder()
		w.handler.ServeHTTP(out, httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(body)))
		return out.Body.String()
	}
	require.Contains(t, ask(chat("hello", 0)), "hello")
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		_, err := w.Write([]byte(`data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"))
		return err == nil
	})
	require.True(t, strings.HasSuffix(ask(strings.Replace(chat("hello", 0), "{", `{"stream":true,`, 1)), "data: [DONE]\n\n"))
	w.upstream.behave(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	require.Contains(t, ask(chat("hello", 0)), "error")
	require.Equal(t, 3, looked)
	require.Equal(t, 3, capture.arrived)
	require.Zero(t, capture.shed)
}
