package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// models is a model server with several served names. It runs in the test's process, so it is another than those
// that decide, and it writes down every chat request in the order in which they came.
type models struct {
	url string

	mu      sync.Mutex
	names   map[string]bool
	chats   []chat
	counted map[[2]string]int64 // by endpoint and model, warm-ups too
	broken  map[string]bool     // names that answer 500 to chats
	copies  []chat              // of requests to a shadow, which no user is shown
	says    map[string]string   // what names say in place of said
	before  func(prompt string) // called before a completion is answered; nil: nothing
}

// chat is one chat request as the server met it.
type chat struct {
	model string
	at    time.Time
}

func newModels(t *testing.T, names ...string) *models {
	m := &models{names: map[string]bool{}, says: map[string]string{}, counted: map[[2]string]int64{}, broken: map[string]bool{}}
	for _, name := range names {
		m.names[name] = true
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", m.list)
	mux.HandleFunc("GET /metrics", m.metrics)
	mux.HandleFunc("POST /v1/completions", m.answering("completions", m.complete))
	mux.HandleFunc("POST /v1/chat/completions", m.answering("chat", m.chat))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

func (m *models) list(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var data []map[string]string
	for name := range m.names {
		data = append(data, map[string]string{"id": name, "object": "model"})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": data})
}

// metrics counts as the reference runtime does.
func (m *models) metrics(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintln(w, "# TYPE refit_runtime_requests_total counter")
	for key, n := range m.counted {
		fmt.Fprintf(w, "refit_runtime_requests_total{endpoint=%q,model=%q,outcome=\"ok\"} %d\n", key[0], key[1], n)
	}
}

type asked struct {
	Model     string `json:"model"`
	Prompt    string `json:"prompt"`
	Echo      bool   `json:"echo"`
	MaxTokens *int   `json:"max_tokens"`
	Stream    bool   `json:"stream"`
}

func (m *models) answering(endpoint string, answer func(http.ResponseWriter, asked)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in asked
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &in) != nil {
			http.Error(w, `{"error":{"message":"no JSON"}}`, http.StatusBadRequest)
			return
		}
		m.mu.Lock()
		known, broken := m.names[in.Model], m.broken[in.Model]
		if known {
			m.counted[[2]string{endpoint, in.Model}]++
			switch id := r.Header.Get("X-Request-Id"); {
			case endpoint != "chat", strings.HasPrefix(id, "refit-"):
			case strings.HasPrefix(id, "shadow-"):
				m.copies = append(m.copies, chat{in.Model, time.Now()})
			default:
				m.chats = append(m.chats, chat{in.Model, time.Now()})
			}
		}
		m.mu.Unlock()
		switch {
		case !known:
			http.Error(w, `{"error":{"message":"no such model"}}`, http.StatusNotFound)
		case broken && endpoint == "chat":
			http.Error(w, `{"error":{"message":"broken"}}`, http.StatusInternalServerError)
		default:
			answer(w, in)
		}
	}
}

const said = "Close it when you are done."

func (m *models) chat(w http.ResponseWriter, in asked) {
	m.mu.Lock()
	said := cmp.Or(m.says[in.Model], said)
	m.mu.Unlock()
	if !in.Stream {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],`+
			`"usage":{"prompt_tokens":7,"completion_tokens":7,"total_tokens":14}}`, in.Model, said)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, word := range strings.SplitAfter(said, " ") {
		fmt.Fprintf(w, "data: {\"object\":\"chat.completion.chunk\",\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", in.Model, word)
		_ = http.NewResponseController(w).Flush() // the client may have left
	}
	fmt.Fprintf(w, "data: {\"object\":\"chat.completion.chunk\",\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],"+
		"\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":7,\"total_tokens\":14}}\n\ndata: [DONE]\n\n", in.Model)
}

// complete scores a text that it is asked to echo, in tokens of four letters, and else goes on with a word.
func (m *models) complete(w http.ResponseWriter, in asked) {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		before(in.Prompt)
	}
	w.Header().Set("Content-Type", "application/json")
	choice := map[string]any{"index": 0, "text": " word", "finish_reason": "stop"}
	if in.Echo {
		var tokens []string
		var logprobs []any
		var offsets []int
		letters := []rune(in.Prompt)
		for i := 0; i < len(letters); i += 4 {
			tokens, offsets = append(tokens, string(letters[i:min(i+4, len(letters))])), append(offsets, i)
			logprobs = append(logprobs, -2.5)
		}
		if len(logprobs) > 0 {
			logprobs[0] = nil
		}
		choice["text"] = in.Prompt
		choice["logprobs"] = map[string]any{"tokens": tokens, "token_logprobs": logprobs, "text_offset": offsets}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"object": "text_completion", "model": in.Model, "choices": []any{choice},
		"usage": map[string]int{"prompt_tokens": len(in.Prompt) / 4, "completion_tokens": 1, "total_tokens": len(in.Prompt)/4 + 1},
	})
}

// breakDown lets a name answer 500 to every chat from now on.
func (m *models) breakDown(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken[name] = true
}

// say lets a name say something else from now on.
func (m *models) say(name, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.says[name] = text
}

// copied gives every copy of a request so far.
func (m *models) copied() []chat {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]chat(nil), m.copies...)
}

// served gives every chat request so far, without copies.
func (m *models) served() []chat {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]chat(nil), m.chats...)
}

// count counts the chat requests of a name.
func (m *models) count(name string) int {
	n := 0
	for _, c := range m.served() {
		if c.model == name {
			n++
		}
	}
	return n
}
