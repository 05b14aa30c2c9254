package demo

import (
	"strings"
	"unicode"
)

// minWords is how many different words an answer needs to be judged by them.
const minWords = 3

// Score says how much of an answer stands in what is documented: the share of its different words of four letters or
// more that the documented text has too, from 0 to 1. An answer with fewer than three such words has no
// score. It is a rule that a reader can check and the same for every release; it does not say that an answer is right.
func Score(answer, documented string) (score float64, ok bool) {
	said, known := words(answer), words(documented)
	if len(said) < minWords {
		return 0, false
	}
	both := 0
	for w := range said {
		if known[w] {
			both++
		}
	}
	return float64(both) / float64(len(said)), true
}

func words(text string) map[string]bool {
	found := map[string]bool{}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if len(w) >= 4 {
			found[w] = true
		}
	}
	return found
}

// Thumb turns a score into what a person says of the answer; "" is nothing.
func (t Traffic) Thumb(score float64) string {
	switch {
	case score >= t.Up:
		return "thumbs-up"
	case score <= t.Down:
		return "thumbs-down"
	}
	return ""
}
