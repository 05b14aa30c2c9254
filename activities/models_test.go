package activities_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
)

// models is a serving engine and the model server behind it. It serves whatever is loaded: texts are scored at the
// same price for every byte, which a test may set for a model, and embedded by their words.
type models struct {
	url string

	mu      sync.Mutex
	loaded  map[string]bool
	price   map[string]float64                  // by served name, in nats a byte; default 1
	asked   map[string]int64                    // completions, by served name
	said    func(model, question string) string // to a chat; nil: nothing is said
	before  func(n int64)                       // called before completion n of all is answered, from 1; nil: nothing
	served  int64
	unloads []string
}

func newModels(t *testing.T) *models {
	t.Helper()
	m := &models{loaded: map[string]bool{}, price: map[string]float64{}, asked: map[string]int64{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/completions", m.complete)
	mux.HandleFunc("POST /v1/chat/completions", m.chat)
	mux.HandleFunc("POST /v1/embeddings", m.embed)
	mux.HandleFunc("GET /metrics", m.metrics)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

// Load is serving's.
func (m *models) Load(_ context.Context, p serving.Placement) ([]lifecycle.Endpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := lifecycle.Endpoint{
		Release: p.ID, URL: m.url, Embedder: serving.EmbedderName(p.Release.Embedder), Capacity: 4, Ready: true, Attribution: serving.Verified,
	}
	if p.Release.Model != "" {
		e.Model = p.Release.ServedName()
	}
	m.loaded[serving.ServerName(p.Release)] = true
	return []lifecycle.Endpoint{e}, nil
}

// Unload is serving's.
func (m *models) Unload(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.loaded, name)
	m.unloads = append(m.unloads, name)
	return nil
}

// List is serving's.
func (m *models) List(context.Context) ([]serving.Server, error) { return nil, nil }

func (m *models) complete(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Model  string `json:"model"`
		Prompt string `json:"prompt"`
		Echo   bool   `json:"echo"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	m.served++
	m.asked[asked.Model]++
	n, before, price := m.served, m.before, m.price[asked.Model]
	m.mu.Unlock()
	if before != nil {
		before(n)
	}
	if price == 0 {
		price = 1
	}
	choice := map[string]any{"index": 0, "text": " the", "finish_reason": "length"}
	if asked.Echo {
		choice["text"], choice["logprobs"] = asked.Prompt, scores(asked.Prompt, price)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "text_completion", "model": asked.Model, "choices": []any{choice}})
}

func (m *models) chat(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Model    string `json:"model"`
		Messages []struct {
			Content string `json:"content"`
		} `json:"messages"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || len(asked.Messages) == 0 || m.said == nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	m.served++
	m.mu.Unlock()
	said := m.said(asked.Model, asked.Messages[len(asked.Messages)-1].Content)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"object": "chat.completion", "model": asked.Model, "usage": map[string]any{"prompt_tokens": 9, "completion_tokens": 4},
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": said}}},
	})
}

// scores prices a text by its tokens, each a run of characters up to a space.
func scores(text string, price float64) map[string]any {
	var tokens []string
	var offsets []int
	logprobs := []any{}
	at := 0
	for len(text) > 0 {
		end := strings.IndexAny(text[1:], " \n") + 1
		if end == 0 {
			end = len(text)
		}
		token := text[:end]
		tokens, offsets = append(tokens, token), append(offsets, at)
		if at == 0 {
			logprobs = append(logprobs, nil)
		} else {
			logprobs = append(logprobs, -price*float64(len(token)))
		}
		at += utf8.RuneCountInString(token)
		text = text[end:]
	}
	return map[string]any{"tokens": tokens, "token_logprobs": logprobs, "text_offset": offsets}
}

func (m *models) embed(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Input []string `json:"input"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	data := []any{}
	for i, text := range asked.Input {
		vector := make([]float32, 256)
		for _, word := range strings.Fields(strings.ToLower(text)) {
			sum := fnv.New32a()
			_, _ = sum.Write([]byte(strings.Trim(word, ".,")))
			vector[sum.Sum32()%256]++
		}
		data = append(data, map[string]any{"index": i, "embedding": vector})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": data})
}

// metrics counts as the reference runtime does.
func (m *models) metrics(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintln(w, "# TYPE refit_runtime_requests_total counter")
	for name, n := range m.asked {
		fmt.Fprintf(w, "refit_runtime_requests_total{model=%q,endpoint=\"completions\",outcome=\"ok\"} %d\n", name, n)
	}
}

func (m *models) requests() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.served
}

// serve adds requests that the server has counted for a name.
func (m *models) serve(name string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[name] += n
}

func (m *models) engines() map[string]serving.Engine {
	return map[string]serving.Engine{"local": m}
}
