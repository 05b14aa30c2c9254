package retrieval

import (
	"strings"
	"unicode"

	"github.com/refitml/refit/internal/lifecycle"
)

// Document is one text to find. ID is unique in an index; the title may be empty and is searched with each chunk.
type Document struct {
	ID    string
	Title string
	Text  string
}

// Chunking says how documents are cut. The zero value works.
type Chunking struct {
	Size    int `json:"size"`    // characters of one chunk at most; default 1200
	Overlap int `json:"overlap"` // characters that a chunk shares with the one before, at most; under Size
}

func (c Chunking) withDefaults() (Chunking, error) {
	if c.Size == 0 {
		c.Size = 1200
	}
	if c.Size < 1 || c.Overlap < 0 || c.Overlap >= c.Size {
		return c, lifecycle.Errorf(lifecycle.Invalid, "chunks of %d characters with an overlap of %d; give an overlap under the size", c.Size, c.Overlap)
	}
	return c, nil
}

// span is a chunk's place in its text, in bytes.
type span struct{ from, to int }

// cut gives the chunks of a text, in order, without white space at their ends. All of the text that is not white space lies
// in some chunk. A chunk ends where the text does best: at a blank line, else behind a sentence, else between
// words, looked for in its second half; what has no such place is cut between characters.
func (c Chunking) cut(text string) []span {
	var places []int // byte of each character
	for i := range text {
		places = append(places, i)
	}
	count := len(places)
	places = append(places, len(text))
	at := func(i int) string { return text[places[i]:places[i+1]] }
	var out []span
	for from := 0; from < count; {
		for from < count && blank(at(from)) {
			from++
		}
		end := count
		if count-from > c.Size {
			end = c.end(from, at)
		}
		to := end
		for to > from && blank(at(to-1)) {
			to--
		}
		if n := len(out); to > from && (n == 0 || places[to] > out[n-1].to) { // more than the overlap
			out = append(out, span{places[from], places[to]})
		}
		if end == count {
			break
		}
		next := end - c.Overlap // after from, by the choice of end
		for c.Overlap > 0 && next < end && !blank(at(next-1)) {
			next++ // an overlap begins with a word
		}
		from = next
	}
	return out
}

// end chooses the end of a chunk that begins at character from and must be cut. It lies more than the overlap and at
// least half of the size behind from.
func (c Chunking) end(from int, at func(int) string) int {
	limit := from + c.Size
	least := from + max(c.Size/2, c.Overlap) + 1
	sentence, word := 0, 0
	for i := limit; i >= least; i-- {
		switch {
		case !blank(at(i)): // a chunk ends before white space
		case at(i) == "\n" && at(i-1) == "\n":
			return i // behind the first line feed of a blank line
		case sentence == 0 && strings.Contains(".!?:;", at(i-1)):
			sentence = i
		case word == 0:
			word = i
		}
	}
	if sentence > 0 {
		return sentence
	}
	if word > 0 {
		return word
	}
	return limit
}

func blank(character string) bool {
	return strings.TrimFunc(character, unicode.IsSpace) == ""
}
