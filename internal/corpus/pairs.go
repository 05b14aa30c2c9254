package corpus

import (
	"iter"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Query asks for one document.
type Query struct {
	ID       string
	Group    string // source of the document: queries of one group are not independent
	Text     string
	Document string // ID of the one that answers
}

// Bounds of a pair: shorter queries ask for nothing, and shorter rests cannot be found.
const (
	minQueryWords = 4
	minRest       = 40 // bytes
)

// Pair makes a query of a document's first sentence and gives the document without it, which is what an index has
// to hold for the pair to measure anything. Go's comments begin with the name of their symbol ("Client is an
// HTTP client."), so the name is masked: left out at the beginning, "it" where it comes again; the parts of
// the name may stay where they are words ("an HTTP client"). ok is false where the sentence or what is left is too
// short; the document is then as it was.
func Pair(d Document) (q Query, rest Document, ok bool) {
	end := firstSentence(d.Text)
	text := mask(strings.Join(strings.Fields(d.Text[:end]), " "), d.Title)
	left := strings.TrimSpace(d.Text[end:])
	if len(words(text)) < minQueryWords || len(left) < minRest {
		return Query{}, d, false
	}
	rest = d
	rest.Text = left
	return Query{ID: d.ID, Group: d.Source, Text: text, Document: d.ID}, rest, true
}

// Pairs makes a pair of each document where one can be made. indexed holds all documents: those with a query
// without their first sentence, the others as they are. An error in docs ends it.
func Pairs(docs iter.Seq2[Document, error]) (queries []Query, indexed []Document, err error) {
	for d, err := range docs {
		if err != nil {
			return nil, nil, err
		}
		q, rest, ok := Pair(d)
		if ok {
			queries = append(queries, q)
		}
		indexed = append(indexed, rest)
	}
	return queries, indexed, nil
}

// firstSentence gives where the first sentence ends: behind a '.', '!' or '?' before white space and no
// small letter, not after an initial or a common abbreviation, else at the end of the first paragraph.
func firstSentence(text string) int {
	end := len(text)
	if blank := strings.Index(text, "\n\n"); blank >= 0 {
		end = blank
	}
	for i := 0; i < end; i++ {
		if !strings.ContainsRune(".!?", rune(text[i])) {
			continue
		}
		after := text[i+1 : end]
		next, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(after, unicode.IsSpace))
		if after == "" {
			return i + 1
		}
		if first, _ := utf8.DecodeRuneInString(after); !unicode.IsSpace(first) || unicode.IsLower(next) {
			continue
		}
		if text[i] == '.' && abbreviation(text[:i]) {
			continue
		}
		return i + 1
	}
	return end
}

func abbreviation(before string) bool {
	word := before[strings.LastIndexAny(before, " \n\t(")+1:]
	if utf8.RuneCountInString(word) == 1 {
		r, _ := utf8.DecodeRuneInString(word)
		return unicode.IsUpper(r)
	}
	switch strings.ToLower(word) {
	case "e.g", "i.e", "etc", "cf", "vs", "resp", "approx":
		return true
	}
	return false
}

// mask takes a symbol's own name out of a sentence. title is "http.Client.Do", "package http" or a heading;
// headings are masked as a whole.
func mask(sentence, title string) string {
	title = strings.ToValidUTF8(title, "") // it becomes part of a pattern
	sentence = strings.ReplaceAll(strings.ToValidUTF8(sentence, ""), "\x00", "")
	names := []string{title}
	name, isPackage := strings.CutPrefix(title, "package ")
	if isPackage {
		names = append(names, name)
	} else if !strings.Contains(title, " ") {
		for name := title; ; { // http.Client.Do, Client.Do, Do
			_, after, found := strings.Cut(name, ".")
			if !found {
				break
			}
			names, name = append(names, after), after
		}
	}
	for _, n := range names {
		if n == "" {
			continue
		}
		flags := "" // names of Go exactly: package http is not HTTP
		if strings.Contains(title, " ") && !isPackage {
			flags = "(?i)"
		}
		pattern := outerWord(flags, n)
		for range 2 { // neighbours share a border
			sentence = pattern.ReplaceAllString(sentence, "${1}\x00${2}")
		}
	}
	sentence = leadingMask.ReplaceAllString(sentence, "")
	return strings.TrimSpace(strings.ReplaceAll(sentence, "\x00", "it"))
}

// leadingMask is a masked name at the beginning, with the words that may stand before it.
var leadingMask = regexp.MustCompile(`^(?i:(?:deprecated:|a|an|the|package|func|type|method|function)\s+)*[*(\[]*\x00[)\]]*(?:\([^)]*\))?[,:]?\s*`)

// outerWord matches a name that is no part of a longer one.
func outerWord(flags, name string) *regexp.Regexp {
	return regexp.MustCompile(flags + `(^|[^\pL\pN_])` + regexp.QuoteMeta(name) + `($|[^\pL\pN_])`)
}
