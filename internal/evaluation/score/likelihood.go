package score

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

type likeliestSettings struct {
	By string `json:"by"` // sum (default), bytes or tokens: what each choice's log-likelihood is divided by
}

// ChosenBy is what the scorer divides log-likelihoods by: sum, bytes or tokens.
func ChosenBy(spec Spec) (string, error) {
	var s likeliestSettings
	err := decode(spec.Settings, &s)
	return cmp.Or(s.By, "sum"), err
}

// likeliest is right where the one likeliest choice is a reference. Two that are equally likely are no choice.
func likeliest(s likeliestSettings, _ World) (Scorer, error) {
	s.By = cmp.Or(s.By, "sum")
	if err := oneOf("by", s.By, "sum", "bytes", "tokens"); err != nil {
		return Scorer{}, err
	}
	return Scorer{}.checked(func(item Item) error {
		for _, want := range item.Want {
			if !slices.ContainsFunc(item.Choices, func(c Choice) bool { return c.Text == want }) {
				return lifecycle.Errorf(lifecycle.Invalid, "want: it is none of the choices")
			}
		}
		return nil
	}).scoring(func(item Item) (float64, error) {
		if len(item.Choices) < 2 {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "%d choices; it takes two", len(item.Choices))
		}
		said, err := Likeliest(item.Choices, s.By)
		if err != nil {
			return 0, err
		}
		return fits(item, func(want string) bool { return said != "" && said == want })
	}), nil
}

// Likeliest gives the text of the likeliest choice, "" where two are equally likely. By is sum, bytes or tokens.
func Likeliest(choices []Choice, by string) (string, error) {
	top, said := math.Inf(-1), ""
	for _, choice := range choices {
		value := choice.Logprob
		switch by {
		case "bytes":
			value /= float64(len(choice.Text))
		case "tokens":
			value /= float64(choice.Tokens)
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return "", lifecycle.Errorf(lifecycle.Invalid, "a choice has no proper likelihood")
		}
		switch {
		case value > top:
			top, said = value, choice.Text
		case value == top:
			said = ""
		}
	}
	return said, nil
}

func bitsPerByte(none, World) (Scorer, error) {
	return pure(func(item Item) (float64, error) {
		if item.Bytes < 1 {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "no byte was measured")
		}
		return -item.Bits / float64(item.Bytes), nil
	}), nil
}

type perplexitySettings struct {
	Per string `json:"per"` // word (default), byte or token; tokens differ between models, so it compares those of one vocabulary only
}

func perplexity(s perplexitySettings, _ World) (Scorer, error) {
	s.Per = cmp.Or(s.Per, "word")
	if err := oneOf("per", s.Per, "word", "byte", "token"); err != nil {
		return Scorer{}, err
	}
	scorer := pure(func(item Item) (float64, error) {
		units := len(strings.Fields(item.Text))
		switch s.Per {
		case "byte":
			units = item.Bytes
		case "token":
			units = item.Tokens
		}
		if units < 1 {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "no %s was measured", s.Per)
		}
		return -math.Exp2(item.Bits / float64(units)), nil
	})
	scorer.Metric = s.Per + "-perplexity"
	return scorer, nil
}
