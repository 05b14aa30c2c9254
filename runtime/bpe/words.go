package bpe

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// nextWord returns the length in bytes of the first word of s (s is not empty). It is the rule of the regular
// expression that Hugging Face's ByteLevel uses:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// An invalid byte counts as a sign, one byte wide.
func nextWord(s string) int {
	if s[0] == '\'' {
		for _, c := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
			if strings.HasPrefix(s, c) {
				return len(c)
			}
		}
	}
	start := 0
	r, size := utf8.DecodeRuneInString(s)
	if r == ' ' && len(s) > 1 {
		if next, n := utf8.DecodeRuneInString(s[1:]); !unicode.IsSpace(next) {
			r, size, start = next, n, 1
		}
	}
	kind := kindOf(r)
	end := start + size
	last := start // where the last rune of the run begins
	for end < len(s) {
		r, size = utf8.DecodeRuneInString(s[end:])
		if kindOf(r) != kind {
			break
		}
		last = end
		end += size
	}
	// White space before a word leaves its last rune to that word, unless it is all there is.
	if kind == space && end < len(s) && last > 0 {
		return last
	}
	return end
}

const (
	sign = iota
	letter
	number
	space
)

func kindOf(r rune) int {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return sign
}
