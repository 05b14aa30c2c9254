package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// The memory of requests is used again for others: no server, shadow or record may ever see one in another's place, also where
// a server answers before it has read, or a client leaves while it is read.
func TestARequestIsNeverMixedWithAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.store.change(func(s *store) {
		s.service.Capture = lifecycle.CapturePolicy{Content: "full"}
		s.service = s.service.WithDefaults()
	})
	w.await(func() bool { return w.gateway.lane("docs").texts() != nil })
	var mixed, hasty atomic.Int64
	words := func(text string) bool { // all of a prompt's words are one
		fields := strings.Fields(text)
		for _, f := range fields {
			if f != fields[0] {
				return false
			}
		}
		return len(fields) > 0
	}
	model := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		if hasty.Add(1)%5 > 0 {
			var said struct {
				Messages []struct{ Content string }
			}
			raw, err := io.ReadAll(r.Body)
			if err == nil && (json.Unmarshal(raw, &said) != nil || len(said.Messages) != 1 || !words(said.Messages[0].Content)) {
				mixed.Add(1)
			}
		}
		fmt.Fprint(out, `{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}`)
	}))
	t.Cleanup(model.Close)
	w.store.change(func(s *store) {
		for i := range s.endpoints {
			s.endpoints[i].URL = model.URL
		}
	})
	w.await(func() bool { return w.servers()[0].URL == model.URL })
	front := httptest.NewServer(w.handler)
	t.Cleanup(front.Close)
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for n := range 40 {
				word := fmt.Sprintf("word-%d-%d ", c, n)
				body := fmt.Sprintf(`{"model":"docs","messages":[{"role":"user","content":%q}]}`, strings.Repeat(word, 1+(n*977)%9000))
				ctx, leave := context.WithCancel(t.Context())
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, front.URL+chatPath, strings.NewReader(body))
				if err != nil {
					t.Error(err)
				}
				if n%7 == 6 {
					go leave()
				}
				if answer, err := front.Client().Do(r); err == nil {
					_, _ = io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
				leave()
			}
		})
	}
	clients.Wait()
	require.Zero(t, mixed.Load())
	w.captured.mu.Lock()
	defer w.captured.mu.Unlock()
	require.NotEmpty(t, w.captured.interactions)
	for _, i := range w.captured.interactions {
		last := strings.LastIndexByte(i.Input, ' ') // what was cut ends within a word
		require.True(t, words(i.Input[:max(last, 0)]+" "+strings.Fields(i.Input)[0]), "%.80s", i.Input)
	}
}
