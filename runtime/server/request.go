package server

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"

	"github.com/refitml/refit/runtime/llama"
)

// asked is what chat and completions requests have in common.
type asked struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	N                   *int     `json:"n"`
	MaxTokens           *int     `json:"max_tokens"`
	MaxCompletionTokens *int     `json:"max_completion_tokens"`
	Temperature         *float64 `json:"temperature"`
	TopP                *float64 `json:"top_p"`
	Seed                *int64   `json:"seed"`
	Stop                stops    `json:"stop"`
	foreign
}

// foreign is what other servers know. A value that would change nothing is accepted.
type foreign struct {
	PresencePenalty   *float64       `json:"presence_penalty"`
	FrequencyPenalty  *float64       `json:"frequency_penalty"`
	RepetitionPenalty *float64       `json:"repetition_penalty"`
	TopK              *int           `json:"top_k"`
	MinP              *float64       `json:"min_p"`
	LogitBias         map[string]any `json:"logit_bias"`
	BestOf            *int           `json:"best_of"`
	Suffix            *string        `json:"suffix"`
	Tools             []any          `json:"tools"`
	Functions         []any          `json:"functions"`
	ResponseFormat    *struct {
		Type string `json:"type"`
	} `json:"response_format"`
}

func (f foreign) check(n int) error {
	for _, each := range []struct {
		name string
		used bool
	}{
		{"presence_penalty", differs(f.PresencePenalty, 0)}, {"frequency_penalty", differs(f.FrequencyPenalty, 0)},
		{"repetition_penalty", differs(f.RepetitionPenalty, 1)}, {"min_p", differs(f.MinP, 0)},
		{"top_k", differs(f.TopK, 0) && differs(f.TopK, -1)}, {"logit_bias", len(f.LogitBias) > 0},
		{"best_of", differs(f.BestOf, n)}, {"suffix", differs(f.Suffix, "")}, {"tools", len(f.Tools) > 0},
		{"functions", len(f.Functions) > 0}, {"response_format", f.ResponseFormat != nil && f.ResponseFormat.Type != "text"},
	} {
		if each.used {
			return invalid(each.name, "not supported by this server; leave it out")
		}
	}
	return nil
}

func differs[T comparable](given *T, neutral T) bool { return given != nil && *given != neutral }

const (
	maxChoices = 128
	maxStops   = 16
	maxTop     = 20 // likeliest tokens beside each
)

// stops is null, a text or a list of texts.
type stops []string

func (s *stops) UnmarshalJSON(raw []byte) error {
	var one *string
	if json.Unmarshal(raw, &one) == nil {
		*s = nil
		if one != nil {
			*s = stops{*one}
		}
		return nil
	}
	if json.Unmarshal(raw, (*[]string)(s)) != nil {
		return invalid("stop", "give a text or a list of texts")
	}
	return nil
}

// choices says how many answers are wanted.
func (a asked) choices() (int, error) {
	n := orElse(a.N, 1)
	if n < 1 || n > maxChoices {
		return 0, invalid("n", "is %d; give 1 to %d", n, maxChoices)
	}
	return n, nil
}

// tokens says how many tokens may be generated; standard where nothing is given.
func (a asked) tokens(standard int) (int, error) {
	for _, each := range []struct {
		name  string
		given *int
	}{{"max_completion_tokens", a.MaxCompletionTokens}, {"max_tokens", a.MaxTokens}} {
		if each.given == nil {
			continue
		}
		if *each.given < 0 {
			return 0, invalid(each.name, "is %d; give a whole number from 0", *each.given)
		}
		return *each.given, nil
	}
	return standard, nil
}

// generation gives what is asked for, but for the prompt and the number of tokens.
func (a asked) generation(m *Model) (generation, error) {
	g := generation{
		model: m, top: -1, stops: a.Stop,
		sampling: llama.Sampling{Temperature: orElse(a.Temperature, 1), TopP: orElse(a.TopP, 1), Seed: rand.Uint64()},
	}
	if a.Seed != nil {
		g.sampling.Seed = uint64(*a.Seed)
	}
	if t := g.sampling.Temperature; !(t >= 0 && t <= 2) {
		return g, invalid("temperature", "is %g; give 0 to 2", t)
	}
	if p := g.sampling.TopP; !(p > 0 && p <= 1) {
		return g, invalid("top_p", "is %g; give more than 0 and at most 1", p)
	}
	if len(a.Stop) > maxStops {
		return g, invalid("stop", "%d texts; give at most %d", len(a.Stop), maxStops)
	}
	for i, s := range a.Stop {
		if s == "" || len(s) > 256 {
			return g, invalid("stop", "text %d has %d bytes; give 1 to 256", i, len(s))
		}
	}
	return g, nil
}

// choice makes the generation of one of several choices: each has a seed of its own.
func (g generation) choice(i int) generation {
	g.sampling.Seed += uint64(i) * 0x9e3779b97f4a7c15
	return g
}

func (a asked) usageInStream() bool { return a.StreamOptions != nil && a.StreamOptions.IncludeUsage }

func orElse[T any](given *T, standard T) T {
	if given == nil {
		return standard
	}
	return *given
}

// tokenLists is one prompt or several, as text or as tokens.
type tokenLists struct {
	texts  []string
	tokens [][]int
}

func (p *tokenLists) UnmarshalJSON(raw []byte) error {
	var one string
	var numbers []int
	switch {
	case string(raw) == "null":
	case json.Unmarshal(raw, &one) == nil:
		p.texts = []string{one}
	case json.Unmarshal(raw, &p.texts) == nil:
	case json.Unmarshal(raw, &numbers) == nil:
		p.texts, p.tokens = nil, [][]int{numbers}
	case json.Unmarshal(raw, &p.tokens) == nil:
		p.texts = nil
	default:
		return invalid("", "prompt or input: give a text, a list of texts, a list of tokens or a list of such lists")
	}
	return nil
}

func (p tokenLists) count() int { return len(p.texts) + len(p.tokens) }

// encode gives the tokens of each prompt.
func (p tokenLists) encode(m *Model) ([][]int, error) {
	var lists [][]int
	encoder := m.tokenizer.Encoder()
	for _, t := range p.texts {
		lists = append(lists, encoder.AppendTo(nil, t))
	}
	for i, list := range p.tokens {
		for _, token := range list {
			if token < 0 || token >= m.tokenizer.Size() {
				return nil, invalid("prompt", "list "+strconv.Itoa(i)+" holds token %d; the vocabulary has %d", token, m.tokenizer.Size())
			}
		}
		lists = append(lists, list)
	}
	return lists, nil
}
