package embedder

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/refitml/refit/runtime/text"
)

// pair is a question with its answer. whole is the answer with the question in it, as an index mostly holds it.
type pair struct{ question, answer, whole string }

const (
	minQuestion = 4 // words
	minRest     = 5 // words of an answer, else the title is the answer
)

// pairOf makes a pair of a document; ok is false where there is nothing to ask.
func pairOf(d text.Document) (p pair, ok bool) {
	end := firstSentence(d.Text)
	question, rest := masked(d.Text[:end], d.Title), d.Text[end:]
	if len(strings.Fields(question)) < minQuestion {
		return pair{}, false
	}
	if len(strings.Fields(rest)) >= minRest {
		return pair{question, d.Title + "\n" + rest, d.Rendered()}, true
	}
	if d.Title == "" {
		return pair{}, false
	}
	return pair{question, d.Title, d.Rendered()}, true
}

// firstSentence gives where the first sentence ends: behind a full stop before white space and no small letter, else
// at the end of the first paragraph.
func firstSentence(s string) int {
	end := len(s)
	if blank := strings.Index(s, "\n\n"); blank >= 0 {
		end = blank
	}
	for i := 0; i+1 < end; i++ {
		if s[i] != '.' && s[i] != '!' && s[i] != '?' {
			continue
		}
		after := s[i+1 : end]
		if first, _ := utf8.DecodeRuneInString(after); !unicode.IsSpace(first) {
			continue
		}
		if next, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(after, unicode.IsSpace)); !unicode.IsLower(next) {
			return i + 1
		}
	}
	return end
}

// masked leaves the symbol that a title names out of a sentence, because a question does not know it: of
// "http.Client.Do" also "Client.Do" and "Do". A title of several words stays.
func masked(sentence, title string) string {
	title = strings.TrimPrefix(title, "package ")
	if title == "" || strings.ContainsFunc(title, unicode.IsSpace) {
		return sentence
	}
	names := map[string]bool{title: true}
	for name, found := title, true; found; {
		if _, name, found = strings.Cut(name, "."); found {
			names[name] = true
		}
	}
	var kept []string
	for _, word := range strings.Fields(sentence) {
		if !names[strings.TrimFunc(word, func(r rune) bool { return !inWord(r) })] {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}
