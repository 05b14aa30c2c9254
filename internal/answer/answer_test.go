package answer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// modelServer is a model server that says what a test wants and keeps what it was asked.
type modelServer struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []string
	headers []http.Header
	paths   []string
}

func newModelServer(t *testing.T, say http.HandlerFunc) *modelServer {
	t.Helper()
	m := &modelServer{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m.mu.Lock()
		m.bodies, m.headers, m.paths = append(m.bodies, string(body)), append(m.headers, r.Header.Clone()), append(m.paths, r.URL.Path)
		m.mu.Unlock()
		say(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *modelServer) asked(t *testing.T) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	require.NotEmpty(t, m.bodies, "the model server was never asked")
	return m.bodies[len(m.bodies)-1]
}

func saying(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

// streaming sends pieces one by one, each flushed.
func streaming(pieces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, piece := range pieces {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// client is a sink that keeps what it got.
type client struct {
	status  int
	header  http.Header
	body    strings.Builder
	flushes int
	onWrite func(n int) error // n counts writes from 1
	onFlush func()
	writes  int

	unflushed int // bytes written since the last flush
}

func (c *client) Start(status int, header http.Header) { c.status, c.header = status, header }
func (c *client) Flush() error {
	c.flushes, c.unflushed = c.flushes+1, 0
	if c.onFlush != nil {
		c.onFlush()
	}
	return nil
}
func (c *client) Write(p []byte) (int, error) {
	c.writes++
	if c.onWrite != nil {
		if err := c.onWrite(c.writes); err != nil {
			return 0, err
		}
	}
	c.unflushed += len(p)
	return c.body.Write(p)
}

type shelf []Passage

func (s shelf) Search(_ context.Context, _ string, k int) ([]Passage, error) {
	return s[:min(k, len(s))], nil
}

var model = lifecycle.DigestOf([]byte("weights"))

func release(change func(*lifecycle.Release)) lifecycle.Release {
	r := lifecycle.Release{Service: "docs", Model: model}
	if change != nil {
		change(&r)
	}
	return r
}

func ready(t *testing.T, change func(*lifecycle.Release), index Searcher) *Bundle {
	t.Helper()
	b, err := NewBundle(release(change), index)
	require.NoError(t, err)
	return b
}

const plain = `{ "id":"x", "choices":[{"index":0,"message":{"role":"assistant","content":"hi there"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}, "extra":1.50 }`

func ask(t *testing.T, b *Bundle, m *modelServer, endpoint, body string) (*client, *Result, error) {
	t.Helper()
	c := &client{}
	result, err := New(Settings{}).Do(t.Context(), b, Upstream{URL: m.URL}, Request{Endpoint: endpoint, Body: []byte(body)}, c)
	return c, result, err
}

func TestOnlyWhatRefitOwnsIsChanged(t *testing.T) {
	t.Parallel()
	half := 0.5
	name := "refit-" + model.Short()
	for what, tc := range map[string]struct {
		endpoint string
		change   func(*lifecycle.Release)
		body     string
		want     string
	}{
		"the model's name": {
			Chat, nil,
			`{ "z":1.0e0, "model" : "docs","messages":[{"role":"user","content":"a\u00e9\/b"}] ,"unknown":[1,2.50]}`,
			`{ "z":1.0e0, "model" : "` + name + `","messages":[{"role":"user","content":"a\u00e9\/b"}] ,"unknown":[1,2.50]}`,
		},
		"a missing name": {
			Completions, nil, `{"prompt":"x"}`, `{"model":"` + name + `","prompt":"x"}`,
		},
		"the system message": {
			Chat, func(r *lifecycle.Release) { r.Prompt.System = "Be \"brief\" <b>" },
			`{"model":"docs","messages":[ {"role":"user","content":"x"}]}`,
			`{"model":"` + name + `","messages":[ {"role":"system","content":"Be \"brief\" <b>"},{"role":"user","content":"x"}]}`,
		},
		"sampling is the release's": {
			Chat, func(r *lifecycle.Release) { r.Parameters.Temperature = &half; r.Parameters.Stop = []string{"\n"} },
			`{"model":"docs","temperature":2,"top_p":0.1,"messages":[{"role":"user","content":"x"}],"seed":7,"top_k":4,"logit_bias":{"1":2}}`,
			`{"stop":["\n"],"model":"` + name + `","temperature":0.5,"messages":[{"role":"user","content":"x"}],"seed":7}`,
		},
		"sampling is the client's where the release says so": {
			Chat, func(r *lifecycle.Release) {
				r.Parameters.Temperature = &half
				r.Parameters.TopP = &half
				r.Parameters.Override = true
			},
			`{"model":"docs","temperature":2,"messages":[{"role":"user","content":"x"}],"top_k":4}`,
			`{"top_p":0.5,"model":"` + name + `","temperature":2,"messages":[{"role":"user","content":"x"}],"top_k":4}`,
		},
		"tokens are capped": {
			Completions, func(r *lifecycle.Release) { r.Parameters.MaxTokens = 16 },
			`{"model":"docs","prompt":"x","max_tokens":900}`, `{"model":"` + name + `","prompt":"x","max_tokens":16}`,
		},
		"fewer tokens are the client's to ask": {
			Completions, func(r *lifecycle.Release) { r.Parameters.MaxTokens = 16 },
			`{"model":"docs","prompt":"x","max_tokens":4}`, `{"model":"` + name + `","prompt":"x","max_tokens":4}`,
		},
		"both names of the cap": {
			Chat, func(r *lifecycle.Release) { r.Parameters.MaxTokens = 16 },
			`{"model":"docs","messages":[{"role":"user","content":"x"}],"max_tokens":99,"max_completion_tokens":100}`,
			`{"model":"` + name + `","messages":[{"role":"user","content":"x"}],"max_tokens":16,"max_completion_tokens":16}`,
		},
		"a score stays as it is": {
			Completions, func(r *lifecycle.Release) { r.Parameters.MaxTokens = 16; r.Parameters.Temperature = &half },
			`{"model":"docs","prompt":"x","max_tokens":0,"echo":true,"temperature":0}`,
			`{"model":"` + name + `","prompt":"x","max_tokens":0,"echo":true,"temperature":0}`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			m := newModelServer(t, saying(plain))
			_, _, err := ask(t, ready(t, tc.change, nil), m, tc.endpoint, tc.body)
			require.NoError(t, err)
			require.Equal(t, tc.want, m.asked(t))
		})
	}
}

func TestPassagesStandBeforeTheLastUserMessage(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(plain))
	b := ready(t, func(r *lifecycle.Release) {
		r.Index, r.Parameters.TopK = model, 2
		r.Prompt.Context = "Known:{{range .Passages}} [{{.ID}}] {{.Title}}: {{.Text}}{{end}}"
	}, shelf{{ID: "c1", Title: "A", Text: "one"}, {ID: "c2", Title: "B", Text: "two"}, {ID: "c3"}})
	_, result, err := ask(t, b, m, Chat, `{"model":"docs","messages":[{"role":"user","content":"old"},{"role":"assistant","content":"said"},{"role":"user","content":[{"type":"text","text":"what is new"}]}]}`)
	require.NoError(t, err)
	require.Contains(t, m.asked(t), `{"role":"assistant","content":"said"},{"role":"system","content":"Known: [c1] A: one [c2] B: two"},{"role":"user","content":[`)
	require.Equal(t, []string{"c1", "c2"}, result.Passages)
	require.Equal(t, "what is new", result.Input)
}

func TestReleasesThatCannotAnswerAreRefused(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*lifecycle.Release){
		"retrieval without an index": func(r *lifecycle.Release) { r.Parameters.TopK = 1 },
		"a template that is none":    func(r *lifecycle.Release) { r.Prompt.Context = "{{" },
		"a template of other things": func(r *lifecycle.Release) { r.Prompt.Context = "{{range .Passages}}{{.Author}}{{end}}" },
		"a pattern that is none":     func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{{Kind: "deny-pattern", Value: "("}} },
		"an unknown rule":            func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{{Kind: "shout"}} },
		"an unknown action":          func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{{Kind: "trim", Action: "panic"}} },
	} {
		_, err := NewBundle(release(change), nil)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%s: %v", what, err)
	}
}

func TestDocumentsAreFoundByTheirBestPassage(t *testing.T) {
	t.Parallel()
	index := shelf{{Document: "a"}, {Document: "a"}, {Document: "b"}, {Document: "a"}, {Document: "c"}}
	found, err := ready(t, nil, index).SearchDocuments(t.Context(), "q", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, found)
	_, err = ready(t, nil, nil).SearchDocuments(t.Context(), "q", 2)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
}

func TestAWholeAnswerPassesByteByByte(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(plain))
	c, result, err := ask(t, ready(t, nil, nil), m, Chat, `{"model":"docs","messages":[{"role":"user","content":"x"}]}`)
	require.NoError(t, err)
	require.Equal(t, plain, c.body.String())
	require.Equal(t, 200, c.status)
	require.Equal(t, lifecycle.Usage{Prompt: 3, Completion: 2}, result.Usage)
	require.Equal(t, "stop", result.Finish)
	require.Equal(t, OutcomeOK, result.Outcome)
	require.Equal(t, "hi there", result.Output)
}

func TestRulesChangeAWholeAnswer(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(plain))
	for what, tc := range map[string]struct {
		rules   []lifecycle.Rule
		content string
		finish  string
		outcome string
		hits    []string
	}{
		"mask":     {[]lifecycle.Rule{{Kind: "trim"}, {Kind: "deny-pattern", Value: "there"}}, "hi [removed]", "stop", OutcomeOK, []string{"deny-pattern[1]"}},
		"too long": {[]lifecycle.Rule{{Kind: "max-length", Value: "3", Action: "refuse", Notice: "No."}}, "No.", "content_filter", OutcomeRefused, []string{"max-length[0]"}},
		"refuse":   {[]lifecycle.Rule{{Kind: "deny-pattern", Value: "there", Action: "refuse", Notice: "No."}}, "No.", "content_filter", OutcomeRefused, []string{"deny-pattern[0]"}},
		"cut":      {[]lifecycle.Rule{{Kind: "max-length", Value: "3"}, {Kind: "trim"}}, "hi", "length", OutcomeOK, []string{"max-length[0]"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c, result, err := ask(t, ready(t, func(r *lifecycle.Release) { r.PostProcess = tc.rules }, nil), m, Chat, `{"model":"docs","messages":[{"role":"user","content":"x"}]}`)
			require.NoError(t, err)
			want := strings.NewReplacer(`"hi there"`, `"`+tc.content+`"`, `"stop"`, `"`+tc.finish+`"`).Replace(plain)
			require.Equal(t, want, c.body.String())
			require.Equal(t, tc.outcome, result.Outcome)
			require.Equal(t, tc.hits, result.Guardrails)
			require.Equal(t, tc.content, result.Output)
		})
	}
}

func TestLogProbabilitiesDoNotShowWhatARuleHides(t *testing.T) {
	t.Parallel()
	said := `{"choices":[{"index":0,"text":"the key","logprobs":{"tokens":["the"," key"]},"finish_reason":"stop"}]}`
	m := newModelServer(t, saying(said))
	b := ready(t, func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{{Kind: "deny-pattern", Value: "key"}} }, nil)
	c, _, err := ask(t, b, m, Completions, `{"prompt":"x","logprobs":1}`)
	require.NoError(t, err)
	require.Equal(t, `{"choices":[{"index":0,"text":"the [removed]","logprobs":null,"finish_reason":"stop"}]}`, c.body.String())
	c, _, err = ask(t, b, m, Completions, `{"prompt":"the key","logprobs":1,"echo":true,"max_tokens":0}`)
	require.NoError(t, err)
	require.Equal(t, said, c.body.String(), "a score of the client's own text is no answer")
}

func TestRequestsThatCannotBeMeantAreRefused(t *testing.T) {
	t.Parallel()
	b := ready(t, nil, nil)
	for what, tc := range map[string]struct{ endpoint, body string }{
		"no JSON":                      {Chat, `{"messages":[`},
		"not an object":                {Chat, `[]`},
		"not UTF-8":                    {Chat, "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}"},
		"a key twice":                  {Chat, `{"model":"a","messages":[{"role":"user"}],"mod\u0065l":"b"}`},
		"a key in other case":          {Chat, `{"messages":[{"role":"user"}],"Temperature":2}`},
		"a role twice":                 {Chat, `{"messages":[{"role":"user","role":"system"}]}`},
		"no messages":                  {Chat, `{}`},
		"empty messages":               {Chat, `{"messages":[]}`},
		"a message that is a text":     {Chat, `{"messages":["x"]}`},
		"a message without role":       {Chat, `{"messages":[{"content":"x"}]}`},
		"stream that is no truth":      {Chat, `{"messages":[{"role":"user"}],"stream":"yes"}`},
		"stream options that are none": {Chat, `{"messages":[{"role":"user"}],"stream":true,"stream_options":3}`},
		"tokens below zero":            {Chat, `{"messages":[{"role":"user"}],"max_tokens":-1}`},
		"no prompt":                    {Completions, `{"model":"x"}`},
		"nothing to embed":             {Embeddings, `{"model":"x"}`},
		"an unknown endpoint":          {"audio", `{}`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := &client{}
			result, err := New(Settings{}).Do(t.Context(), b, Upstream{URL: "http://127.0.0.1:1"}, Request{Endpoint: tc.endpoint, Body: []byte(tc.body)}, c)
			require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
			require.Equal(t, 400, result.Status)
			require.False(t, result.Started)
		})
	}
}

func TestAServersRefusalIsTyped(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		kind   lifecycle.Kind
		status int
	}{
		400: {lifecycle.Invalid, 400}, 413: {lifecycle.Invalid, 413}, 404: {lifecycle.Unavailable, 502},
		429: {lifecycle.Unavailable, 429}, 500: {lifecycle.Unavailable, 502}, 302: {lifecycle.Unavailable, 502},
	} {
		m := newModelServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":{"message":"m"}}`)
		})
		c, result, err := ask(t, ready(t, nil, nil), m, Completions, `{"prompt":"x"}`)
		var upstream *UpstreamError
		require.ErrorAs(t, err, &upstream)
		require.Equal(t, UpstreamError{Status: status, Body: []byte(`{"error":{"message":"m"}}`), RetryAfter: "3"}, *upstream)
		require.Equal(t, want.kind, lifecycle.KindOf(err))
		require.Equal(t, want.status, result.Status)
		require.Equal(t, OutcomeError, result.Outcome)
		require.Zero(t, c.status, "nothing is sent")
	}
}

func TestOnlyNamedHeadersAndTheServersKeyCross(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(plain))
	header := http.Header{
		"Authorization": {"Bearer users-own"}, "Cookie": {"a=b"}, "X-Request-Id": {"r1"}, "Traceparent": {"t"},
		"X-Refit-Conversation": {"token"}, "X-Refit-Conversation-Hash": {"h"},
	}
	up := Upstream{URL: m.URL + "/", Model: "other", APIKey: func() string { return "servers" }}
	_, err := New(Settings{}).Do(t.Context(), ready(t, nil, nil), up, Request{Endpoint: Chat, Header: header, Body: []byte(`{"messages":[{"role":"user"}]}`)}, &client{})
	require.NoError(t, err)
	got := m.headers[0]
	require.Equal(t, "Bearer servers", got.Get("Authorization"))
	require.Equal(t, []string{"r1", "t", "h"}, []string{got.Get("X-Request-Id"), got.Get("Traceparent"), got.Get("X-Refit-Conversation-Hash")})
	require.Empty(t, got.Get("Cookie")+got.Get("X-Refit-Conversation"))
	require.Equal(t, "/v1/chat/completions", m.paths[0])
	require.Contains(t, m.asked(t), `"model":"other"`)
}

func TestAServerThatDoesNotAnswerInTime(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	m := newModelServer(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	result, err := New(Settings{FirstByte: 20 * time.Millisecond}).Do(t.Context(), ready(t, nil, nil), Upstream{URL: m.URL}, Request{Endpoint: Completions, Body: []byte(`{"prompt":"x"}`)}, &client{})
	require.ErrorIs(t, err, errFirstByte)
	require.Equal(t, 504, result.Status)
	require.Equal(t, OutcomeError, result.Outcome)
}

func TestLatencyPerComponentComesFromTheClock(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, streaming(chunk("one "), chunk("two"), stop, "data: [DONE]\n\n"))
	now := time.Unix(0, 0)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	b := ready(t, func(r *lifecycle.Release) {
		r.Index, r.Parameters.TopK, r.PostProcess = model, 1, []lifecycle.Rule{{Kind: "trim"}}
	}, shelf{})
	result, err := New(Settings{Now: clock}).Do(t.Context(), b, Upstream{URL: m.URL}, Request{Endpoint: Chat, Body: []byte(`{"stream":true,"messages":[{"role":"user","content":"x"}]}`)}, &client{})
	require.NoError(t, err)
	l := result.Latency
	require.Equal(t, 1.0, l.Retrieval)
	require.Equal(t, 1.0, l.FirstToken)
	require.Equal(t, 4.0, l.PostProcessing, "three chunks and the end")
	require.Greater(t, l.Model, 0.0)
	require.Greater(t, l.Total, l.Model+l.Retrieval+l.PostProcessing)
}

func TestScoresAreReadInBytes(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(`{"choices":[{"text":"äb c","logprobs":{"tokens":["äb"," c"],"token_logprobs":[null,-1.5],"text_offset":[0,2]}}]}`))
	client := Client{Path: New(Settings{}), Bundle: ready(t, nil, nil), Upstream: Upstream{URL: m.URL}}
	logprobs, offsets, err := client.Score(t.Context(), "äb c")
	require.NoError(t, err)
	require.Equal(t, []float64{-1.5}, logprobs)
	require.Equal(t, []int{3}, offsets)

	m = newModelServer(t, saying(`{"choices":[{"text":"x","logprobs":{"token_logprobs":[null,null],"text_offset":[0,1]}}]}`))
	client.Upstream.URL = m.URL
	_, _, err = client.Score(t.Context(), "x y")
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "a missing probability is an error: %v", err)
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(`{"data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1,0]}]}`))
	e := Embedder{Path: New(Settings{}), Model: "refit-e", Upstream: func() (Upstream, error) { return Upstream{URL: m.URL}, nil }}
	vectors, err := e.Embed(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, [][]float32{{1, 0}, {0, 1}}, vectors)
	_, err = e.Embed(t.Context(), []string{"a", "b", "c"})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "a missing vector is an error: %v", err)

	b := ready(t, func(r *lifecycle.Release) { r.Embedder = model }, nil)
	c, _, err := ask(t, b, m, Embeddings, `{"model":"docs","input":"a"}`)
	require.NoError(t, err)
	require.Equal(t, `{"model":"refit-`+model.Short()+`","input":"a"}`, m.asked(t))
	require.Contains(t, c.body.String(), "embedding")
	_, result, err := ask(t, ready(t, nil, nil), m, Embeddings, `{"model":"docs","input":"a"}`)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
	require.Equal(t, 404, result.Status)
}

func TestAClientThatLeavesStopsTheModel(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	m := newModelServer(t, func(w http.ResponseWriter, r *http.Request) {
		streaming(chunk("one"))(w, r)
		<-r.Context().Done()
		close(left)
	})
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{onWrite: func(int) error { cancel(); return nil }}
	result, err := New(Settings{}).Do(ctx, ready(t, nil, nil), Upstream{URL: m.URL}, Request{Endpoint: Chat, Body: []byte(`{"stream":true,"messages":[{"role":"user"}]}`)}, c)
	require.Error(t, err)
	require.Equal(t, OutcomeCanceled, result.Outcome)
	<-left

	c = &client{onWrite: func(int) error { return errors.New("broken pipe") }}
	m = newModelServer(t, streaming(chunk("one"), stop, "data: [DONE]\n\n"))
	_, err = New(Settings{}).Do(t.Context(), ready(t, nil, nil), Upstream{URL: m.URL}, Request{Endpoint: Chat, Body: []byte(`{"stream":true,"messages":[{"role":"user"}]}`)}, c)
	require.ErrorIs(t, err, errClient)
}
