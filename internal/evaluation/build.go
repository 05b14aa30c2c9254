package evaluation

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// Document is held-out text: a model that answers for it must not have been trained on it.
type Document struct {
	ID     string
	Source string // documents of one source form a group
	Title  string
	Text   string
}

// Query asks for one document.
type Query struct {
	ID       string
	Group    string
	Text     string
	Document string // ID of the one that answers
}

// Plan is one capability to make cases for, with what to make them of.
type Plan struct {
	Capability lifecycle.Capability
	Documents  iter.Seq2[Document, error] // for text kinds
	Queries    iter.Seq2[Query, error]    // for retrieval
}

// Window says how much text a case shows. The zero value works.
type Window struct {
	Bytes int // of text in one case at most, so that it fits a model's context; default 200
}

const (
	recallDepth = 5  // a document among so many counts as found
	minContext  = 40 // bytes before the word that is asked for
	choices     = 4  // of a cloze
	minCommon   = 2  // times that a wrong choice stands in the corpus at least
)

// Build makes a suite. Of more cases than a capability asks for, a seeded hash of their IDs chooses, one of each
// group before a second of any; the order of the documents changes nothing. A capability for which no case
// could be made, or a case ID that comes twice, is Invalid.
func Build(seed uint64, window Window, plans ...Plan) (Suite, error) {
	if window.Bytes == 0 {
		window.Bytes = 200
	}
	s := Suite{Version: BuiltVersion, Seed: seed}
	for _, p := range plans {
		c := Capability{Name: p.Capability.Name, Kind: p.Capability.Kind, Margin: p.Capability.Margin, Exact: p.Capability.Exact}
		cases, err := p.cases(&c, seed, window)
		if err != nil {
			return Suite{}, lifecycle.Wrap(err, "make cases for %s", c.Name)
		}
		if len(cases) == 0 {
			return Suite{}, lifecycle.Errorf(lifecycle.Invalid, "capability %s: not one case could be made of what was given", c.Name)
		}
		c.Items = len(cases)
		s.Capabilities = append(s.Capabilities, c)
		s.Cases = append(s.Cases, cases...)
	}
	return s, s.Check()
}

func (p Plan) cases(c *Capability, seed uint64, window Window) ([]Case, error) {
	c.Metric = "accuracy"
	switch c.Kind {
	case Retrieval:
		c.Metric = "recall@5"
		return p.queries(c.Name, seed)
	case BitsPerByte:
		c.Metric = BitsPerByte
	case NextToken, Cloze:
	default:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "unknown kind %q", c.Kind)
	}
	if p.Documents == nil {
		return nil, nil
	}
	var drawn []Case
	words := map[string]int{}
	for d, err := range p.Documents {
		if err != nil {
			return nil, lifecycle.Wrap(err, "read a held-out document")
		}
		text := strings.Join(strings.Fields(d.Text), " ")
		if c.Kind == Cloze {
			for _, w := range strings.Fields(text) {
				if plainWord(w) {
					words[w]++
				}
			}
		}
		if c.Kind == BitsPerByte {
			text = d.Text // as it stands: line breaks are text too
		}
		if made, ok := textCase(c.Kind, text, hash(seed, c.Name, d.ID), window); ok {
			made.ID = c.Name + "/" + d.ID
			made.Capability, made.Group = c.Name, cmp.Or(d.Source, d.ID)
			drawn = append(drawn, made)
		}
	}
	drawn = choose(drawn, seed, p.Capability.Items)
	if c.Kind == Cloze {
		drawn = distract(drawn, words, seed)
	}
	return drawn, nil
}

func (p Plan) queries(name string, seed uint64) ([]Case, error) {
	if p.Queries == nil {
		return nil, nil
	}
	var drawn []Case
	for q, err := range p.Queries {
		if err != nil {
			return nil, lifecycle.Wrap(err, "read a query")
		}
		if strings.TrimSpace(q.Text) == "" || q.Document == "" {
			continue
		}
		drawn = append(drawn, Case{
			ID: name + "/" + q.ID, Capability: name, Group: cmp.Or(q.Group, q.ID), Text: q.Text, Want: q.Document,
		})
	}
	return choose(drawn, seed, p.Capability.Items), nil
}

// choose takes n cases and sorts what it took by ID; 0 takes all. The seeded hash of IDs decides, and one
// case of each group comes before a second of any: more groups prove more than more cases.
func choose(cases []Case, seed uint64, n int) []Case {
	byHash := func(a, b Case) int {
		return cmp.Or(cmp.Compare(hash(seed, a.ID), hash(seed, b.ID)), strings.Compare(a.ID, b.ID))
	}
	slices.SortFunc(cases, byHash)
	if n > 0 && len(cases) > n {
		turn, seen := make(map[string]int, len(cases)), map[string]int{}
		for _, c := range cases {
			turn[c.ID] = seen[c.Group]
			seen[c.Group]++
		}
		slices.SortStableFunc(cases, func(a, b Case) int { return turn[a.ID] - turn[b.ID] })
		cases = cases[:n]
	}
	slices.SortFunc(cases, func(a, b Case) int { return strings.Compare(a.ID, b.ID) })
	return cases
}

// textCase takes one window out of a text; h decides where. Texts that are too short make no case.
func textCase(kind, text string, h uint64, window Window) (Case, bool) {
	if kind == BitsPerByte {
		from := wordStart(text, int(h%uint64(max(1, len(text)-window.Bytes+1))))
		cut := cutBefore(text[from:], window.Bytes)
		return Case{Text: cut}, len(cut) >= minContext
	}
	var spots []int // bytes of text where a word begins that can be asked for
	for i := minContext; i < len(text); i++ {
		if text[i-1] == ' ' && askable(kind, wordAt(text, i)) {
			spots = append(spots, i)
		}
	}
	if len(spots) == 0 {
		return Case{}, false
	}
	at := spots[h%uint64(len(spots))]
	from := 0
	if at > window.Bytes {
		from = wordStart(text, at-window.Bytes)
	}
	return Case{Text: text[from : at-1], Want: wordAt(text, at)}, from < at-1
}

func askable(kind, word string) bool {
	if kind == Cloze {
		return plainWord(word)
	}
	return letters(word) && len(word) >= 2
}

// plainWord: choices of a cloze are whole lower-case words, so that none stands out by its form.
func plainWord(w string) bool {
	return letters(w) && len(w) >= 4 && strings.ToLower(w) == w
}

func letters(w string) bool {
	return w != "" && strings.IndexFunc(w, func(r rune) bool { return !unicode.IsLetter(r) }) < 0
}

func wordAt(text string, i int) string {
	word, _, _ := strings.Cut(text[i:], " ")
	return word
}

// wordStart gives the beginning of the first word at or after i, or i's own word where none follows.
func wordStart(text string, i int) int {
	if i == 0 || i >= len(text) || text[i-1] == ' ' {
		return min(i, len(text))
	}
	if next := strings.IndexByte(text[i:], ' '); next >= 0 {
		return i + next + 1
	}
	return strings.LastIndexByte(text[:i], ' ') + 1
}

// cutBefore gives at most n bytes, ending between words where there is room for one, else between characters.
func cutBefore(text string, n int) string {
	if len(text) <= n {
		return text
	}
	if space := strings.LastIndexByte(text[:n+1], ' '); space > 0 {
		return text[:space]
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// distract gives each cloze three wrong words of about the same length that are common in the corpus. A
// case for which there are none is left out.
func distract(cases []Case, words map[string]int, seed uint64) []Case {
	byLength := map[int][]string{}
	for w, n := range words {
		if n >= minCommon {
			byLength[len(w)] = append(byLength[len(w)], w)
		}
	}
	for _, list := range byLength {
		slices.Sort(list)
	}
	kept := cases[:0]
	for _, c := range cases {
		pool := slices.Concat(byLength[len(c.Want)], byLength[len(c.Want)+1], byLength[len(c.Want)-1])
		pool = slices.DeleteFunc(pool, func(w string) bool { return w == c.Want })
		if len(pool) < choices-1 {
			continue
		}
		c.Choices = []string{c.Want}
		for i := uint64(0); len(c.Choices) < choices; i++ {
			w := pool[hash(seed+i, "choice", c.ID)%uint64(len(pool))]
			if !slices.Contains(c.Choices, w) {
				c.Choices = append(c.Choices, w)
			}
		}
		slices.Sort(c.Choices) // the right one's place tells nothing
		kept = append(kept, c)
	}
	return kept
}

// hash is FNV-1a with a final mix; it only spreads, it protects nothing.
func hash(seed uint64, parts ...string) uint64 {
	h := fnv.New64a()
	var key [8]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = h.Write(key[:]) // a hash never fails
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd // finaliser of MurmurHash3 (Appleby)
	x ^= x >> 33
	return x
}
