package corpus

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Clean brings a text into the one form that everything after it relies on: NFC, line feeds only, no control or
// format character but tab, joiners and line feed, no white space at line ends, at most one blank line in a row, none at the
// ends. Indentation stays, because code is text too. ok is false where the text is not UTF-8, or so many of
// its characters are replacement characters (over 1 in 200) that it was decoded wrongly before.
func Clean(text string) (clean string, ok bool) {
	if !utf8.ValidString(text) {
		return "", false
	}
	if broken := strings.Count(text, "\uFFFD"); broken*200 > utf8.RuneCountInString(text) {
		return "", false
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\u2028' || r == '\u2029' || r == '\f' || r == '\v':
			return '\n'
		case r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d':
			return r // the joiners change how words of some scripts are written
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, text)
	text = norm.NFC.String(text)
	var out strings.Builder
	out.Grow(len(text))
	blank := 0
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRightFunc(line, unicode.IsSpace)
		if line == "" {
			blank++
			continue
		}
		if out.Len() > 0 {
			out.WriteString(strings.Repeat("\n", min(blank, 1)+1))
		}
		blank = 0
		out.WriteString(line)
	}
	return out.String(), true
}

// words gives the letters and digits of a text as lower-case words, so that punctuation and line breaks make no
// difference between two texts.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}
