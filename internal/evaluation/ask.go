package evaluation

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Completer is a release that answers, through the code that users meet.
type Completer interface {
	// Score gives the natural logarithm of each token's probability after the first, and the byte of text
	// where that token begins.
	Score(ctx context.Context, text string) (logprobs []float64, offsets []int, err error)
	// Complete goes on from a text by at most max tokens.
	Complete(ctx context.Context, prompt string, max int) (string, error)
}

// Searcher finds the k documents nearest to a query and gives their IDs, best first.
type Searcher interface {
	SearchDocuments(ctx context.Context, query string, k int) ([]string, error)
}

// Speaker is a release that answers a chat, through the code that users meet.
type Speaker interface {
	// Say answers; the last message is the user's.
	Say(ctx context.Context, chat []Message, how Speaking) (Spoken, error)
}

// Speaking is what a client may ask of an answer. Whether it holds is for the release to say.
type Speaking struct {
	Temperature, TopP *float64
	MaxTokens         int // 0: the release's
	Seed              int64
}

// Spoken is an answer as its user would get it.
type Spoken struct {
	Text       string
	Passages   []string // that the release showed to the model
	Seconds    float64
	Usage      lifecycle.Usage // zero where the server did not tell
	Parameters json.RawMessage // numbers that the answer was made with
}

// Answer is what came of one case, asked once.
type Answer struct {
	Case       string  `json:"case"`
	Capability string  `json:"capability"`
	Sample     int     `json:"sample,omitempty"` // from 0; cases that are asked repeatedly have several answers
	Score      float64 `json:"score"`            // larger is better
	Said       string  `json:"said,omitempty"`   // what was said or chosen, bounded
	Bits       float64 `json:"bits,omitempty"`   // of a scored text
	Bytes      int     `json:"bytes,omitempty"`
	Rank       int     `json:"rank,omitempty"`  // of the first right document from 1; 0 where it was not found
	Error      string  `json:"error,omitempty"` // why it has no score; a gate that reads it cannot judge

	// Of answers in words.
	Seconds    float64         `json:"seconds,omitempty"` // that a user would have waited
	Usage      lifecycle.Usage `json:"usage,omitzero"`
	Seed       int64           `json:"seed,omitempty"` // asked for
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

const (
	wordTokens  = 8  // tokens that a word is given
	searchDepth = 10 // documents asked for
	maxSaid     = 200
	maxSpoken   = 4 << 10 // bytes of an answer in words that are kept

	maxCompared = 64 << 10 // likewise where it will be compared with another release's; a longer one is an error
)

// Ask puts one case of a kind that needs no scorer. An error means that there is no answer; a wrong answer is none.
// Searcher may be nil where the suite has no retrieval case.
func Ask(ctx context.Context, kind string, c Case, model Completer, search Searcher) (Answer, error) {
	a := Answer{Case: c.ID, Capability: c.Capability}
	var err error
	switch kind {
	case BitsPerByte:
		var m measured
		m, err = bits(ctx, c.Text, model)
		a.Bits, a.Bytes = m.bits, m.bytes
		a.Score = -a.Bits / float64(max(1, a.Bytes))
	case NextToken:
		var said string
		said, err = model.Complete(ctx, c.Text, wordTokens)
		a.Said = firstWord(said)
		a.Score = truth(a.Said == c.Want)
	case Cloze:
		a.Said, err = likeliest(ctx, c, model)
		a.Score = truth(a.Said == c.Want)
	case Retrieval:
		if search == nil {
			return a, lifecycle.Errorf(lifecycle.Invalid, "case %s asks an index and the release has none", c.ID)
		}
		var found []string
		found, err = search.SearchDocuments(ctx, c.Text, searchDepth)
		a.Rank = slices.Index(found, c.Want) + 1
		if a.Rank > searchDepth {
			a.Rank = 0
		}
		a.Score = truth(a.Rank > 0 && a.Rank <= recallDepth)
	default:
		return a, lifecycle.Errorf(lifecycle.Invalid, "case %s: unknown kind %q", c.ID, kind)
	}
	if err == nil && !finite(a.Score) {
		err = lifecycle.Errorf(lifecycle.Unavailable, "the score is no number")
	}
	return a, lifecycle.Wrap(err, "case %s", c.ID)
}

func truth(right bool) float64 {
	if right {
		return 1
	}
	return 0
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// bits scores a text. A line break stands before it, because a first token has no probability; where a
// server scores from later on (it cut the text to its context), that is an error and no better score.
func bits(ctx context.Context, text string, model Completer) (measured, error) {
	text = "\n" + text
	logprobs, offsets, err := model.Score(ctx, text)
	if err != nil {
		return measured{}, err
	}
	if err := checkScores(text, logprobs, offsets); err != nil {
		return measured{}, err
	}
	if first := offsets[0]; first > maxFirst {
		return measured{}, lifecycle.Errorf(lifecycle.Invalid, "the server scored from byte %d only: the text does not fit its context", first)
	}
	var sum float64
	for _, l := range logprobs {
		sum -= l / math.Ln2
	}
	return measured{bits: sum, bytes: len(text) - offsets[0], tokens: len(logprobs)}, nil
}

// bitsAfter scores a text that stands after another one. A token that lies in both counts whole.
func bitsAfter(ctx context.Context, before, text string, model Completer) (measured, error) {
	likely, err := continuation(ctx, before, text, model)
	return measured{bits: -likely.Logprob / math.Ln2, bytes: len(text), tokens: likely.Tokens}, err
}

// measured is how well a text was foreseen.
type measured struct {
	bits          float64
	bytes, tokens int
}

// maxFirst is how many bytes a first token may have before it counts as a cut text.
const maxFirst = 32

func checkScores(text string, logprobs []float64, offsets []int) error {
	if len(logprobs) == 0 || len(logprobs) != len(offsets) {
		return lifecycle.Errorf(lifecycle.Unavailable, "%d log probabilities and %d offsets", len(logprobs), len(offsets))
	}
	for i, l := range logprobs {
		if !finite(l) || l > 1e-6 || offsets[i] < 0 || offsets[i] > len(text) || i > 0 && offsets[i] < offsets[i-1] {
			return lifecycle.Errorf(lifecycle.Unavailable, "token %d has no proper log probability or offset", i)
		}
	}
	return nil
}

// likeliest chooses among a cloze's words by the probability of the word after the text.
func likeliest(ctx context.Context, c Case, model Completer) (string, error) {
	best, said := math.Inf(-1), ""
	for _, word := range c.Choices {
		choice, err := continuation(ctx, c.Text, " "+word, model)
		if err != nil {
			return "", err
		}
		if choice.Logprob > best {
			best, said = choice.Logprob, word
		}
	}
	return said, nil
}

// continuation gives the likelihood of a text after another one.
func continuation(ctx context.Context, before, after string, model Completer) (score.Choice, error) {
	choice, text := score.Choice{Text: after}, before+after
	logprobs, offsets, err := model.Score(ctx, text)
	if err != nil {
		return choice, err
	}
	if err := checkScores(text, logprobs, offsets); err != nil {
		return choice, err
	}
	for i, l := range logprobs {
		end := len(text)
		if i+1 < len(offsets) {
			end = offsets[i+1]
		}
		if end > len(before) {
			choice.Logprob, choice.Tokens = choice.Logprob+l, choice.Tokens+1
		}
	}
	if choice.Tokens == 0 {
		return choice, lifecycle.Errorf(lifecycle.Unavailable, "no token of the word was scored")
	}
	return choice, nil
}

// firstWord gives the first run of letters at the beginning of what was said.
func firstWord(said string) string {
	fields := strings.Fields(said)
	if len(fields) == 0 {
		return ""
	}
	word := strings.TrimFunc(fields[0], func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if len(word) > maxSaid {
		word = strings.ToValidUTF8(word[:maxSaid], "")
	}
	return word
}
