package demo

import (
	"strings"
	"unicode"
)

// minPieces is how many different pieces an answer needs to be judged by them.
const minPieces = 8

// Score says how much of an answer stands in what is documented: the share of its different pieces, three letters in a
// row within a word, that the documented text has too, from 0 to 1. An answer with fewer than eight pieces has no
// score. It is a rule that a reader can check, fine enough for a model that makes up words, and the same for every
// release; it does not say that an answer is right.
func Score(answer, documented string) (score float64, ok bool) {
	said, known := pieces(answer), pieces(documented)
	if len(said) < minPieces {
		return 0, false
	}
	both := 0
	for piece := range said {
		if known[piece] {
			both++
		}
	}
	return float64(both) / float64(len(said)), true
}

func pieces(text string) map[string]bool {
	found := map[string]bool{}
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		letters := []rune(word)
		for i := range len(letters) - 2 {
			found[string(letters[i:i+3])] = true
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
