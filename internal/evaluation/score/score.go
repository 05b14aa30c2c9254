package score

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// Item is one answer to one case, with all that a scorer may look at. What a capability does not ask for is zero.
type Item struct {
	Question string   // the case's text, or its last user message
	Said     string   // as a user would read it
	Want     []string // reference answers; any of them is right
	Passages []string // that the answer must be supported by

	Choices []Choice // with their likelihood

	Text   string  // whose likelihood was measured
	Bits   float64 // of that text
	Bytes  int     // that the bits are for
	Tokens int     // likewise

	Found    []string           // documents, best first
	Relevant map[string]float64 // documents by their grade; over 0 is relevant

	Seconds float64 // from the request to the end of the answer
	Usage   lifecycle.Usage
}

// Choice is one of the texts that a model chooses among.
type Choice struct {
	Text    string
	Logprob float64 // natural logarithm of its probability after the question
	Tokens  int
}

// Asks says what a scorer looks at, and so what a case must be asked.
type Asks string

const (
	Text       Asks = "text"       // an answer in words
	Choices    Asks = "choice"     // the likelihood of each choice
	Likelihood Asks = "likelihood" // of a given text
	Ranking    Asks = "retrieval"  // documents found
)

// Spec names a scorer and its settings, as suites hold it.
type Spec struct {
	Name     string          `json:"name"`
	Settings json.RawMessage `json:"settings,omitempty"` // the scorer's own; left out: its defaults
}

// Scorer is a scorer with its settings.
type Scorer struct {
	Entry
	Metric string                                       // what reports call the score
	Score  func(context.Context, Item) (float64, error) // of one answer
	Check  func(Item) error                             // what is wrong with a case, before it is asked; nil: nothing can be

	Categories []float64 // all scores that there are; nil: any number

	// Pair compares the answers of two releases to one question, where that is what is scored; Score fails then.
	Pair func(ctx context.Context, question, one, other string) (Preference, error)
}

// Entry is one line of the table.
type Entry struct {
	Name   string
	Asks   Asks
	Binary bool   // gives 0 or 1
	Wants  bool   // needs a reference answer
	Less   bool   // what is measured is better when it is less; scores are negated
	Asked  bool   // somebody outside gives the score, and may be mistaken
	Source string // of the definition

	settings any // zero value of the scorer's settings
	build    func(raw json.RawMessage, world World) (Scorer, error)
}

// Settings names the fields that the scorer's settings may have.
func (e Entry) Settings() []string { return fieldsOf(reflect.TypeOf(e.settings)) }

// Less says whether what a metric of the table names is better when it is less: scores are its negative.
func Less(metric string) bool {
	return slices.Contains([]string{"bits-per-byte", "seconds", "cost"}, metric) || strings.HasSuffix(metric, "-perplexity")
}

// World is whom scorers may ask outside of this process. It is the operator's: a suite only names what is in it.
type World struct {
	Judges   map[string]Judge
	Commands map[string]Command
}

// New makes a scorer ready. An unknown name, an unknown setting and one that cannot be meant are Invalid. Judges and
// commands are looked for when they are asked, so that a suite can be checked where there are none.
func New(spec Spec, world World) (Scorer, error) {
	for _, entry := range Table() {
		if entry.Name != spec.Name {
			continue
		}
		made, err := entry.build(spec.Settings, world)
		if err != nil {
			return Scorer{}, lifecycle.Wrap(err, "scorer %s", spec.Name)
		}
		made.Entry = entry
		if entry.Binary {
			made.Categories = []float64{0, 1}
		}
		if made.Metric == "" {
			made.Metric = entry.Name
		}
		ask := made.Score
		made.Score = func(ctx context.Context, item Item) (float64, error) {
			value, err := ask(ctx, item)
			if err == nil && (math.IsNaN(value) || math.IsInf(value, 0)) {
				err = lifecycle.Errorf(lifecycle.Invalid, "the score is no number")
			}
			if err != nil {
				return 0, lifecycle.Wrap(err, "score by %s", entry.Name)
			}
			return value, nil
		}
		if pair := made.Pair; pair != nil {
			made.Wants = false
			made.Pair = func(ctx context.Context, question, one, other string) (Preference, error) {
				preferred, err := pair(ctx, question, one, other)
				return preferred, lifecycle.Wrap(err, "compare by %s", entry.Name)
			}
		}
		return made, nil
	}
	return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "scorer %q: give one of %s", spec.Name, strings.Join(Names(), ", "))
}

// Names lists the scorers.
func Names() []string {
	var names []string
	for _, entry := range Table() {
		names = append(names, entry.Name)
	}
	return names
}

// made joins a scorer's settings with what it does.
func made[S any](entry Entry, build func(S, World) (Scorer, error)) Entry {
	var none S
	entry.settings = none
	entry.build = func(raw json.RawMessage, world World) (Scorer, error) {
		var s S
		if err := decode(raw, &s); err != nil {
			return Scorer{}, err
		}
		return build(s, world)
	}
	return entry
}

// decode reads settings strictly: an unknown field is named with the fields that there are.
func decode(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		return nil
	}
	allowed := fieldsOf(reflect.TypeOf(into).Elem())
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "settings: give an object: %w", err)
	}
	for name := range fields {
		if !slices.Contains(allowed, name) {
			return lifecycle.Errorf(lifecycle.Invalid, "settings: unknown field %q; the fields are %s", name, orNone(allowed))
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if err := decoder.Decode(into); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "settings: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return lifecycle.Errorf(lifecycle.Invalid, "settings: something follows them")
	}
	return nil
}

func fieldsOf(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// best gives the largest of the values that the answer has against each reference.
func best(item Item, against func(want string) float64) (float64, error) {
	if len(item.Want) == 0 {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "the case has no reference answer")
	}
	value := math.Inf(-1)
	for _, want := range item.Want {
		value = max(value, against(want))
	}
	return value, nil
}

// fits gives 1 where the answer fits one of the references.
func fits(item Item, one func(want string) bool) (float64, error) {
	return best(item, func(want string) float64 { return truth(one(want)) })
}

func truth(right bool) float64 {
	if right {
		return 1
	}
	return 0
}

// pure makes a scorer that asks nobody.
func pure(score func(Item) (float64, error)) Scorer {
	return Scorer{Score: func(_ context.Context, item Item) (float64, error) { return score(item) }}
}

// positive refuses a setting that must be over 0, and puts a default in place of 0.
func positive(name string, value *int, byDefault, most int) error {
	if *value == 0 {
		*value = byDefault
	}
	if *value < 1 || *value > most {
		return lifecycle.Errorf(lifecycle.Invalid, "settings: %s: %d; give 1 to %d", name, *value, most)
	}
	return nil
}

func oneOf(name, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return lifecycle.Errorf(lifecycle.Invalid, "settings: %s: %q; give one of %s", name, value, strings.Join(allowed, ", "))
	}
	return nil
}

func at(metric string, k int) string { return fmt.Sprintf("%s@%d", metric, k) }
