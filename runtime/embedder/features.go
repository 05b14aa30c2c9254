package embedder

import (
	"hash/fnv"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWord in bytes; longer runs of letters are data, not words.
const maxWord = 64

// words calls give with the words of a text in lower case and without common endings: runs of letters, digits and
// underscores, identifiers as a whole and by their parts ("NewHTTPClient" is new, http, client and newhttpclient).
func words(text string, give func(string)) {
	for len(text) > 0 {
		end, r, size := 0, rune(0), 0
		for end < len(text) {
			if r, size = utf8.DecodeRuneInString(text[end:]); !inWord(r) {
				break
			}
			end += size
		}
		if end > 0 && end <= maxWord {
			identifier(text[:end], give)
		}
		text = text[min(len(text), end+max(1, size)):]
	}
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }

// identifier splits a word at underscores and where its case says so.
func identifier(word string, give func(string)) {
	var parts []string
	for piece := range strings.SplitSeq(word, "_") {
		runes, from := []rune(piece), 0
		for i := 1; i < len(runes); i++ {
			rises := unicode.IsUpper(runes[i]) && !unicode.IsUpper(runes[i-1])
			endsCapitals := unicode.IsUpper(runes[i]) && i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if rises || endsCapitals {
				parts = append(parts, string(runes[from:i]))
				from = i
			}
		}
		if from < len(runes) {
			parts = append(parts, string(runes[from:]))
		}
	}
	for _, p := range parts {
		give(stem(strings.ToLower(p)))
	}
	if len(parts) > 1 {
		give(strings.ToLower(strings.Trim(word, "_")))
	}
}

// plurals are tried in their order; the first that fits is replaced, or kept where the word only looks like one.
var plurals = []struct{ ending, singular string }{
	{"ies", "y"}, {"sses", "ss"}, {"xes", "x"}, {"ches", "ch"}, {"shes", "sh"}, {"ss", "ss"}, {"us", "us"}, {"is", "is"}, {"s", ""},
}

// stem takes common English endings off where enough of a word stays. It need not be right, only the same everywhere.
func stem(w string) string {
	for _, p := range plurals {
		if root, ok := strings.CutSuffix(w, p.ending); ok && len(root) >= 3 {
			w = root + p.singular
			break
		}
	}
	for _, ending := range []string{"ing", "ed", "ly"} {
		if root, ok := strings.CutSuffix(w, ending); ok && len(root) >= 4 {
			w = root
			break
		}
	}
	if root, ok := strings.CutSuffix(w, "e"); ok && len(root) >= 4 {
		w = root // write and writing
	}
	return w
}

// feature is a row of the table with its weight in a text.
type feature struct {
	row    int32
	weight float32
}

// vocabulary maps words to rows; the rows of the buckets follow those of the words.
type vocabulary struct {
	rows    map[string]int32
	buckets int
}

func newVocabulary(list []string, buckets int) vocabulary {
	v := vocabulary{rows: make(map[string]int32, len(list)), buckets: buckets}
	for i, w := range list {
		v.rows[w] = int32(i)
	}
	return v
}

func (v vocabulary) size() int { return len(v.rows) + v.buckets }

// maxWords of one text are read: enough for any passage, and a bound for what a client sends.
const maxWords = 8192

// features are what a text is made of, in the order in which they first come, and the number of words that were read.
func (v vocabulary) features(text string) ([]feature, int) {
	place := map[int32]int{}
	var list []feature
	add := func(row int32, weight float32) {
		i, ok := place[row]
		if !ok {
			i = len(list)
			place[row] = i
			list = append(list, feature{row: row})
		}
		list[i].weight += weight
	}
	n := 0
	words(text, func(w string) {
		if n == maxWords {
			return
		}
		n++
		if row, ok := v.rows[w]; ok {
			add(row, 1)
			return
		}
		v.spell(w, add)
	})
	for i := range list {
		list[i].weight = float32(math.Sqrt(float64(list[i].weight)))
	}
	return list, n
}

// spell adds the pieces of a word, which together weigh as much as a word.
func (v vocabulary) spell(w string, add func(row int32, weight float32)) {
	w = "<" + w + ">"
	pieces := max(0, len(w)-2) + max(0, len(w)-3)
	for _, n := range []int{3, 4} {
		for i := 0; i+n <= len(w); i++ {
			h := fnv.New32a()
			_, _ = h.Write([]byte(w[i : i+n])) // a hash never fails
			add(int32(len(v.rows))+int32(h.Sum32()%uint32(v.buckets)), 1/float32(pieces))
		}
	}
}
