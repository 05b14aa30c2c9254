package gateway

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// openAI is a model server as the official clients expect one. What it does goes by the prompt.
func openAI(left *atomic.Int64) func(w http.ResponseWriter, r *http.Request, body string) {
	const head = `{"id":"c","object":"chat.completion","created":1,"model":"m",`
	const usage = `"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`
	event := func(w http.ResponseWriter, choices, more string) {
		fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[%s]%s}\r\n\r\n", choices, more)
		w.(http.Flusher).Flush()
	}
	call := func(arguments string) string {
		return `"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"weather","arguments":` + arguments + `}}]`
	}
	return func(w http.ResponseWriter, r *http.Request, body string) {
		stream := strings.Contains(body, `"stream":true`) || strings.Contains(body, `"stream": true`)
		kind := "application/json"
		if stream {
			kind = "text/event-stream"
		}
		w.Header().Set("Content-Type", kind)
		switch {
		case r.URL.Path == "/v1/embeddings":
			fmt.Fprint(w, `{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[1,0.5]},{"object":"embedding","index":1,"embedding":[0,1]}],"usage":{"prompt_tokens":2,"total_tokens":2}}`)
		case r.URL.Path == "/v1/images/generations":
			fmt.Fprint(w, `{"created":1,"data":[{"b64_json":"AAAA"}]}`)
		case r.URL.Path == "/v1/completions":
			fmt.Fprint(w, `{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"hello there","logprobs":null,"finish_reason":"stop"}],`+usage)
		case strings.Contains(body, "busy"):
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.Contains(body, "wait"):
			if stream {
				event(w, `{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}`, "")
			}
			<-r.Context().Done()
			left.Add(1)
		case stream && strings.Contains(body, "use a tool"):
			event(w, `{"index":0,"delta":{"role":"assistant",`+call(`"{\"city\": "`)+`},"finish_reason":null}`, "")
			event(w, `{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Ulm\"}"}}]},"finish_reason":null}`, "")
			event(w, `{"index":0,"delta":{},"finish_reason":"tool_calls"}`, "")
			event(w, ``, `,"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}`)
			fmt.Fprint(w, "data: [DONE]\n\n")
		case stream:
			for _, piece := range []string{"hel", "lo ", "there"} {
				event(w, `{"index":0,"delta":{"content":"`+piece+`"},"finish_reason":null}`, "")
			}
			event(w, `{"index":0,"delta":{},"finish_reason":"stop"}`, "")
			event(w, ``, `,"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}`)
			fmt.Fprint(w, "data: [DONE]\n\n")
		case strings.Contains(body, "use a tool"):
			fmt.Fprint(w, head+`"choices":[{"index":0,"message":{"role":"assistant","content":null,`+call(`"{\"city\": \"Ulm\"}"`)+`},"finish_reason":"tool_calls"}],`+usage)
		default:
			fmt.Fprint(w, head+`"choices":[{"index":0,"message":{"role":"assistant","content":"hello there"},"finish_reason":"stop"}],`+usage)
		}
	}
}

// OpenAI's own clients meet the gateway. scripts/clients prepares them.
func TestOfficialClients(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("REFIT_CLIENTS")
	if dir == "" {
		t.Skip("REFIT_CLIENTS names no folder that scripts/clients prepared")
	}
	for name, command := range map[string][]string{
		"openai-go":     {filepath.Join(dir, "go-client")},
		"openai-node":   {"node", filepath.Join(dir, "check.mjs")},
		"openai-python": {filepath.Join(dir, "venv/bin/python"), filepath.Join(dir, "check.py")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if missing, err := os.ReadFile(filepath.Join(dir, "left-out")); err != nil || strings.Contains(string(missing), name+":") {
				t.Skipf("%s could not be had here: %v %s", name, err, missing)
			}
			w := newWorld(t, func(c *Config) { c.MaxBody, c.Keys = 100_000, KeysRequired })
			var left atomic.Int64
			says := openAI(&left)
			w.upstream.behave(func(out http.ResponseWriter, r *http.Request, _ string) bool {
				w.upstream.mu.Lock()
				body := string(w.upstream.bodies[len(w.upstream.bodies)-1]) // a client asks one after the other
				w.upstream.mu.Unlock()
				says(out, r, body)
				return true
			})
			w.store.change(func(s *store) {
				for i := range s.endpoints {
					s.endpoints[i].Embedder = "embedder"
				}
			})
			address := w.serving(t)
			secret, _ := w.key(nil)
			limited, _ := w.key(func(k *lifecycle.APIKey) { k.RequestsPerMinute = 1 })
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			said, err := exec.CommandContext(ctx, command[0], append(command[1:], "http://"+address, secret, limited)...).CombinedOutput()
			require.NoError(t, err, "%s", said)
			require.Contains(t, string(said), "all well")
			require.Eventually(t, func() bool { return left.Load() == 2 }, 10*time.Second, time.Millisecond,
				"a client that left stopped the model, both times")
		})
	}
}
