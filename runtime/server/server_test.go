package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/llama"
)

var sentences = []string{
	"Package files opens, reads and closes files. A file that is open must be closed.",
	"Größe und Maß: €uro sign, naïve café, 日本語のテキスト, and a smile 🙂.",
	"The reader reads until the buffer is full, and returns how many bytes it read.",
}

// tinyModel has random weights: what it says is nonsense, and the same each time.
func tinyModel(t testing.TB, context int) *Model {
	t.Helper()
	tokenizer, err := bpe.Learn(slices.Values(sentences), 330)
	require.NoError(t, err)
	c := llama.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", VocabSize: tokenizer.Size(), HiddenSize: 32, IntermediateSize: 64,
		Layers: 2, Heads: 4, KVHeads: 2, Context: context, NormEpsilon: 1e-5, RopeTheta: 10000, Activation: "silu",
		TieEmbeddings: true, DType: "float32",
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var weights [][]float32
	for _, s := range c.Shapes() {
		size := 1
		for _, d := range s.Dims {
			size *= d
		}
		w := make([]float32, size)
		for i := range w {
			w[i] = float32(rng.NormFloat64() * 0.3)
		}
		weights = append(weights, w)
	}
	m, err := llama.New(c, weights)
	require.NoError(t, err)
	model, err := NewModel(m, tokenizer)
	require.NoError(t, err)
	return model
}

// lines is an access log in memory.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) entries(t testing.TB) (list []access) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.all.String()) {
		var a access
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&a))
		list = append(list, a)
	}
	return list
}

// fixed is an embedder for tests.
type fixed struct{}

func (fixed) Dimension() int { return 2 }
func (fixed) Embed(text string) ([]float32, int) {
	if text == "" {
		return []float32{0, 0}, 0
	}
	return []float32{0.6, 0.8}, len(strings.Fields(text))
}

type rig struct {
	*testing.T
	model *Model
	log   *lines
	url   string
}

// serving runs a server with the model "m" and the embedder "e".
func serving(t *testing.T, config Config) rig {
	t.Helper()
	r := rig{T: t, model: tinyModel(t, 64), log: new(lines)}
	config.AccessLog, config.Log = r.log, slog.New(slog.NewTextHandler(io.Discard, nil))
	s := New(config)
	require.NoError(t, s.AddModel("m", r.model))
	require.NoError(t, s.AddEmbedder("e", fixed{}))
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r rig) post(path, body string) (status int, header http.Header, answer []byte) {
	r.Helper()
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	require.NoError(r, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(r, err)
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	require.NoError(r, err)
	return response.StatusCode, response.Header, answer
}

func (r rig) get(path string) (int, string) {
	r.Helper()
	response, err := http.Get(r.url + path)
	require.NoError(r, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(r, err)
	return response.StatusCode, string(body)
}

func ask[T any](r rig, path, body string) (answer T) {
	r.Helper()
	status, header, raw := r.post(path, body)
	require.Equal(r, http.StatusOK, status, string(raw))
	require.Equal(r, "application/json", header.Get("Content-Type"))
	require.NoError(r, json.Unmarshal(raw, &answer))
	return answer
}

// events gives the data of a stream's events and checks that it ended well.
func events[T any](r rig, path, body string) (list []T) {
	r.Helper()
	status, header, raw := r.post(path, body)
	require.Equal(r, http.StatusOK, status, string(raw))
	require.Equal(r, "text/event-stream", header.Get("Content-Type"))
	blocks := strings.Split(string(raw), "\n\n")
	require.Equal(r, []string{"data: [DONE]", ""}, blocks[len(blocks)-2:])
	for _, b := range blocks[:len(blocks)-2] {
		var v T
		require.NoError(r, json.Unmarshal([]byte(strings.TrimPrefix(b, "data: ")), &v), b)
		list = append(list, v)
	}
	return list
}

func TestListsWhatItServes(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	status, body := r.get("/v1/models")
	require.Equal(t, http.StatusOK, status)
	var list struct {
		Object string
		Data   []modelEntry
	}
	require.NoError(t, json.Unmarshal([]byte(body), &list))
	require.Equal(t, "list", list.Object)
	require.Len(t, list.Data, 2)
	require.Equal(t, "e", list.Data[0].ID)
	require.Equal(t, 2, list.Data[0].Dimension)
	require.Equal(t, "m", list.Data[1].ID)
	require.Equal(t, 64, list.Data[1].MaxModelLen)

	status, body = r.get("/v1/models/m")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"id":"m"`)
	status, _ = r.get("/v1/models/nobody")
	require.Equal(t, http.StatusNotFound, status)
	status, body = r.get("/healthz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ok\n", body)
}

func TestNamesAreCheckedAndGivenOnce(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	require.NoError(t, s.AddModel("a", tinyModel(t, 8)))
	require.Error(t, s.AddModel("a", tinyModel(t, 8)))
	require.Error(t, s.AddEmbedder("a", fixed{}))
	for _, name := range []string{"", "a b", "a\"b", "ä", "\n", strings.Repeat("a", 200)} {
		require.Error(t, s.AddEmbedder(name, fixed{}), name)
	}
}

// Faults come in the API's form, name the parameter, and count as nobody's.
func TestFaultsOfARequest(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{MaxBody: 2000, MaxScored: 100})
	const chats, texts, embeds = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
	long := strings.Repeat("x ", 300)
	for name, tc := range map[string]struct {
		path, body  string
		status      int
		param, code string
	}{
		"no JSON":                {chats, `{"model"`, 400, "", ""},
		"no object":              {chats, `[1]`, 400, "", ""},
		"an unknown model":       {chats, `{"model":"refit-1234","messages":[{"role":"user","content":"a"}]}`, 404, "model", "model_not_found"},
		"no model":               {texts, `{"prompt":"a"}`, 404, "model", "model_not_found"},
		"an embedder in a chat":  {chats, `{"model":"e","messages":[{"role":"user","content":"a"}]}`, 404, "model", "model_not_found"},
		"a model that embeds":    {embeds, `{"model":"m","input":"a"}`, 404, "model", "model_not_found"},
		"no messages":            {chats, `{"model":"m","messages":[]}`, 400, "messages", ""},
		"an image":               {chats, `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "messages", ""},
		"a number for a text":    {chats, `{"model":"m","messages":[{"role":"user","content":5}]}`, 400, "messages", ""},
		"a text for a number":    {texts, `{"model":"m","prompt":"a","max_tokens":"5"}`, 400, "max_tokens", ""},
		"fewer than no tokens":   {texts, `{"model":"m","prompt":"a","max_tokens":-1}`, 400, "max_tokens", ""},
		"too hot":                {texts, `{"model":"m","prompt":"a","temperature":2.1}`, 400, "temperature", ""},
		"an empty nucleus":       {texts, `{"model":"m","prompt":"a","top_p":0}`, 400, "top_p", ""},
		"no choices":             {texts, `{"model":"m","prompt":"a","n":0}`, 400, "n", ""},
		"too many choices":       {texts, `{"model":"m","prompt":["a","b"],"n":100}`, 400, "prompt", ""},
		"a token that is none":   {texts, `{"model":"m","prompt":[5,99999]}`, 400, "prompt", ""},
		"no prompt":              {texts, `{"model":"m"}`, 400, "prompt", ""},
		"a prompt of objects":    {texts, `{"model":"m","prompt":{"a":1}}`, 400, "", ""},
		"an empty stop":          {texts, `{"model":"m","prompt":"a","stop":[""]}`, 400, "stop", ""},
		"a stop that is no text": {texts, `{"model":"m","prompt":"a","stop":[1]}`, 400, "stop", ""},
		"too many logprobs":      {texts, `{"model":"m","prompt":"a","logprobs":21}`, 400, "logprobs", ""},
		"top without logprobs":   {chats, `{"model":"m","messages":[{"role":"user","content":"a"}],"top_logprobs":2}`, 400, "top_logprobs", ""},
		"what is not known":      {texts, `{"model":"m","prompt":"a","presence_penalty":0.5}`, 400, "presence_penalty", ""},
		"tools":                  {chats, `{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{}]}`, 400, "tools", ""},
		"too long to score":      {texts, `{"model":"m","prompt":"` + long + `","echo":true,"logprobs":1,"max_tokens":0}`, 400, "prompt", "context_length_exceeded"},
		"too large":              {texts, `{"model":"m","prompt":"` + long + long + long + long + `"}`, 413, "", "body_too_large"},
		"nothing to embed":       {embeds, `{"model":"e","input":[]}`, 400, "input", ""},
		"tokens to embed":        {embeds, `{"model":"e","input":[1,2]}`, 400, "input", ""},
		"other dimensions":       {embeds, `{"model":"e","input":"a","dimensions":3}`, 400, "dimensions", ""},
		"another encoding":       {embeds, `{"model":"e","input":"a","encoding_format":"hex"}`, 400, "encoding_format", ""},
		"another address":        {"/v1/images", `{}`, 404, "", "unknown_url"},
	} {
		status, header, raw := r.post(tc.path, tc.body)
		require.Equal(t, tc.status, status, "%s: %s", name, raw)
		require.Equal(t, "application/json", header.Get("Content-Type"), name)
		var answer struct{ Error problem }
		require.NoError(t, json.Unmarshal(raw, &answer), name)
		require.Equal(t, tc.param, orElse(answer.Error.Param, ""), "%s: %s", name, raw)
		require.Equal(t, tc.code, orElse(answer.Error.Code, ""), "%s: %s", name, raw)
		require.Equal(t, "invalid_request_error", answer.Error.Type, name)
		require.NotEmpty(t, answer.Error.Message, name)
		require.NotContains(t, answer.Error.Message, "Go ", name)
	}
	require.Empty(t, r.log.entries(t))
	_, metrics := r.get("/metrics")
	require.Contains(t, metrics, `refit_runtime_requests_total{model="",endpoint="chat",outcome="not_found"} 2`)
	require.Contains(t, metrics, `refit_runtime_requests_total{model="m",endpoint="completions",outcome="invalid"}`)
	require.NotContains(t, metrics, `outcome="ok"`)
	require.NotContains(t, metrics, "refit-1234", "clients make up names")
}

// What changes nothing is no fault.
func TestNeutralValuesOfWhatIsNotKnownAreFine(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	answer := ask[completion](r, "/v1/completions", `{"model":"m","prompt":"a","max_tokens":2,"presence_penalty":0,"frequency_penalty":0.0,
		"top_k":-1,"logit_bias":{},"best_of":1,"suffix":null,"stop":null,"seed":null,"user":"u","n":null,"stream":false,"logprobs":null}`)
	require.Len(t, answer.Choices, 1)
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	answer := ask[embeddingsAnswer](r, "/v1/embeddings", `{"model":"e","input":["one two","","three"],"dimensions":2}`)
	require.Equal(t, "list", answer.Object)
	require.Len(t, answer.Data, 3)
	require.Equal(t, 2, answer.Data[2].Index)
	require.Equal(t, []any{0.6, 0.8}, answer.Data[2].Embedding)
	require.Equal(t, []any{0.0, 0.0}, answer.Data[1].Embedding)
	require.Equal(t, embeddingUsage{3, 3}, answer.Usage)

	answer = ask[embeddingsAnswer](r, "/v1/embeddings", `{"model":"e","input":"one","encoding_format":"base64"}`)
	require.Equal(t, packed([]float32{0.6, 0.8}), answer.Data[0].Embedding)
	require.Equal(t, "mpkZP83MTD8=", answer.Data[0].Embedding)

	entries := r.log.entries(t)
	require.Len(t, entries, 2)
	require.Equal(t, "e", entries[0].Model)
	require.Equal(t, 3, entries[0].PromptTokens)
}

// Whatever a client sends is answered or refused; nothing of it is a failure of the server.
func FuzzRequests(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","prompt":"a","max_tokens":2,"logprobs":1,"echo":true}`, `{"model":"m","prompt":[[1,2],[]],"n":2,"stream":true,"max_tokens":1}`,
		`{"model":"m","messages":[{"role":"user","content":null}],"max_completion_tokens":1,"seed":-1}`, `{"model":"e","input":["a",""]}`,
		`{"model":"m","prompt":"","stop":"\u00e9","top_p":1e-300,"temperature":1e-300,"max_tokens":3}`, `null`, `{"model":"m","prompt":"\ud800 \u0000"}`,
	} {
		f.Add(seed)
	}
	s := New(Config{MaxBody: 4096, MaxScored: 200, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := errors.Join(s.AddModel("m", tinyModel(f, 16)), s.AddEmbedder("e", fixed{})); err != nil {
		f.Fatal(err)
	}
	handler := s.Handler()
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings"} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
			if w.Code >= 500 {
				t.Fatalf("%s answered %d: %s", path, w.Code, w.Body)
			}
			if w.Code != http.StatusOK && !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s: %s", path, w.Body)
			}
		}
	})
}
