package server

import (
	"context"
	"errors"
	"math"
	"strings"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/llama"
)

// Why a generation ended.
const (
	finishStop   = "stop"   // a stop text, or the end-of-text token
	finishLength = "length" // max_tokens, or the context's end
)

// generation is one choice to be made.
type generation struct {
	model    *Model
	prompt   []int // fits
	max      int   // tokens
	stops    []string
	sampling llama.Sampling
	top      int // likeliest tokens to report beside each; -1: no log probabilities at all
}

// scored is a token with what is reported of it.
type scored struct {
	token   int
	logprob float64 // NaN where a token has none: the first
	top     []llama.Candidate
}

// piece is text that will not be taken back, with the tokens that it came of.
type piece struct {
	text   string
	tokens []scored // none where nobody asked for log probabilities
}

// fit cuts a prompt to what a context holds beside up to want tokens, but not below half of the context, and says
// how many tokens may be generated.
func fit(prompt []int, context, want int) (kept []int, room int) {
	keep := max(context-want, context/2)
	if over := len(prompt) - keep; over > 0 {
		prompt = prompt[over:]
	}
	return prompt, min(want, context-len(prompt))
}

// run generates. emit gets each piece as soon as it is certain. made counts tokens also where there is an error.
func (g *generation) run(ctx context.Context, emit func(piece) error) (finish string, made int, err error) {
	if g.max == 0 {
		return finishLength, 0, nil
	}
	sampler, err := llama.NewSampler(g.sampling)
	if err != nil {
		return "", 0, err
	}
	session := g.model.session()
	defer g.model.sessions.Put(session)
	out := text{stops: g.stops}
	next := g.prompt
	if len(next) == 0 {
		next = []int{bpe.EndOfText}
	}
	for {
		if err := ctx.Err(); err != nil {
			return "", made, err
		}
		logits, err := session.Append(next)
		if err != nil {
			return "", made, err
		}
		token := sampler.Next(logits)
		if l := logits[token]; l-l != 0 {
			return "", made, errors.New("a logit is not a finite number")
		}
		made++
		if token == g.model.llama.Config().EOS {
			return finishStop, made, send(emit, out.rest())
		}
		p, stopped := out.add(g.model.tokenizer.Bytes(token), g.report(token, logits))
		if stopped {
			return finishStop, made, send(emit, p)
		}
		if made == g.max || session.Room() == 0 {
			rest := out.rest()
			return finishLength, made, send(emit, piece{p.text + rest.text, append(p.tokens, rest.tokens...)})
		}
		if err := send(emit, p); err != nil {
			return "", made, err
		}
		next = []int{token}
	}
}

func send(emit func(piece) error, p piece) error {
	if p.text == "" && len(p.tokens) == 0 {
		return nil
	}
	return emit(p)
}

func (g *generation) report(token int, logits []float32) []scored {
	if g.top < 0 {
		return nil
	}
	return []scored{{token, float64(logits[token]) - llama.LogSum(logits), llama.Likeliest(logits, g.top)}}
}

// text gathers what was generated and lets go of it once no stop text and no character is in the middle.
type text struct {
	stops  []string
	held   string
	tokens []scored // of what is held
}

// add takes the bytes of one more token.
func (t *text) add(s string, tokens []scored) (p piece, stopped bool) {
	t.held += s
	t.tokens = append(t.tokens, tokens...)
	if at := firstStop(t.held, t.stops); at >= 0 {
		return piece{t.held[:at], t.tokens}, true
	}
	certain := len(bpe.Complete(t.held))
	for _, stop := range t.stops {
		certain = min(certain, len(t.held)-begun(t.held, stop))
	}
	if certain == 0 {
		return piece{}, false
	}
	p = piece{t.held[:certain], t.tokens}
	t.held, t.tokens = t.held[certain:], nil
	return p, false
}

func (t *text) rest() piece { return piece{t.held, t.tokens} }

// firstStop gives where the first of the stop texts begins, or -1.
func firstStop(s string, stops []string) int {
	first := -1
	for _, stop := range stops {
		if at := strings.Index(s, stop); at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	return first
}

// begun gives how many bytes at the end of s are a beginning of stop.
func begun(s, stop string) int {
	for n := min(len(s), len(stop)-1); n > 0; n-- {
		if strings.HasPrefix(stop, s[len(s)-n:]) {
			return n
		}
	}
	return 0
}

// score gives each token of a prompt with its log probability under the ones before it; see the package's comment for
// prompts longer than the context.
func (m *Model) score(ctx context.Context, prompt []int, top int) ([]scored, error) {
	out := make([]scored, 0, len(prompt))
	if len(prompt) > 0 {
		out = append(out, scored{token: prompt[0], logprob: math.NaN()})
	}
	session := m.session()
	defer m.sessions.Put(session)
	for from := 0; len(out) < len(prompt); from += m.context() / 2 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		session.Reset()
		window := prompt[from:min(from+m.context(), len(prompt))]
		bad := false
		err := session.Walk(window, func(i int, logits []float32) {
			at := from + i + 1 // the token that the logits are of
			if at != len(out) || at == len(prompt) {
				return
			}
			logprob := float64(logits[prompt[at]]) - llama.LogSum(logits)
			bad = bad || logprob-logprob != 0
			out = append(out, scored{prompt[at], logprob, llama.Likeliest(logits, top)})
		})
		if err != nil {
			return nil, err
		}
		if bad {
			return nil, errors.New("a log probability is not a finite number")
		}
	}
	return out, nil
}
