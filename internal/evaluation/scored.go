package evaluation

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// asker puts the cases of a suite to one release.
type asker struct {
	model   Completer
	search  Searcher
	speak   Speaker
	seed    uint64           // of the suite
	scorers map[string]ready // by capability
}

func newAsker(s Suite, model Completer, search Searcher, how Asking) (*asker, error) {
	a := &asker{model: model, search: search, speak: how.Speaker, seed: s.Seed, scorers: map[string]ready{}}
	for _, c := range s.Capabilities {
		made := ready{Capability: c}
		if c.Scorer != nil {
			scorer, err := score.New(*c.Scorer, how.World)
			if err != nil {
				return nil, lifecycle.Wrap(err, "capability %s", c.Name)
			}
			made.scorer = &scorer
		}
		a.scorers[c.Name] = made
	}
	return a, nil
}

// ask puts one case for the given time.
func (a *asker) ask(ctx context.Context, c Case, sample int) (Answer, error) {
	capability := a.scorers[c.Capability]
	if capability.scorer == nil {
		answer, err := Ask(ctx, capability.Kind, c, a.model, a.search)
		answer.Sample = sample
		return answer, err
	}
	answer := Answer{Case: c.ID, Capability: c.Capability, Sample: sample}
	item := score.Item{Question: c.Text, Want: c.References(), Relevant: c.Relevant, Passages: c.Passages}
	if err := a.fill(ctx, capability, c, &answer, &item); err != nil {
		return answer, lifecycle.Wrap(err, "case %s", c.ID)
	}
	if capability.scorer.Pair != nil {
		return answer, nil // it is worth something beside another release's only
	}
	var err error
	if answer.Score, err = capability.scorer.Score(ctx, item); err == nil {
		return answer, nil
	}
	if ctx.Err() != nil || lifecycle.Is(err, lifecycle.Unavailable) {
		return answer, lifecycle.Wrap(err, "case %s", c.ID) // asking again may help
	}
	answer.Error = cut(err.Error(), maxSaid)
	return answer, nil
}

// fill asks, and notes what came for the answer and for its scorer.
func (a *asker) fill(ctx context.Context, capability ready, c Case, answer *Answer, item *score.Item) error {
	switch capability.Kind {
	case Generate:
		return a.generate(ctx, capability, c, answer, item)
	case Choice:
		for _, choice := range c.Choices {
			likely, err := continuation(ctx, c.Text, choice, a.model)
			if err != nil {
				return err
			}
			item.Choices = append(item.Choices, likely)
		}
		by, err := score.ChosenBy(*capability.Scorer)
		if err != nil {
			return err
		}
		answer.Said, err = score.Likeliest(item.Choices, by)
		answer.Said = cut(answer.Said, maxSaid)
		return err
	case Likelihood:
		text, measure := c.Text, bits
		if c.Want != "" {
			text = c.Want
			measure = func(ctx context.Context, text string, model Completer) (measured, error) {
				return bitsAfter(ctx, c.Text, text, model)
			}
		}
		m, err := measure(ctx, text, a.model)
		answer.Bits, answer.Bytes = m.bits, m.bytes
		item.Text, item.Bits, item.Bytes, item.Tokens = text, m.bits, m.bytes, m.tokens
		return err
	case Retrieval:
		return a.find(ctx, capability, c, answer, item)
	default:
		return lifecycle.Errorf(lifecycle.Invalid, "unknown kind %q", capability.Kind)
	}
}

// generate lets the release answer as a user would be answered. Where the case brings no passages, those count that
// the release showed to its model.
func (a *asker) generate(ctx context.Context, capability ready, c Case, answer *Answer, item *score.Item) error {
	if a.speak == nil {
		return lifecycle.Errorf(lifecycle.Invalid, "the release cannot be asked for an answer in words")
	}
	how := Speaking{Temperature: new(float64), Seed: seedOf(a.seed, c.ID, answer.Sample)}
	if s := capability.Sampling; s != nil {
		if s.Temperature != nil {
			how.Temperature = s.Temperature
		}
		if s.Seed != 0 {
			how.Seed = seedOf(s.Seed, c.ID, answer.Sample)
		}
		how.TopP, how.MaxTokens = s.TopP, s.MaxTokens
	}
	spoken, err := a.speak.Say(ctx, append(slices.Clone(c.Messages), Message{Role: "user", Content: c.Text}), how)
	if err != nil {
		return err
	}
	answer.Said, answer.Seed = Bounded(spoken.Text), how.Seed
	if capability.scorer.Pair != nil {
		answer.Said = cut(spoken.Text, maxCompared)
		if len(spoken.Text) > maxCompared {
			answer.Error = fmt.Sprintf("the answer is longer than the %d bytes that are kept to be compared", maxCompared)
		}
	}
	answer.Seconds, answer.Usage, answer.Parameters = spoken.Seconds, spoken.Usage, spoken.Parameters
	item.Said, item.Seconds, item.Usage = spoken.Text, spoken.Seconds, spoken.Usage
	if len(item.Passages) == 0 {
		item.Passages = spoken.Passages
	}
	return nil
}

// seedOf draws the seed of one answer. It has 31 bits, which every server can read.
func seedOf(seed uint64, id string, sample int) int64 {
	return int64(hash(seed, "sample", id, strconv.Itoa(sample)) >> 33)
}

func (a *asker) find(ctx context.Context, capability ready, c Case, answer *Answer, item *score.Item) error {
	if a.search == nil {
		return lifecycle.Errorf(lifecycle.Invalid, "it asks an index and the release has none")
	}
	depth, err := score.Depth(*capability.Scorer)
	if err != nil {
		return err
	}
	if item.Found, err = a.search.SearchDocuments(ctx, c.Text, depth); err != nil {
		return err
	}
	answer.Rank = slices.IndexFunc(item.Found, func(document string) bool {
		return slices.Contains(item.Want, document) || c.Relevant[document] > 0
	}) + 1
	return nil
}

// Bounded is what is kept of a long answer.
func Bounded(said string) string { return cut(said, maxSpoken) }

func cut(said string, most int) string {
	if len(said) <= most {
		return said
	}
	return strings.ToValidUTF8(said[:most], "")
}
