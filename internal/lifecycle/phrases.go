package lifecycle

import (
	"strings"
	"unicode"
)

// Phrases gives the phrases that stand in a text one a line, as Simplified writes them; empty lines are none.
func Phrases(text string) []string {
	var phrases []string
	for phrase := range strings.Lines(text) {
		if phrase = strings.TrimSpace(Simplified("", phrase)); phrase != "" {
			phrases = append(phrases, phrase)
		}
	}
	return phrases
}

// Simplified adds s to a text in which white space is one space, letters are small and apostrophes are straight: the
// form in which phrases are looked for.
func Simplified(before, s string) string {
	var out strings.Builder
	out.WriteString(before)
	space := strings.HasSuffix(before, " ")
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			if !space {
				out.WriteByte(' ')
			}
			space = true
			continue
		case r == '’' || r == '‘' || r == 'ʼ':
			r = '\''
		}
		out.WriteRune(unicode.ToLower(r))
		space = false
	}
	return out.String()
}
