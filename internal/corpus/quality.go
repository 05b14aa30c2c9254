package corpus

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quality bounds what text looks like. The zero value works; a negative number turns a rule off. The rules on
// repetition follow the filters of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A), with looser numbers:
// documentation repeats itself more than prose does.
type Quality struct {
	MinCharacters int     `json:"min_characters,omitempty"` // default 40
	MaxBytes      int     `json:"max_bytes,omitempty"`      // default 1 MiB
	MaxSymbols    float64 `json:"max_symbols,omitempty"`    // share of characters other than space, neither letter nor digit; default 0.4
	MaxRepetition float64 `json:"max_repetition,omitempty"` // share of lines, or of words in three-word phrases, seen before in the text; default 0.6
}

func (q Quality) withDefaults() Quality {
	setDefault(&q.MinCharacters, 40)
	setDefault(&q.MaxBytes, 1<<20)
	setDefault(&q.MaxSymbols, 0.4)
	setDefault(&q.MaxRepetition, 0.6)
	return q
}

// judge gives the first rule that text breaks, or "". Text is clean.
func (q Quality) judge(text string) Reason {
	switch {
	case text == "":
		return Empty
	case utf8.RuneCountInString(text) < q.MinCharacters:
		return TooShort
	case q.MaxBytes > 0 && len(text) > q.MaxBytes:
		return TooLong
	case q.MaxSymbols >= 0 && symbolShare(text) > q.MaxSymbols:
		return Symbols
	case q.MaxRepetition >= 0 && max(repeatedLines(text), repeatedPhrases(text)) > q.MaxRepetition:
		return Repetition
	}
	return ""
}

func symbolShare(text string) float64 {
	var symbols, all int
	for _, r := range text {
		if unicode.IsSpace(r) {
			continue
		}
		all++
		if !unicode.In(r, unicode.Letter, unicode.Digit, unicode.Mark) {
			symbols++
		}
	}
	return float64(symbols) / float64(max(1, all))
}

// Under so many lines or words nothing can be said about repetition.
const (
	minLines = 6
	minWords = 50
)

func repeatedLines(text string) float64 {
	seen := map[string]bool{}
	all, repeated := 0, 0
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		all++
		if seen[line] {
			repeated++
		}
		seen[line] = true
	}
	if all < minLines {
		return 0
	}
	return float64(repeated) / float64(all)
}

func repeatedPhrases(text string) float64 {
	list := words(text)
	if len(list) < minWords {
		return 0
	}
	seen := make(map[[3]string]bool, len(list))
	repeated := 0
	for i := 0; i+3 <= len(list); i++ {
		phrase := [3]string(list[i : i+3])
		if seen[phrase] {
			repeated++
		}
		seen[phrase] = true
	}
	return float64(repeated) / float64(len(list)-2)
}

// setDefault fills in what was left out.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
