package score

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/refitml/refit/internal/lifecycle"
)

type refusalSettings struct {
	Phrases []string `json:"phrases"` // by which the model refuses
	Want    string   `json:"want"`    // answer (default): right is not to refuse; refusal: right is to refuse
}

func refusal(s refusalSettings, _ World) (Scorer, error) {
	s.Want = cmp.Or(s.Want, "answer")
	if err := oneOf("want", s.Want, "answer", "refusal"); err != nil {
		return Scorer{}, err
	}
	phrases := lifecycle.Phrases(strings.Join(s.Phrases, "\n"))
	if len(phrases) == 0 {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: phrases: none; name those by which the model refuses")
	}
	return pure(func(item Item) (float64, error) {
		if strings.TrimSpace(item.Said) == "" {
			return 0, nil // silence is neither an answer nor a refusal
		}
		return truth(hasPhrase(item.Said, phrases) == (s.Want == "refusal")), nil
	}), nil
}

func hasPhrase(said string, phrases []string) bool {
	said = lifecycle.Simplified("", said)
	return slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(said, p) })
}

type safeSettings struct {
	PII      []string `json:"pii"`      // kinds of personal data; left out: all
	Phrases  []string `json:"phrases"`  // denied, whatever their case and white space
	Patterns []string `json:"patterns"` // denied RE2 expressions
}

func safe(s safeSettings, _ World) (Scorer, error) {
	kinds := s.PII
	if kinds == nil {
		kinds = lifecycle.PIIKinds()
	}
	if _, err := lifecycle.NewMasker(kinds, s.Patterns); err != nil {
		return Scorer{}, lifecycle.Wrap(err, "settings")
	}
	forms, phrases := lifecycle.FormsOf(kinds), lifecycle.Phrases(strings.Join(s.Phrases, "\n"))
	var patterns []*regexp.Regexp
	for _, pattern := range s.Patterns {
		patterns = append(patterns, regexp.MustCompile(pattern)) // the masker took it
	}
	return pure(func(item Item) (float64, error) {
		_, found := forms.Scan(false).Feed(item.Said, true)
		denied := slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(item.Said) })
		return truth(len(found) == 0 && !denied && !hasPhrase(item.Said, phrases)), nil
	}), nil
}

type schemaSettings struct {
	Schema json.RawMessage `json:"schema"`
}

// jsonSchema holds answers against a schema that stands whole in the settings: one that points to an address or a
// file is refused, so that a suite can make nobody fetch anything.
func jsonSchema(s schemaSettings, _ World) (Scorer, error) {
	if len(s.Schema) == 0 {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: schema: none")
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(s.Schema)))
	if err != nil {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: schema: %w", err)
	}
	if !countable(document) {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: schema: a number of over %d digits", maxDigits)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nowhere{})
	if err := compiler.AddResource(schemaAddress, document); err != nil {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: schema: %w", err)
	}
	schema, err := compiler.Compile(schemaAddress)
	if err != nil {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: schema: %w", err)
	}
	return pure(func(item Item) (float64, error) {
		if len(item.Said) > maxJSON {
			return 0, nil
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(item.Said))
		return truth(err == nil && countable(value) && schema.Validate(value) == nil), nil
	}), nil
}

// maxDigits bounds a number in JSON, written out. Validation computes exactly, so 1e1000000000 would take all memory; no
// schema asks for such a number.
const maxDigits = 1000

// countable says whether every number in a JSON value is of a size that can be computed with.
func countable(value any) bool {
	switch v := value.(type) {
	case json.Number:
		mantissa, exponent, _ := strings.Cut(strings.ToLower(v.String()), "e")
		n, err := strconv.Atoi(cmp.Or(exponent, "0"))
		return err == nil && len(mantissa) <= maxDigits && -maxDigits <= n && n <= maxDigits
	case []any:
		return !slices.ContainsFunc(v, func(each any) bool { return !countable(each) })
	case map[string]any:
		for _, each := range v {
			if !countable(each) {
				return false
			}
		}
	}
	return true
}

// maxJSON bounds an answer, in bytes; a longer one is not taken for JSON, as by the rule json of a release.
const maxJSON = 256 << 10

// schemaAddress is where the schema itself stands; nothing else stands anywhere.
const schemaAddress = "suite:///schema"

// nowhere loads nothing.
type nowhere struct{}

func (nowhere) Load(address string) (any, error) {
	return nil, lifecycle.Errorf(lifecycle.Refused, "a schema may fetch nothing; put what %q names into $defs", address)
}

func latency(none, World) (Scorer, error) {
	scorer := pure(func(item Item) (float64, error) {
		if !(item.Seconds > 0) {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "the time was not measured")
		}
		return -item.Seconds, nil
	})
	scorer.Metric = "seconds"
	return scorer, nil
}

type costSettings struct {
	Input  float64 `json:"input"`  // price of a million tokens read
	Output float64 `json:"output"` // and written
}

func cost(s costSettings, _ World) (Scorer, error) {
	if !(s.Input >= 0) || !(s.Output >= 0) || !(s.Input+s.Output > 0) {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: give prices of a million tokens, input and output")
	}
	return pure(func(item Item) (float64, error) {
		if item.Usage == (lifecycle.Usage{}) {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "the model server did not tell the tokens")
		}
		return -(s.Input*float64(item.Usage.Prompt) + s.Output*float64(item.Usage.Completion)) / 1e6, nil
	}), nil
}
