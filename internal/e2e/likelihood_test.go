package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// The scorers that look at likelihoods, asked of a model that was really trained and is really served: it knows its words from
// noise, and what the gate says of it is what its server says.
func TestScorersOfLikelihoodsAskTheReferenceRuntime(t *testing.T) {
	t.Parallel()
	program(t, "refit-runtime")
	w := newWorld(t, onSharedStack(t))
	const cases = 60 // under 50 groups nothing is judged
	words, noise := w.writeLikelihoods(cases)
	w.startConsole()
	w.worker.start()
	w.apply(fmt.Sprintf(`service: %s
serving: {engine: local}
corpora: {base: {sources: [{kind: folder, path: %q}]}}
training: {base: {vocab_size: 300, layers: 1, width: 32, heads: 2, context: 96, batch: 4, slices: 1, steps: 300, checkpoint_every: 300}}
evaluation: {suite: {folder: %q}}
`, w.service, w.writeCorpus("notes", 120, 3), w.path("corpora", "likelihoods")))
	var run started
	w.refit(&run, "train", w.service, "--stage", "base")
	trained, err := ended[steps.PretrainingResult](w, run)
	require.NoError(t, err)

	var verdict lifecycle.Verdict
	w.refit(&verdict, "evaluate", w.service, "--release", string(trained.Release), "--baseline", string(trained.Release), "--watch")
	scores := map[string]float64{}
	for _, c := range verdict.Capabilities {
		scores[c.Capability] = c.Candidate
		require.Equal(t, cases, c.Items)
		require.Equal(t, lifecycle.PassOutcome, c.Outcome, c.Reason)
		require.InDelta(t, c.Baseline, c.Candidate, 0, "it is as good as itself")
	}
	require.Len(t, scores, 7)
	for _, choice := range []string{"choice", "choice-by-bytes", "choice-by-tokens"} {
		require.Greater(t, scores[choice], 0.9, "it knows %s", choice)
	}
	require.Greater(t, scores["words"], scores["noise"]+1, "noise takes a bit more for each byte")

	endpoints, err := w.registry.Endpoints(context.Background(), w.service)
	require.NoError(t, err)
	require.NotEmpty(t, endpoints)
	said := asking{t: t, url: endpoints[0].URL, model: endpoints[0].Model}
	mean := func(of func(i int) float64) (sum float64) {
		for i := range cases {
			sum += of(i) / cases
		}
		return sum
	}
	require.InDelta(t, mean(func(i int) float64 { return -said.bits("\n", words[i]) / said.bytes("\n", words[i]) }), scores["words"], 1e-6)
	require.InDelta(t, mean(func(i int) float64 { return -said.bits("\n", noise[i]) / said.bytes("\n", noise[i]) }), scores["noise"], 1e-6)
	require.InDelta(t, mean(func(i int) float64 {
		return -math.Exp2(said.bits("\n", words[i]) / float64(len(strings.Fields(words[i]))))
	}), scores["perplexity"], 1e-3*-scores["perplexity"])
	require.InDelta(t, mean(func(i int) float64 { return -said.bits(words[i], " "+words[i]) / float64(1+len(words[i])) }), scores["after"], 1e-6)
}

// writeLikelihoods writes a suite of seven capabilities, each asked about the same texts, and gives these: some in the
// corpus' words and some in letters that make none.
func (w *world) writeLikelihoods(cases int) (words, noise []string) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(2, 7))
	files := map[string]*strings.Builder{}
	line := func(file string, fields map[string]any) {
		if files[file] == nil {
			files[file] = &strings.Builder{}
		}
		require.NoError(w.t, json.NewEncoder(files[file]).Encode(fields))
	}
	for i := range cases {
		text := []string{fmt.Sprint(i)} // no two are the same
		for range 4 {
			text = append(text, vocabulary[random.IntN(len(vocabulary))])
		}
		known := strings.Join(text[1:], " ")
		letters := make([]byte, len(known))
		for j := range letters {
			letters[j] = "qxzvjkw"[random.IntN(7)]
		}
		words, noise = append(words, known), append(noise, string(letters))
		id := fmt.Sprint("case-", i)
		line("words", map[string]any{"id": id, "text": known})
		line("noise", map[string]any{"id": id, "text": string(letters)})
		line("after", map[string]any{"id": id, "text": known, "want": " " + known})
		other := " " + string(letters[:8])
		line("choices", map[string]any{"id": id, "text": known, "choices": []string{other, " the"}, "want": " the"})
	}
	written := map[string]string{}
	for name, content := range files {
		written[name+".jsonl"] = content.String()
	}
	w.writeSuite("likelihoods", `suite: likelihoods
capabilities:
  - {name: choice, ask: choice, score: likeliest, margin: 0.1, files: [choices.jsonl]}
  - {name: choice-by-bytes, ask: choice, score: {name: likeliest, settings: {by: bytes}}, margin: 0.1, files: [choices.jsonl]}
  - {name: choice-by-tokens, ask: choice, score: {name: likeliest, settings: {by: tokens}}, margin: 0.1, files: [choices.jsonl]}
  - {name: words, ask: likelihood, score: bits-per-byte, margin: 0.1, files: [words.jsonl]}
  - {name: noise, ask: likelihood, score: bits-per-byte, margin: 0.1, files: [noise.jsonl]}
  - {name: perplexity, ask: likelihood, score: perplexity, margin: 1, files: [words.jsonl]}
  - {name: after, ask: likelihood, score: bits-per-byte, margin: 0.1, files: [after.jsonl]}
`, written)
	return words, noise
}

// asking asks a model server by itself.
type asking struct {
	t          *testing.T
	url, model string
}

// tokens gives the log-probability of each token that ends after a text, and where the first of them begins.
func (a asking) tokens(before, text string) (logprobs []float64, first int) {
	a.t.Helper()
	raw, err := json.Marshal(map[string]any{"model": a.model, "prompt": before + text, "echo": true, "logprobs": 1, "max_tokens": 0})
	require.NoError(a.t, err)
	resp, err := http.Post(a.url+"/v1/completions", "application/json", bytes.NewReader(raw))
	require.NoError(a.t, err)
	defer resp.Body.Close()
	var said struct {
		Choices []struct {
			Logprobs struct {
				Tokens   []string   `json:"tokens"`
				Logprobs []*float64 `json:"token_logprobs"`
				Offsets  []int      `json:"text_offset"`
			} `json:"logprobs"`
		} `json:"choices"`
	}
	require.NoError(a.t, json.NewDecoder(resp.Body).Decode(&said))
	require.Len(a.t, said.Choices, 1)
	scored := said.Choices[0].Logprobs
	first = -1
	for i, l := range scored.Logprobs {
		if l == nil || scored.Offsets[i]+len(scored.Tokens[i]) <= len(before) {
			continue
		}
		if first < 0 {
			first = scored.Offsets[i]
		}
		logprobs = append(logprobs, *l)
	}
	return logprobs, first
}

func (a asking) bits(before, text string) (bits float64) {
	logprobs, _ := a.tokens(before, text)
	for _, l := range logprobs {
		bits -= l / math.Ln2
	}
	return bits
}

// bytes is how many bytes of a text the bits are for.
func (a asking) bytes(before, text string) float64 {
	_, first := a.tokens(before, text)
	return float64(len(before) + len(text) - first)
}
