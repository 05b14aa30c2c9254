package server

import (
	"encoding/json"
	"math"
	"strings"
)

type chatRequest struct {
	asked
	Messages    []message `json:"messages"`
	Logprobs    bool      `json:"logprobs"`
	TopLogprobs *int      `json:"top_logprobs"`
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is null, a text or a list of text parts.
type content string

func (c *content) UnmarshalJSON(raw []byte) error {
	var s *string
	if json.Unmarshal(raw, &s) == nil {
		*c = content(orElse(s, ""))
		return nil
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return invalid("messages", "a content is neither a text nor a list of parts")
	}
	var texts []string
	for _, p := range parts {
		if p.Type != "text" || p.Text == nil {
			return invalid("messages", "a content has a part of type %q; only text is supported", bounded(p.Type))
		}
		texts = append(texts, *p.Text)
	}
	*c = content(strings.Join(texts, "\n"))
	return nil
}

type chatCompletion struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   *usage       `json:"usage,omitempty"`
}

type chatChoice struct {
	Index        int           `json:"index"`
	Message      *said         `json:"message,omitempty"`
	Delta        *said         `json:"delta,omitempty"`
	Logprobs     *chatLogprobs `json:"logprobs"`
	FinishReason *string       `json:"finish_reason"`
}

type said struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type chatLogprobs struct {
	Content []chatToken `json:"content"`
}

type chatToken struct {
	Token   string      `json:"token"`
	Logprob float64     `json:"logprob"`
	Bytes   []int       `json:"bytes"`
	Top     []chatToken `json:"top_logprobs,omitempty"`
}

func chatTokens(m *Model, tokens []scored) *chatLogprobs {
	one := func(token int, logprob float64) chatToken {
		t := chatToken{Token: m.name(token), Logprob: max(logprob, -math.MaxFloat32), Bytes: []int{}}
		for _, b := range []byte(m.tokenizer.Bytes(token)) {
			t.Bytes = append(t.Bytes, int(b))
		}
		return t
	}
	l := &chatLogprobs{Content: []chatToken{}}
	for _, t := range tokens {
		entry := one(t.token, t.logprob)
		for _, c := range t.top {
			entry.Top = append(entry.Top, one(c.Token, c.Logprob))
		}
		l.Content = append(l.Content, entry)
	}
	return l
}

// chatJob is a request that was understood.
type chatJob struct {
	chatRequest
	x     *exchange
	model *Model
	plan  generation
	n     int
}

func (s *Server) chat(x *exchange) error {
	j := chatJob{x: x}
	if err := x.read(&j.chatRequest); err != nil {
		return err
	}
	if err := j.understand(s); err != nil {
		return err
	}
	release, err := x.admit()
	if err != nil {
		return err
	}
	defer release()
	x.usage.PromptTokens = len(j.plan.prompt)
	if j.Stream {
		return j.streamed()
	}
	return j.whole()
}

func (j *chatJob) understand(s *Server) (err error) {
	j.x.stream = j.Stream
	if j.model = s.models[j.Model]; j.model == nil {
		return unknownModel(j.Model, "chat")
	}
	j.x.model = j.Model
	if j.n, err = j.choices(); err != nil {
		return err
	}
	if err := j.check(j.n); err != nil {
		return err
	}
	if j.plan, err = j.generation(j.model); err != nil {
		return err
	}
	if top := orElse(j.TopLogprobs, 0); top < 0 || top > maxTop || top > 0 && !j.Logprobs {
		return invalid("top_logprobs", "is %d; give 0 to %d, with logprobs", top, maxTop)
	}
	if j.Logprobs {
		j.plan.top = orElse(j.TopLogprobs, 0)
	}
	if len(j.Messages) == 0 {
		return invalid("messages", "missing or empty; give at least one message")
	}
	contents := make([]string, len(j.Messages))
	for i, m := range j.Messages {
		if m.Role == "" {
			return invalid("messages", "message %d has no role", i)
		}
		contents[i] = string(m.Content)
	}
	want, err := j.tokens(j.model.context())
	if err != nil {
		return err
	}
	full := j.model.tokenizer.Encode(strings.Join(contents, "\n"))
	j.plan.prompt, j.plan.max = fit(full, j.model.context(), want)
	j.x.cut = len(full) - len(j.plan.prompt)
	return nil
}

// each makes all choices, one after another. emit gets their pieces, and at the end of each a finish reason.
func (j *chatJob) each(emit func(index int, p piece, finish string) error) error {
	for i := range j.n {
		g := j.plan.choice(i)
		finish, made, err := g.run(j.x.r.Context(), func(p piece) error { return emit(i, p, "") })
		j.x.usage.CompletionTokens += made
		j.x.usage.TotalTokens = j.x.usage.PromptTokens + j.x.usage.CompletionTokens
		if err != nil {
			return err
		}
		if err := emit(i, piece{}, finish); err != nil {
			return err
		}
	}
	return nil
}

func (j *chatJob) head(object string) chatCompletion {
	return chatCompletion{ID: "chatcmpl-" + j.x.name, Object: object, Created: j.x.began.Unix(), Model: j.Model}
}

func (j *chatJob) whole() error {
	answer := j.head("chat.completion")
	texts, tokens := make([]string, j.n), make([][]scored, j.n)
	answer.Choices = make([]chatChoice, j.n)
	err := j.each(func(index int, p piece, finish string) error {
		texts[index] += p.text
		tokens[index] = append(tokens[index], p.tokens...)
		if finish != "" {
			answer.Choices[index].FinishReason = &finish
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range answer.Choices {
		c := &answer.Choices[i]
		c.Index, c.Message = i, &said{Role: "assistant", Content: &texts[i]}
		if j.plan.top >= 0 {
			c.Logprobs = chatTokens(j.model, tokens[i])
		}
	}
	answer.Usage = &j.x.usage
	return j.x.whole(answer)
}

func (j *chatJob) streamed() error {
	begun := make([]bool, j.n)
	err := j.each(func(index int, p piece, finish string) error {
		c := chatChoice{Index: index, Delta: &said{}}
		if !begun[index] {
			begun[index] = true
			c.Delta.Role, c.Delta.Content = "assistant", new(string)
		}
		if p.text != "" {
			c.Delta.Content = &p.text
		}
		if j.plan.top >= 0 && len(p.tokens) > 0 {
			c.Logprobs = chatTokens(j.model, p.tokens)
		}
		if finish != "" {
			c.FinishReason = &finish
		}
		chunk := j.head("chat.completion.chunk")
		chunk.Choices = []chatChoice{c}
		return j.x.send(chunk)
	})
	if err != nil {
		return err
	}
	if j.usageInStream() {
		chunk := j.head("chat.completion.chunk")
		chunk.Choices, chunk.Usage = []chatChoice{}, &j.x.usage
		if err := j.x.send(chunk); err != nil {
			return err
		}
	}
	return j.x.done()
}
