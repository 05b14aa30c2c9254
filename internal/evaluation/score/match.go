package score

import (
	"errors"
	"math"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"

	"github.com/refitml/refit/internal/lifecycle"
)

// none are the settings of a scorer that has none.
type none struct{}

func exact(none, World) (Scorer, error) {
	return pure(func(item Item) (float64, error) {
		said := strings.TrimSpace(item.Said)
		return fits(item, func(want string) bool { return said == strings.TrimSpace(want) })
	}), nil
}

func normalised(none, World) (Scorer, error) {
	return pure(func(item Item) (float64, error) {
		said := normalise(item.Said)
		return fits(item, func(want string) bool { return said == normalise(want) })
	}), nil
}

// normalise is normalize_answer of SQuAD's script: small letters, then no ASCII punctuation, then no articles, then
// single spaces.
func normalise(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsPunct(r) || unicode.IsSymbol(r)) {
			return -1
		}
		return r
	}, strings.ToLower(text))
	return strings.Join(strings.Fields(withoutArticles(text)), " ")
}

// withoutArticles puts a space in the place of a, an and the, where they are whole words of any script.
func withoutArticles(text string) string {
	var out strings.Builder
	for text != "" {
		end := strings.IndexFunc(text, func(r rune) bool { return !wordRune(r) })
		if end < 0 {
			end = len(text)
		}
		switch word := text[:end]; word {
		case "a", "an", "the":
			out.WriteByte(' ')
		default:
			out.WriteString(word)
		}
		text = text[end:]
		next := strings.IndexFunc(text, wordRune)
		if next < 0 {
			next = len(text)
		}
		out.WriteString(text[:next])
		text = text[next:]
	}
	return out.String()
}

func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }

type containsSettings struct {
	All  bool `json:"all"`  // every reference must stand in the answer, not any
	Case bool `json:"case"` // capital and small letters differ
}

func contains(s containsSettings, _ World) (Scorer, error) {
	form := func(text string) string {
		if s.Case {
			return text
		}
		return strings.ToLower(text)
	}
	return Scorer{}.checked(func(item Item) error {
		for _, want := range item.Want {
			if strings.TrimSpace(want) == "" {
				return lifecycle.Errorf(lifecycle.Invalid, "want: an empty text stands in every answer")
			}
		}
		return nil
	}).scoring(func(item Item) (float64, error) {
		said, found := form(item.Said), 0
		for _, want := range item.Want {
			if strings.Contains(said, form(want)) {
				found++
			}
		}
		if len(item.Want) == 0 {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "the case has no reference answer")
		}
		return truth(found == len(item.Want) || found > 0 && !s.All), nil
	}), nil
}

type regexSettings struct {
	Pattern string `json:"pattern"` // RE2; left out: each case's references are patterns
	Whole   bool   `json:"whole"`   // the whole answer must match
	Not     bool   `json:"not"`     // right is what does not match
}

func matches(s regexSettings, _ World) (Scorer, error) {
	compile := func(pattern string) (*regexp.Regexp, error) {
		if len(pattern) > maxPattern {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "pattern: %d bytes; give at most %d", len(pattern), maxPattern)
		}
		if s.Whole {
			pattern = `\A(?:` + pattern + `)\z`
		}
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "pattern: not an RE2 expression (%s)", patternFault(err))
		}
		return compiled, nil
	}
	if s.Pattern != "" {
		pattern, err := compile(s.Pattern)
		if err != nil {
			return Scorer{}, err
		}
		return pure(func(item Item) (float64, error) { return truth(pattern.MatchString(item.Said) != s.Not), nil }), nil
	}
	patterns := func(item Item) ([]*regexp.Regexp, error) {
		if len(item.Want) == 0 {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "give settings.pattern, or each case a reference that is one")
		}
		var list []*regexp.Regexp
		for _, want := range item.Want {
			pattern, err := compile(want)
			if err != nil {
				return nil, err
			}
			list = append(list, pattern)
		}
		return list, nil
	}
	return Scorer{}.checked(func(item Item) error {
		_, err := patterns(item)
		return err
	}).scoring(func(item Item) (float64, error) {
		list, err := patterns(item)
		if err != nil {
			return 0, err
		}
		for _, pattern := range list {
			if pattern.MatchString(item.Said) {
				return truth(!s.Not), nil
			}
		}
		return truth(s.Not), nil
	}), nil
}

// patternFault says what is wrong with an expression and does not repeat it: it may be a right answer.
func patternFault(err error) string {
	var fault *syntax.Error
	if errors.As(err, &fault) {
		return fault.Code.String()
	}
	return "it does not compile"
}

// maxPattern bounds an expression, in bytes.
const maxPattern = 2000

type numericSettings struct {
	Absolute float64 `json:"absolute"` // tolerance in the reference's own unit
	Relative float64 `json:"relative"` // tolerance as a share of the reference
	Take     string  `json:"take"`     // whole (default): the answer is a number and nothing else; first or last: that number in it
}

// numeric compares numbers. Units are not guessed: of "5 km" and "5000 m" neither is a whole number, and their first
// numbers are 5 and 5000. A comma is no part of a number.
func numeric(s numericSettings, _ World) (Scorer, error) {
	if s.Take == "" {
		s.Take = "whole"
	}
	if err := oneOf("take", s.Take, "whole", "first", "last"); err != nil {
		return Scorer{}, err
	}
	if !(s.Absolute >= 0) || !(s.Relative >= 0) || math.IsInf(s.Absolute+s.Relative, 0) {
		return Scorer{}, lifecycle.Errorf(lifecycle.Invalid, "settings: give tolerances from 0 up")
	}
	references := func(item Item) ([]float64, error) {
		var list []float64
		for _, want := range item.Want {
			value, ok := number(want)
			if !ok {
				return nil, lifecycle.Errorf(lifecycle.Invalid, "want: a reference is no number")
			}
			list = append(list, value)
		}
		if len(list) == 0 {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "the case has no reference answer")
		}
		return list, nil
	}
	return Scorer{}.checked(func(item Item) error {
		_, err := references(item)
		return err
	}).scoring(func(item Item) (float64, error) {
		list, err := references(item)
		if err != nil {
			return 0, err
		}
		said, ok := s.number(item.Said)
		if !ok {
			return 0, nil
		}
		for _, want := range list {
			if math.Abs(said-want) <= max(s.Absolute, s.Relative*math.Abs(want)) {
				return 1, nil
			}
		}
		return 0, nil
	}), nil
}

var numbers = regexp.MustCompile(`[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?`)

func (s numericSettings) number(said string) (float64, bool) {
	if s.Take == "whole" {
		return number(said)
	}
	found := numbers.FindAllString(said, -1)
	if len(found) == 0 {
		return 0, false
	}
	if s.Take == "first" {
		return number(found[0])
	}
	return number(found[len(found)-1])
}

// number reads a text that is one number in decimal notation.
func number(text string) (float64, bool) {
	text = strings.TrimSpace(text)
	if at := numbers.FindStringIndex(text); at == nil || at[0] != 0 || at[1] != len(text) {
		return 0, false // what only Go reads: 0x10, 1_000, Inf
	}
	value, err := strconv.ParseFloat(text, 64)
	return value, err == nil
}

// checked gives the scorer a check of cases.
func (s Scorer) checked(check func(Item) error) Scorer {
	s.Check = check
	return s
}

// scoring gives the scorer what it does, asking nobody.
func (s Scorer) scoring(score func(Item) (float64, error)) Scorer {
	s.Score = pure(score).Score
	return s
}
