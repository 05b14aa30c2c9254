package server

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/internal/godocs"
	"github.com/refitml/refit/runtime/llama"
)

// defaultModel has the shape that training takes where a spec says nothing else, with random weights.
func defaultModel(b *testing.B) *Model {
	b.Helper()
	documents, err := godocs.Documents("io", "os", "net/http")
	require.NoError(b, err)
	var texts []string
	for _, d := range documents {
		texts = append(texts, d.Rendered())
	}
	tokenizer, err := bpe.Learn(slices.Values(texts), 1024)
	require.NoError(b, err)
	c := llama.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", VocabSize: tokenizer.Size(), HiddenSize: 96, IntermediateSize: 256,
		Layers: 3, Heads: 4, KVHeads: 2, Context: 128, NormEpsilon: 1e-5, RopeTheta: 10000, Activation: "silu", TieEmbeddings: true, DType: "float32",
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
			w[i] = float32(rng.NormFloat64() * 0.1)
		}
		weights = append(weights, w)
	}
	m, err := llama.New(c, weights)
	require.NoError(b, err)
	model, err := NewModel(m, tokenizer)
	require.NoError(b, err)
	return model
}

// Over HTTP, one client and several: tokens/s counts what the server says it computed.
func BenchmarkServer(b *testing.B) {
	s := New(Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(b, s.AddModel("m", defaultModel(b)))
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	post := func(path, body string) error {
		response, err := http.Post(server.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	window := strings.Repeat("Read reads up to len(p) bytes into p and returns their number. ", 4)[:200]
	const chat = `"messages":[{"role":"user","content":"How do I read a file to its end?"}],"max_tokens":64,"temperature":0.7,"top_p":0.95}`
	for _, bench := range []struct{ name, path, body string }{
		{"chat", "/v1/chat/completions", `{"model":"m",` + chat},
		{"stream", "/v1/chat/completions", `{"model":"m","stream":true,` + chat},
		{"score-200-bytes", "/v1/completions", `{"model":"m","echo":true,"max_tokens":0,"logprobs":1,"prompt":"` + window + `"}`},
	} {
		computed := func() int64 {
			s.metrics.mu.Lock()
			defer s.metrics.mu.Unlock()
			if strings.HasPrefix(bench.name, "score") {
				return s.metrics.promptTokens["m"]
			}
			return s.metrics.completionTokens["m"]
		}
		b.Run(bench.name+"/alone", func(b *testing.B) {
			before := computed()
			for b.Loop() {
				if err := post(bench.path, bench.body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(computed()-before)/b.Elapsed().Seconds(), "tokens/s")
		})
		b.Run(bench.name+"/many", func(b *testing.B) {
			before := computed()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := post(bench.path, bench.body); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(computed()-before)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
