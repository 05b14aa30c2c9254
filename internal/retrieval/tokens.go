package retrieval

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxToken in bytes; longer runs of letters are data, not words.
const maxToken = 64

// Tokens cuts text into the terms of the lexical index. A word is a run of letters, digits and
// underscores. It counts in lower case and stemmed; an identifier counts as a whole and by its parts too, so
// "NewHTTPClient" gives newhttpclient, new, http and client, and "http.Client" gives http, client and
// http.client. Stemming only takes English endings off (plural, -ing, -ed, -ly) and is the same for queries
// and documents.
func Tokens(text string) []string {
	var out []string
	runs(text, func(word string, dotted bool) {
		out = appendWord(out, word, dotted)
	})
	return out
}

// runs calls give with every word, and after the words of a dotted name with the name itself.
func runs(text string, give func(word string, dotted bool)) {
	isWord := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || unicode.Is(unicode.Mn, r)
	}
	from, name, parts := -1, -1, 0 // beginnings of word and dotted name
	end := func(i int) {
		if from >= 0 {
			give(text[from:i], false)
			from = -1
			parts++
		}
	}
	for i, r := range text {
		if isWord(r) {
			if from < 0 {
				from = i
			}
			if name < 0 {
				name = i
			}
			continue
		}
		inName := r == '.' && from >= 0
		end(i)
		if inName {
			if next, _ := utf8.DecodeRuneInString(text[i+1:]); isWord(next) {
				continue
			}
		}
		if parts > 1 {
			give(text[name:i], true)
		}
		name, parts = -1, 0
	}
	end(len(text))
	if parts > 1 {
		give(text[name:], true)
	}
}

func appendWord(out []string, word string, dotted bool) []string {
	if len(word) > maxToken {
		return out
	}
	lower := strings.ToLower(word)
	if dotted {
		return append(out, lower)
	}
	parts := identifierParts(word)
	if len(parts) < 2 {
		if s := stem(strings.Trim(lower, "_")); s != "" {
			out = append(out, s)
		}
		return out
	}
	out = append(out, lower)
	for _, p := range parts {
		out = append(out, stem(strings.ToLower(p)))
	}
	return out
}

// identifierParts splits a name at underscores and where its case says so: "readHTTPBody2" is read, HTTP, Body2.
func identifierParts(word string) []string {
	var parts []string
	for piece := range strings.SplitSeq(word, "_") {
		if piece == "" {
			continue
		}
		letters := []rune(piece)
		from := 0
		for i := 1; i < len(letters); i++ {
			rises := unicode.IsUpper(letters[i]) && !unicode.IsUpper(letters[i-1])
			endsCapitals := unicode.IsUpper(letters[i]) && i+1 < len(letters) && unicode.IsLower(letters[i+1]) && unicode.IsUpper(letters[i-1])
			if rises || endsCapitals {
				parts = append(parts, string(letters[from:i]))
				from = i
			}
		}
		parts = append(parts, string(letters[from:]))
	}
	return parts
}

// stem takes common endings off a lower-case word: Harman's plural rules (1991), then -ing, -ed and -ly where at
// least three letters with a vowel stay. "writes", "writing" and "written" are not all made one: a wrong union costs more
// than a missed one.
func stem(w string) string {
	switch {
	case len(w) <= 3 || w[0] >= utf8.RuneSelf:
		return w
	case strings.HasSuffix(w, "ies") && len(w) > 4:
		w = w[:len(w)-3] + "y"
	case strings.HasSuffix(w, "sses") || strings.HasSuffix(w, "shes") || strings.HasSuffix(w, "ches") || strings.HasSuffix(w, "xes"):
		w = w[:len(w)-2]
	case strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss") && !strings.HasSuffix(w, "us") && !strings.HasSuffix(w, "is"):
		w = w[:len(w)-1]
	}
	for _, ending := range []string{"ing", "ed", "ly"} {
		root, ok := strings.CutSuffix(w, ending)
		if !ok || len(root) < 3 || !strings.ContainsAny(root, "aeiouy") {
			continue
		}
		if n := len(root); root[n-1] == root[n-2] && !strings.ContainsAny(root[n-1:], "lsz") {
			root = root[:n-1] // stopping, stopped
		}
		w = root
		break
	}
	if len(w) > 4 {
		w = strings.TrimSuffix(w, "e") // write and writing, but not use and us
	}
	return w
}
