package evaluation

import (
	"cmp"
	"slices"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Kinds of capabilities: how a case is asked. The first four say by themselves how it is scored, and need no scorer;
// Retrieval may have one.
const (
	BitsPerByte = "bits-per-byte" // how well a text is foreseen
	NextToken   = "next-token"    // the next word, said by the likeliest tokens
	Cloze       = "cloze"         // the true word among four, by likelihood
	Retrieval   = "retrieval"     // the documents that answer a query

	Generate   = "generate"   // an answer in words, as users get it
	Choice     = "choice"     // one of given texts, by likelihood
	Likelihood = "likelihood" // how well a given text is foreseen
)

// Splits of a suite. A case belongs to one of them, and so do all cases of its group.
const (
	GateSplit   = "gate"   // what gates ask, and nobody else
	SearchSplit = "search" // what variants may be tried against; gates refuse it
)

// Versions of the form of suites. Build writes the first one, in which the kinds that need a scorer and what is marked as
// of version 2 do not occur.
const (
	BuiltVersion = 1
	SuiteVersion = 2
)

// Suite is a set of cases grouped by what a model must be able to do.
type Suite struct {
	Version      int          `json:"version"`
	Name         string       `json:"name,omitempty"` // version 2
	Seed         uint64       `json:"seed"`           // that the cases were drawn with, and that seeds of answers are drawn from
	Capabilities []Capability `json:"capabilities"`

	Agreement *lifecycle.Agreement `json:"agreement,omitempty"` // version 2; that judges must have with people

	Cases []Case `json:"-"` // in cases.jsonl
}

// Capability is one thing that a model must be able to do.
type Capability struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind"`
	Metric string  `json:"metric"`          // "bits-per-byte", "accuracy", "recall@5", or what the scorer calls it
	Margin float64 `json:"margin"`          // drop that is still accepted, in the metric's unit; over 0
	Items  int     `json:"items"`           // cases in the suite
	Exact  bool    `json:"exact,omitempty"` // limits by betting: exact and wider; scores must lie between 0 and 1

	Scorer   *score.Spec `json:"scorer,omitempty"`   // version 2
	Sampling *Sampling   `json:"sampling,omitempty"` // version 2; nil: each case is asked once
	Tags     []string    `json:"tags,omitempty"`     // version 2
}

// Sampling says how often and with what freedom a case is asked. The zero value works. Parameters hold as a user's
// do: where the release lets nobody choose, its own hold.
type Sampling struct {
	Samples     int      `json:"samples,omitempty"`     // answers to each case; default 1
	Temperature *float64 `json:"temperature,omitempty"` // default 0
	TopP        *float64 `json:"top_p,omitempty"`
	MaxTokens   int      `json:"max_tokens,omitempty"` // default: the release's
	Seed        uint64   `json:"seed,omitempty"`       // in place of the suite's
}

// Bounds of what a suite may ask.
const (
	maxSamples = 100
	maxWeight  = 100
	maxTokens  = 1 << 20
)

// Samples is how many answers each of the capability's cases has.
func (c Capability) Samples() int {
	if c.Sampling == nil {
		return 1
	}
	return max(1, c.Sampling.Samples)
}

// Binary says whether each case's score is 0 or 1.
func (c Capability) Binary() bool {
	if c.Scorer == nil {
		return c.Kind != BitsPerByte
	}
	entry, ok := scorerEntry(c.Scorer.Name)
	return ok && entry.Binary
}

func scorerEntry(name string) (score.Entry, bool) {
	table := score.Table()
	at := slices.IndexFunc(table, func(e score.Entry) bool { return e.Name == name })
	if at < 0 {
		return score.Entry{}, false
	}
	return table[at], true
}

// Case is one item.
type Case struct {
	ID         string   `json:"id"` // stable: of the same text and kind always the same
	Capability string   `json:"capability"`
	Group      string   `json:"group"`             // cases of one group are not independent
	Text       string   `json:"text"`              // to score, to go on from, to search with, or the last user message
	Want       string   `json:"want,omitempty"`    // the right word, answer, choice or document; of a likelihood, the text that is measured after Text
	Choices    []string `json:"choices,omitempty"` // the right one among them

	// All of version 2.
	Also     []string           `json:"also,omitempty"`     // further right answers
	Messages []Message          `json:"messages,omitempty"` // of a chat that comes before Text
	Passages []string           `json:"passages,omitempty"` // that an answer must be supported by; none: those that the release shows
	Relevant map[string]float64 `json:"relevant,omitempty"` // documents by grade, for retrieval
	Weight   int                `json:"weight,omitempty"`   // see the package's description; default 1
	Split    string             `json:"split,omitempty"`    // default gate
	Tags     []string           `json:"tags,omitempty"`
	Human    *Human             `json:"human,omitempty"`
}

// Message is one turn of a chat.
type Message struct {
	Role    string `json:"role"` // system, user or assistant
	Content string `json:"content"`
}

// Human is what a person said of an answer to a case. It is there to hold scorers against: no release is scored by it.
type Human struct {
	Said  string  `json:"said"`           // the answer
	Over  string  `json:"over,omitempty"` // the other answer, where two are compared
	Score float64 `json:"score"`          // of said; where scores are categories, one of them, else on any scale
}

// References gives the case's right answers.
func (c Case) References() []string {
	if c.Want == "" {
		return c.Also
	}
	return append([]string{c.Want}, c.Also...)
}

// Only gives the suite with the cases of one split, and without capabilities that have none there. A suite that
// checks has cases of every capability in the split of gates. No case at all is Invalid.
func (s Suite) Only(split string) (Suite, error) {
	count := map[string]int{}
	only := s
	only.Cases, only.Capabilities = nil, nil
	for _, c := range s.Cases {
		if cmp.Or(c.Split, GateSplit) == split {
			only.Cases = append(only.Cases, c)
			count[c.Capability]++
		}
	}
	for _, c := range s.Capabilities {
		if c.Items = count[c.Name]; c.Items > 0 {
			only.Capabilities = append(only.Capabilities, c)
		}
	}
	if len(only.Cases) == 0 {
		return only, lifecycle.Errorf(lifecycle.Invalid, "the suite has no case in the split %q", split)
	}
	return only, nil
}

// With gives a suite of version 2 with another one's capabilities and cases behind its own. Names that stand in both are
// for Check to find.
func (s Suite) With(other Suite) Suite {
	s.Capabilities = append(slices.Clone(s.Capabilities), other.Capabilities...)
	s.Cases = append(slices.Clone(s.Cases), other.Cases...)
	return s
}

// forGates refuses cases that variants may have been tried against: a gate that asks them proves nothing.
func (s Suite) forGates() error {
	for _, c := range s.Cases {
		if c.Split == SearchSplit {
			return lifecycle.Errorf(lifecycle.Invalid, "case %s is of the split %s, which gates refuse", c.ID, SearchSplit)
		}
	}
	return nil
}
