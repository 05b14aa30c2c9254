package server

import (
	"math"
	"unicode/utf8"
)

type completionsRequest struct {
	asked
	Prompt   tokenLists `json:"prompt"`
	Echo     bool       `json:"echo"`
	Logprobs *int       `json:"logprobs"`
}

type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   *usage             `json:"usage,omitempty"`
}

type completionChoice struct {
	Index        int       `json:"index"`
	Text         string    `json:"text"`
	Logprobs     *logprobs `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
}

// logprobs is the completions API's form; offsets count characters of the choice's text.
type logprobs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []*float64           `json:"token_logprobs"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

// ruler measures in which character of a text each token begins. Bytes that are no character count one each, as
// they are shown.
type ruler struct {
	characters int    // whole ones so far
	begun      string // bytes of one that is not yet whole
}

func (r *ruler) add(s string) (offset int) {
	all, from := r.begun+s, len(r.begun)
	offset = r.characters
	for len(all) > 0 && utf8.FullRuneInString(all) {
		_, size := utf8.DecodeRuneInString(all)
		all, from = all[size:], from-size
		r.characters++
		if from >= 0 {
			offset = r.characters
		}
	}
	r.begun = all
	return offset
}

// list gives tokens in the API's form.
func (r *ruler) list(m *Model, tokens []scored) *logprobs {
	l := &logprobs{Tokens: []string{}, TokenLogprobs: []*float64{}, TopLogprobs: []map[string]float64{}, TextOffset: []int{}}
	for _, t := range tokens {
		l.Tokens = append(l.Tokens, m.name(t.token))
		l.TextOffset = append(l.TextOffset, r.add(m.tokenizer.Bytes(t.token)))
		if math.IsNaN(t.logprob) {
			l.TokenLogprobs, l.TopLogprobs = append(l.TokenLogprobs, nil), append(l.TopLogprobs, nil)
			continue
		}
		top := make(map[string]float64, len(t.top))
		for _, c := range t.top {
			top[m.name(c.Token)] = c.Logprob
		}
		l.TokenLogprobs, l.TopLogprobs = append(l.TokenLogprobs, &t.logprob), append(l.TopLogprobs, top)
	}
	return l
}

// completionJob is a request that was understood.
type completionJob struct {
	completionsRequest
	x       *exchange
	model   *Model
	plan    generation
	prompts [][]int
	n, max  int
}

func (s *Server) completions(x *exchange) error {
	j := completionJob{x: x}
	if err := x.read(&j.completionsRequest); err != nil {
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
	if j.Stream {
		return j.streamed()
	}
	return j.whole()
}

func (j *completionJob) understand(s *Server) (err error) {
	j.x.stream = j.Stream
	if j.model = s.models[j.Model]; j.model == nil {
		return unknownModel(j.Model, "completions")
	}
	j.x.model = j.Model
	if j.n, err = j.choices(); err != nil {
		return err
	}
	if err := j.check(j.n); err != nil {
		return err
	}
	if j.max, err = j.tokens(16); err != nil {
		return err
	}
	if j.plan, err = j.generation(j.model); err != nil {
		return err
	}
	if j.Logprobs != nil {
		if *j.Logprobs < 0 || *j.Logprobs > maxTop {
			return invalid("logprobs", "is %d; give 0 to %d", *j.Logprobs, maxTop)
		}
		j.plan.top = *j.Logprobs
	}
	if n := j.Prompt.count(); n == 0 || n*j.n > maxChoices {
		return invalid("prompt", "%d prompts of %d choices; give 1 to %d choices in all", n, j.n, maxChoices)
	}
	if j.prompts, err = j.Prompt.encode(j.model); err != nil {
		return err
	}
	if !j.scores() {
		return nil
	}
	total := 0
	for _, p := range j.prompts {
		total += len(p)
	}
	if total > s.config.MaxScored {
		return tooLong("prompt", "has %d tokens; at most %d are scored at once", total, s.config.MaxScored)
	}
	return nil
}

func (j *completionJob) scores() bool { return j.Echo && j.plan.top >= 0 }

// each makes all choices, one after another. emit gets their pieces, and at the end of each a finish reason.
func (j *completionJob) each(emit func(index int, p piece, finish string) error) error {
	ctx := j.x.r.Context()
	for i, full := range j.prompts {
		prompt, room := fit(full, j.model.context(), j.max)
		read := prompt
		var echo piece
		if j.Echo {
			echo.text = j.model.tokenizer.Decode(full)
		}
		if j.scores() {
			read = full
			var err error
			if echo.tokens, err = j.model.score(ctx, full, j.plan.top); err != nil {
				return err
			}
		}
		j.x.usage.PromptTokens += len(read)
		j.x.cut += len(full) - len(read)
		for k := range j.n {
			index := i*j.n + k
			if j.Echo {
				if err := emit(index, echo, ""); err != nil {
					return err
				}
			}
			g := j.plan.choice(k)
			g.prompt, g.max = prompt, room
			finish, made, err := g.run(ctx, func(p piece) error { return emit(index, p, "") })
			j.x.usage.CompletionTokens += made
			j.x.usage.TotalTokens = j.x.usage.PromptTokens + j.x.usage.CompletionTokens
			if err != nil {
				return err
			}
			if err := emit(index, piece{}, finish); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *completionJob) head() completion {
	return completion{ID: "cmpl-" + j.x.name, Object: "text_completion", Created: j.x.began.Unix(), Model: j.Model}
}

func (j *completionJob) whole() error {
	answer := j.head()
	answer.Choices = make([]completionChoice, len(j.prompts)*j.n)
	tokens := make([][]scored, len(answer.Choices))
	err := j.each(func(index int, p piece, finish string) error {
		c := &answer.Choices[index]
		c.Index = index
		c.Text += p.text
		tokens[index] = append(tokens[index], p.tokens...)
		if finish != "" {
			c.FinishReason = &finish
		}
		return nil
	})
	if err != nil {
		return err
	}
	if j.plan.top >= 0 {
		for i := range answer.Choices {
			answer.Choices[i].Logprobs = new(ruler).list(j.model, tokens[i])
		}
	}
	answer.Usage = &j.x.usage
	return j.x.whole(answer)
}

func (j *completionJob) streamed() error {
	rulers := make([]ruler, len(j.prompts)*j.n)
	err := j.each(func(index int, p piece, finish string) error {
		chunk, c := j.head(), completionChoice{Index: index, Text: p.text}
		if j.plan.top >= 0 && len(p.tokens) > 0 {
			c.Logprobs = rulers[index].list(j.model, p.tokens)
		}
		if finish != "" {
			c.FinishReason = &finish
		}
		chunk.Choices = []completionChoice{c}
		return j.x.send(chunk)
	})
	if err != nil {
		return err
	}
	if j.usageInStream() {
		chunk := j.head()
		chunk.Choices, chunk.Usage = []completionChoice{}, &j.x.usage
		if err := j.x.send(chunk); err != nil {
			return err
		}
	}
	return j.x.done()
}
