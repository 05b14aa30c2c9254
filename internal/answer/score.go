package answer

import (
	"context"
	"encoding/json"
	"net/http"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// Client asks one release on one server from inside the process: how the gate puts its cases. Every call
// goes through Path.Do, so prompt, parameters and rules hold as they do for users.
type Client struct {
	Path     *Path
	Bundle   *Bundle
	Upstream Upstream
	Seed     int64 // of sampled answers; the same seed gives the same answer where the server honours it
}

// Complete goes on from a text by at most max tokens and gives what users would read, without the prompt. It
// asks for the likeliest tokens; where the release lets nobody choose, its own temperature holds.
func (c Client) Complete(ctx context.Context, prompt string, max int) (string, error) {
	doc, err := c.ask(ctx, map[string]any{"model": c.model(), "prompt": prompt, "max_tokens": max, "temperature": 0, "seed": c.Seed})
	if err != nil {
		return "", lifecycle.Wrap(err, "complete a text")
	}
	var said completion
	if err := json.Unmarshal(doc, &said); err != nil || len(said.Choices) == 0 {
		return "", lifecycle.Errorf(lifecycle.Unavailable, "the answer to a completion is not one")
	}
	return said.Choices[0].Text, nil
}

// Chat asks as a user asks and gives what the user would read: the release's prompt, retrieval, parameters and rules
// hold. Body is a request of /v1/chat/completions without a model, and no stream. An answer without text is empty.
func (c Client) Chat(ctx context.Context, body map[string]any) (string, Result, error) {
	body["model"] = c.model()
	raw, err := requestWith(body)
	if err != nil {
		return "", Result{}, err
	}
	var got buffer
	result, err := c.Path.Do(ctx, c.Bundle, c.Upstream, Request{Endpoint: Chat, Body: raw}, &got)
	if err != nil {
		return "", *result, lifecycle.Wrap(err, "answer a chat")
	}
	var said struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(got.body, &said); err != nil || len(said.Choices) == 0 {
		return "", *result, lifecycle.Errorf(lifecycle.Unavailable, "the answer to a chat is not one")
	}
	return said.Choices[0].Message.Content, *result, nil
}

// Score gives the natural logarithm of the probability of each token of text after the first, given the
// ones before it, and the byte in text where that token begins. The first token has no probability; it ends
// where the first offset says. A server that does not score a text given to it is Unavailable.
func (c Client) Score(ctx context.Context, text string) (logprobs []float64, offsets []int, err error) {
	doc, err := c.ask(ctx, map[string]any{
		"model": c.model(), "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 1, "temperature": 0,
	})
	if err != nil {
		return nil, nil, lifecycle.Wrap(err, "score a text")
	}
	var said completion
	if err := json.Unmarshal(doc, &said); err != nil || len(said.Choices) == 0 || said.Choices[0].Logprobs == nil {
		return nil, nil, lifecycle.Errorf(lifecycle.Unavailable, "the answer holds no log probabilities of the text")
	}
	return said.Choices[0].Logprobs.scores(text)
}

func (c Client) model() string { return c.Bundle.Release.Service }

func (c Client) ask(ctx context.Context, body map[string]any) ([]byte, error) {
	raw, err := requestWith(body)
	if err != nil {
		return nil, err
	}
	var got buffer
	if _, err := c.Path.Do(ctx, c.Bundle, c.Upstream, Request{Endpoint: Completions, Body: raw}, &got); err != nil {
		return nil, err
	}
	return got.body, nil
}

type completion struct {
	Choices []struct {
		Text     string       `json:"text"`
		Logprobs *logprobList `json:"logprobs"`
	} `json:"choices"`
}

// logprobList is the completions API's form: text_offset counts characters.
type logprobList struct {
	Tokens        []string   `json:"tokens"`
	TokenLogprobs []*float64 `json:"token_logprobs"`
	TextOffset    []int      `json:"text_offset"`
}

func (l logprobList) scores(text string) ([]float64, []int, error) {
	n := len(l.TokenLogprobs)
	if n == 0 || n != len(l.TextOffset) {
		return nil, nil, lifecycle.Errorf(lifecycle.Unavailable, "%d log probabilities and %d offsets do not fit", n, len(l.TextOffset))
	}
	bytesAt := make([]int, 0, len(text)+1) // byte where each character begins
	for i := range text {
		bytesAt = append(bytesAt, i)
	}
	bytesAt = append(bytesAt, len(text))
	var logprobs []float64
	var offsets []int
	before := 0
	for i, at := range l.TextOffset {
		if at < before || at >= len(bytesAt) {
			return nil, nil, lifecycle.Errorf(lifecycle.Unavailable, "offset %d of token %d lies outside the %d characters", at, i, utf8.RuneCountInString(text))
		}
		before = at
		switch logprob := l.TokenLogprobs[i]; {
		case logprob != nil:
			logprobs, offsets = append(logprobs, *logprob), append(offsets, bytesAt[at])
		case i > 0:
			return nil, nil, lifecycle.Errorf(lifecycle.Unavailable, "token %d of %d has no log probability", i, n)
		}
	}
	return logprobs, offsets, nil
}

// buffer is a sink in memory.
type buffer struct{ body []byte }

func (b *buffer) Start(int, http.Header) {}
func (b *buffer) Flush() error           { return nil }
func (b *buffer) Write(p []byte) (int, error) {
	b.body = append(b.body, p...)
	return len(p), nil
}
