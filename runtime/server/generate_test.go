package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/llama"
)

func quoted(t testing.TB, s string) string {
	t.Helper()
	raw, err := json.Marshal(s)
	require.NoError(t, err)
	return string(raw)
}

// greedy is what the model says, computed step by step without a server.
func greedy(t testing.TB, m *Model, prompt []int, n int) (tokens []int) {
	t.Helper()
	s := m.llama.NewSession()
	for next := prompt; len(tokens) < n; next = tokens[len(tokens)-1:] {
		logits, err := s.Append(next)
		require.NoError(t, err)
		best := llama.Likeliest(logits, 1)[0].Token
		if best == bpe.EndOfText {
			break
		}
		tokens = append(tokens, best)
	}
	return tokens
}

func TestAnAnswerIsWhatTheModelSays(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	prompt := r.model.tokenizer.Encode("Package files\nopens")
	want := strings.ToValidUTF8(r.model.tokenizer.Decode(greedy(t, r.model, prompt, 12)), "")
	answer := ask[chatCompletion](r, "/v1/chat/completions", `{"model":"m","max_tokens":12,"temperature":0,"messages":[
		{"role":"system","content":"Package files"},{"role":"user","content":[{"type":"text","text":"opens"}]}]}`)
	require.Equal(t, "chat.completion", answer.Object)
	require.Equal(t, "m", answer.Model)
	require.Equal(t, "assistant", answer.Choices[0].Message.Role)
	require.Equal(t, want, strings.ReplaceAll(*answer.Choices[0].Message.Content, "\ufffd", ""))
	require.Equal(t, usage{len(prompt), 12, len(prompt) + 12}, *answer.Usage)
	require.Equal(t, finishLength, *answer.Choices[0].FinishReason)
	require.Nil(t, answer.Choices[0].Logprobs)

	// Completions of the same tokens say the same.
	list, err := json.Marshal(prompt)
	require.NoError(t, err)
	said := ask[completion](r, "/v1/completions", `{"model":"m","max_tokens":12,"temperature":0,"prompt":`+string(list)+`}`)
	require.Equal(t, *answer.Choices[0].Message.Content, said.Choices[0].Text)
}

// A stream says what the whole answer says, whatever the parameters.
func TestAStreamSaysTheSame(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	for _, parameters := range []string{
		`"seed":1`, `"seed":2,"temperature":2,"n":3`, `"seed":3,"top_p":0.5`, `"seed":4,"stop":["e","a "]`, `"seed":5,"max_tokens":0`,
		`"seed":6,"logprobs":true,"top_logprobs":2,"temperature":2`,
	} {
		body := `{"model":"m","messages":[{"role":"user","content":"Größe"}],` + parameters
		whole := ask[chatCompletion](r, "/v1/chat/completions", body+`}`)
		chunks := events[chatCompletion](r, "/v1/chat/completions", body+`,"stream":true,"stream_options":{"include_usage":true}}`)
		last := chunks[len(chunks)-1]
		require.Empty(t, last.Choices)
		require.Equal(t, whole.Usage, last.Usage, parameters)
		texts, finish, tokens := map[int]string{}, map[int]string{}, map[int][]chatToken{}
		for i, c := range chunks[:len(chunks)-1] {
			require.Equal(t, "chat.completion.chunk", c.Object)
			require.Equal(t, chunks[0].ID, c.ID)
			require.Nil(t, c.Usage)
			require.Len(t, c.Choices, 1)
			choice := c.Choices[0]
			require.Empty(t, finish[choice.Index], "nothing comes after a finish reason")
			_, begun := texts[choice.Index]
			require.Equal(t, !begun, choice.Delta.Role == "assistant", "chunk %d", i)
			texts[choice.Index] += orElse(choice.Delta.Content, "")
			finish[choice.Index] = orElse(choice.FinishReason, "")
			if choice.Logprobs != nil {
				tokens[choice.Index] = append(tokens[choice.Index], choice.Logprobs.Content...)
			}
		}
		require.Len(t, texts, len(whole.Choices))
		for i, c := range whole.Choices {
			require.Equal(t, *c.Message.Content, texts[i], parameters)
			require.Equal(t, *c.FinishReason, finish[i], parameters)
			if c.Logprobs != nil {
				require.Equal(t, c.Logprobs.Content, tokens[i], parameters)
			}
		}
	}
	for _, c := range events[chatCompletion](r, "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":3,"stream":true}`) {
		require.Len(t, c.Choices, 1, "nobody asked for the usage")
	}
}

func TestASeedDecides(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	say := func(seed string) []string {
		answer := ask[completion](r, "/v1/completions", `{"model":"m","prompt":["The reader","A file"],"n":2,"max_tokens":10,"seed":`+seed+`}`)
		require.Len(t, answer.Choices, 4)
		var texts []string
		for i, c := range answer.Choices {
			require.Equal(t, i, c.Index)
			texts = append(texts, c.Text)
		}
		return texts
	}
	first := say("11")
	require.Equal(t, first, say("11"))
	require.NotEqual(t, first, say("12"))
	require.NotEqual(t, first[0], first[1], "choices differ")
	require.NotEqual(t, say("null"), say("null"), "without a seed nothing repeats")
}

// Wherever a stop text is cut into tokens, nothing of it is said.
func TestStopTexts(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	const body = `{"model":"m","prompt":"The reader reads","max_tokens":40,"temperature":0`
	full := ask[completion](r, "/v1/completions", body+`}`).Choices[0].Text
	require.Greater(t, utf8.RuneCountInString(full), 12)
	runes := []rune(full)
	for length := 1; length <= 6; length++ {
		stop := string(runes[5 : 5+length])
		want := full[:strings.Index(full, stop)]
		stops := quoted(t, stop)
		if strings.Contains(stop, "\ufffd") {
			continue // stands for bytes that no text can name
		}
		for _, form := range []string{stops, `["never comes",` + stops + `]`} {
			answer := ask[completion](r, "/v1/completions", body+`,"stop":`+form+`}`)
			require.Equal(t, want, answer.Choices[0].Text, "stop %q", stop)
			require.Equal(t, finishStop, *answer.Choices[0].FinishReason)
			require.LessOrEqual(t, answer.Usage.CompletionTokens, 40)
			streamed := ""
			for _, c := range events[completion](r, "/v1/completions", body+`,"stream":true,"stop":`+form+`}`) {
				streamed += c.Choices[0].Text
			}
			require.Equal(t, want, streamed, "stop %q", stop)
		}
	}
}

func TestTextIsHeldBackUntilItIsCertain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stops, tokens, want []string
		rest                string
	}{
		"nothing to wait for":            {nil, []string{"ab", "c"}, []string{"ab", "c"}, ""},
		"a character in two tokens":      {nil, []string{"a\xe2", "\x82", "\xac!"}, []string{"a", "", "€!"}, ""},
		"a stop that comes":              {[]string{"xyz"}, []string{"ax", "y", "z"}, []string{"a", "", ""}, ""},
		"a stop that does not come":      {[]string{"xyz"}, []string{"ax", "y", "y"}, []string{"a", "", "xyy"}, ""},
		"one inside another's beginning": {[]string{"abcd", "bc"}, []string{"xab", "c"}, []string{"x", "a"}, ""},
		"the end in the middle":          {[]string{"xyz"}, []string{"axy"}, []string{"a"}, "xy"},
		"half a character at the end":    {nil, []string{"a\xe2\x82"}, []string{"a"}, "\xe2\x82"},
		"bytes that are no character":    {nil, []string{"\xff\xfe", "a"}, []string{"\xff\xfe", "a"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := text{stops: tc.stops}
			for i, token := range tc.tokens {
				p, stopped := out.add(token, nil)
				require.Equal(t, tc.want[i], p.text)
				if stopped {
					return
				}
			}
			require.Equal(t, tc.rest, out.rest().text)
		})
	}
}

// Scores as internal/answer reads them: every token after the first, offsets in characters, log probabilities of
// the model itself.
func TestScoresOfAText(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	for _, s := range append(sentences, "\nPackage x", "a") {
		tokens := r.model.tokenizer.Encode(s)
		answer := ask[completion](r, "/v1/completions", `{"model":"m","prompt":`+quoted(t, s)+`,"max_tokens":0,"echo":true,"logprobs":1,"temperature":0}`)
		require.Equal(t, s, answer.Choices[0].Text)
		require.Equal(t, usage{len(tokens), 0, len(tokens)}, *answer.Usage)
		l := answer.Choices[0].Logprobs
		require.Len(t, l.Tokens, len(tokens))
		require.Len(t, l.TokenLogprobs, len(tokens))
		require.Len(t, l.TopLogprobs, len(tokens))
		require.Nil(t, l.TokenLogprobs[0])
		require.Nil(t, l.TopLogprobs[0])
		session := r.model.llama.NewSession()
		at, characters := 0, []int{} // character in which each byte lies
		for i, c := range s {
			for range utf8.RuneLen(c) {
				characters = append(characters, utf8.RuneCountInString(s[:i]))
			}
		}
		for i, token := range tokens {
			require.Equal(t, characters[at], l.TextOffset[i], "token %d of %q", i, s)
			at += len(r.model.tokenizer.Bytes(token))
			if i == len(tokens)-1 || session.Room() == 0 {
				break
			}
			logits, err := session.Append([]int{token})
			require.NoError(t, err)
			want := float64(logits[tokens[i+1]]) - llama.LogSum(logits)
			require.InDelta(t, want, *l.TokenLogprobs[i+1], 1e-9)
			require.Len(t, l.TopLogprobs[i+1], 1)
			for name, logprob := range l.TopLogprobs[i+1] {
				best := llama.Likeliest(logits, 1)[0]
				require.Equal(t, r.model.name(best.Token), name)
				require.InDelta(t, best.Logprob, logprob, 1e-9)
				require.GreaterOrEqual(t, logprob, want)
			}
		}
	}
}

// A text longer than the context is scored to its end, each token by at least half a context.
func TestScoresBeyondTheContext(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	long := strings.Repeat(sentences[0]+" ", 8)
	tokens := r.model.tokenizer.Encode(long)
	context := r.model.context()
	require.Greater(t, len(tokens), 3*context)
	answer := ask[completion](r, "/v1/completions", `{"model":"m","prompt":`+quoted(t, long)+`,"max_tokens":0,"echo":true,"logprobs":0}`)
	got := answer.Choices[0].Logprobs.TokenLogprobs
	require.Len(t, got, len(tokens))
	require.Equal(t, len(tokens), answer.Usage.PromptTokens)
	for i := 1; i < len(tokens); i += 5 {
		from := 0
		if i > context {
			from = (i - context - 1) / (context / 2) * (context / 2)
			from += context / 2
		}
		session := r.model.llama.NewSession()
		logits, err := session.Append(tokens[from:i])
		require.NoError(t, err)
		require.InDelta(t, float64(logits[tokens[i]])-llama.LogSum(logits), *got[i], 1e-9, "token %d", i)
		require.GreaterOrEqual(t, i-from, min(i, context/2))
	}
}

func TestAnEchoStandsBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	const body = `{"model":"m","prompt":"A file that is open","max_tokens":6,"temperature":0,"logprobs":2`
	plain := ask[completion](r, "/v1/completions", body+`}`)
	echo := ask[completion](r, "/v1/completions", body+`,"echo":true}`)
	require.Equal(t, "A file that is open"+plain.Choices[0].Text, echo.Choices[0].Text)
	l, n := echo.Choices[0].Logprobs, echo.Usage.PromptTokens
	require.Equal(t, plain.Choices[0].Logprobs.Tokens, l.Tokens[n:])
	require.Equal(t, plain.Choices[0].Logprobs.TokenLogprobs, l.TokenLogprobs[n:])
	require.Equal(t, utf8.RuneCountInString("A file that is open"), l.TextOffset[n])
	require.Zero(t, plain.Choices[0].Logprobs.TextOffset[0])
	var streamed logprobs
	text := ""
	for _, c := range events[completion](r, "/v1/completions", body+`,"echo":true,"stream":true}`) {
		text += c.Choices[0].Text
		if part := c.Choices[0].Logprobs; part != nil {
			streamed.Tokens = append(streamed.Tokens, part.Tokens...)
			streamed.TextOffset = append(streamed.TextOffset, part.TextOffset...)
		}
	}
	require.Equal(t, echo.Choices[0].Text, text)
	require.Equal(t, l.Tokens, streamed.Tokens)
	require.Equal(t, l.TextOffset, streamed.TextOffset)
}

// Log probabilities are the model's own, and those of a chat add up to what a score of the same text says.
func TestLogprobsAreTheModelsOwn(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	chat := ask[chatCompletion](r, "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"The buffer"}],
		"max_tokens":8,"seed":5,"temperature":1.7,"top_p":0.6,"logprobs":true,"top_logprobs":3}`)
	tokens := r.model.tokenizer.Encode("The buffer")
	for _, said := range chat.Choices[0].Logprobs.Content {
		var raw []byte
		for _, b := range said.Bytes {
			raw = append(raw, byte(b))
		}
		session := r.model.llama.NewSession()
		logits, err := session.Append(tokens)
		require.NoError(t, err)
		require.Len(t, said.Top, 3)
		require.GreaterOrEqual(t, said.Top[0].Logprob, said.Top[1].Logprob)
		token := -1
		for i := range r.model.tokenizer.Size() {
			if r.model.tokenizer.Bytes(i) == string(raw) && i != bpe.EndOfText {
				token = i
			}
		}
		require.InDelta(t, float64(logits[token])-llama.LogSum(logits), said.Logprob, 1e-9)
		tokens = append(tokens, token)
	}
}

func TestALongPromptIsCutAtItsBeginning(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	long := strings.Repeat(sentences[2]+" ", 10)
	tokens := r.model.tokenizer.Encode(long)
	context := r.model.context()
	for want, kept := range map[int]int{0: context, 10: context - 10, 40: context / 2, 1000: context / 2} {
		answer := ask[chatCompletion](r, "/v1/chat/completions", fmt.Sprintf(
			`{"model":"m","messages":[{"role":"user","content":%s}],"max_tokens":%d,"temperature":0}`, quoted(t, long), want))
		require.Equal(t, kept, answer.Usage.PromptTokens, "max_tokens %d", want)
		require.LessOrEqual(t, answer.Usage.CompletionTokens, min(want, context-kept))
		entries := r.log.entries(t)
		require.Equal(t, len(tokens)-kept, entries[len(entries)-1].CutTokens)
		said := strings.ToValidUTF8(r.model.tokenizer.Decode(greedy(t, r.model, tokens[len(tokens)-kept:], min(want, context-kept))), "")
		require.Equal(t, said, strings.ReplaceAll(*answer.Choices[0].Message.Content, "\ufffd", ""))
	}
	// Without a limit an answer fills the context, and a short prompt is not cut.
	answer := ask[chatCompletion](r, "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"A"}],"seed":1,"temperature":2}`)
	require.LessOrEqual(t, answer.Usage.TotalTokens, context)
	require.Equal(t, 1, answer.Usage.PromptTokens)
	// An empty prompt begins where documents do.
	empty := ask[completion](r, "/v1/completions", `{"model":"m","prompt":"","max_tokens":5,"temperature":0}`)
	want := strings.ToValidUTF8(r.model.tokenizer.Decode(greedy(t, r.model, []int{bpe.EndOfText}, 5)), "")
	require.Equal(t, want, strings.ReplaceAll(empty.Choices[0].Text, "\ufffd", ""))
}

func TestNamesOfTokens(t *testing.T) {
	t.Parallel()
	m := tinyModel(t, 8)
	require.Equal(t, "<|endoftext|>", m.name(bpe.EndOfText))
	require.Equal(t, "A", m.name(m.tokenizer.Encode("A")[0]))
	require.Equal(t, `bytes:\xe2`, m.name(1+0xe2))
	require.Equal(t, `bytes:\x80`, m.name(1+0x80))
}

func TestARulerCountsCharacters(t *testing.T) {
	t.Parallel()
	var r ruler
	for i, token := range []string{"ab", "\xe2", "\x82", "\xacx", "", "\x80", "\xe2", "y", "🙂"} {
		require.Equal(t, []int{0, 2, 2, 2, 4, 4, 5, 6, 7}[i], r.add(token), "token %d", i)
	}
}
