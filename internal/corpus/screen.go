package corpus

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// Known is one case of a suite, as the texts of it that must not be trained on.
type Known struct {
	Suite lifecycle.Digest
	Case  string
	Texts []string // each is looked for by itself
}

// ScreenOptions set up a Screen. The zero value works.
type ScreenOptions struct {
	Words      int     // of an n-gram; default 13
	Similarity float64 // Jaccard, from which a text is a near duplicate; default 0.7
}

// Lengths of n-grams in words, and the screen's search for near duplicates: 32 bands of 4 rows over shingles of 3
// words. Two texts that agree at s are compared with probability 1-(1-s^4)^32: 0.9998 at 0.7, 0.988 at 0.6, 0.87 at
// 0.5; what decides is how far the sets of shingles really agree. Sentences of twelve words in another order share no
// n-gram, and agree at 0.71 and more.
const (
	defaultGram = 13
	leastGram   = 8

	screenBands   = 32
	screenRows    = permutations / screenBands
	screenShingle = 3

	defaultSimilarity = 0.7
)

// Ways in which a document holds a case.
const (
	ByGram      = "n-gram"
	BySimilar   = "near-duplicate"
	maxHitBytes = 240 // of matched words
	maxDocHits  = 10  // cases named for one document
)

// Hit is one case that a document holds.
type Hit struct {
	Document   string           `json:"document"`
	Suite      lifecycle.Digest `json:"suite"` // "": the suite that the declaration gives, which is not stored yet
	Case       string           `json:"case"`
	How        string           `json:"how"`                  // ByGram or BySimilar
	Similarity float64          `json:"similarity,omitempty"` // Jaccard of the sets of shingles
	Length     int              `json:"length,omitempty"`     // words in a row that are the same
	Words      string           `json:"words"`                // as they stand in the document, bounded
}

// Screen finds documents that hold cases of suites: by n-grams (Brown et al. 2020, arXiv 2005.14165, appendix C, as
// lm-evaluation-harness does: n is 13 words, of a shorter text all of them, with 8 as the least; case, punctuation and
// white space do not matter), and as near duplicates (MinHash with banding finds whom to compare, and the exact Jaccard
// of their three-word shingles decides) of a whole document, a paragraph or a line.
//
// It takes 16 bytes and 16 to 32 bits for each n-gram that was added, so 1,000,000 take 18 MB, and for each text 512 bytes of
// bands and 8 bytes a word. Finding takes time in proportion to the document's words.
type Screen struct {
	words      int
	similarity float64
	hashes     family

	cases    []Known // without texts
	seen     map[uint64]bool
	tooShort int

	grams   []owned
	lengths []int    // that n-grams have
	maybe   []uint64 // bits: no n-gram has this hash
	shift   int
	bands   []owned // of texts
	texts   []shingled
	least   int // shingles that a near duplicate has at least
	most    int
	sealed  bool

	list  wordList // of the document that is looked at
	piece wordList
}

// owned is a hash and whose it is: a place in cases or texts.
type owned struct {
	hash uint64
	by   int32
}

type shingled struct {
	of  int32 // place in cases
	set []uint64
}

// NewScreen makes an empty screen. Under 8 words chance alone makes collisions, but the length is taken as given.
func NewScreen(options ScreenOptions) *Screen {
	s := &Screen{words: options.Words, similarity: options.Similarity, hashes: newFamily(), seen: map[uint64]bool{}}
	if s.words <= 0 {
		s.words = defaultGram
	}
	if s.similarity <= 0 {
		s.similarity = defaultSimilarity
	}
	return s
}

// Add adds a case. One that was added before, under another suite, stays with that one. It says whether the case can
// be recognised: not where every text has under 8 words.
func (s *Screen) Add(k Known) bool {
	key := hashText(append([]string{k.Case}, k.Texts...)...)
	if recognised, twice := s.seen[key]; twice {
		return recognised
	}
	s.sealed = false
	at, recognised := int32(len(s.cases)), false
	s.cases = append(s.cases, Known{Suite: k.Suite, Case: strings.Clone(k.Case)})
	for _, text := range k.Texts {
		recognised = s.addText(at, text) || recognised
	}
	s.seen[key] = recognised
	if !recognised {
		s.tooShort++
	}
	return recognised
}

func (s *Screen) addText(at int32, text string) bool {
	s.list.read(text)
	n := min(s.words, len(s.list.hashes))
	if n < min(leastGram, s.words) {
		return false
	}
	if !slices.Contains(s.lengths, n) {
		s.lengths = append(s.lengths, n)
	}
	grams(s.list.hashes, n, func(_ int, hash uint64) { s.grams = append(s.grams, owned{hash, at}) })
	set := shinglesOf(s.list.hashes)
	for b, sketched := 0, s.hashes.sketch(set); b < screenBands; b++ {
		s.bands = append(s.bands, owned{sketched.band(b, screenRows), int32(len(s.texts))})
	}
	s.texts = append(s.texts, shingled{at, set})
	return true
}

// shinglesOf gives the set of a text's shingles, sorted.
func shinglesOf(words []uint64) []uint64 {
	set := make([]uint64, 0, max(0, len(words)-screenShingle+1))
	grams(words, screenShingle, func(_ int, hash uint64) { set = append(set, hash) })
	slices.Sort(set)
	return slices.Compact(set)
}

// Cases is how many different cases were added, and how many of them cannot be recognised.
func (s *Screen) Cases() (all, tooShort int) { return len(s.cases), s.tooShort }

func (s *Screen) seal() {
	if s.sealed {
		return
	}
	s.sealed = true
	order := func(a, b owned) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.by, b.by)) }
	slices.SortFunc(s.grams, order)
	s.grams = slices.Clone(slices.Compact(s.grams)) // and not what appending had put aside
	slices.SortFunc(s.bands, order)
	s.bands = slices.Clone(s.bands)
	slices.Sort(s.lengths)
	s.shift = 64 - max(6, bits.Len(uint(len(s.grams)))+4) // 16 bits for each n-gram and more
	s.maybe = make([]uint64, 1<<(64-s.shift-6))
	for _, g := range s.grams {
		s.maybe[g.hash>>s.shift/64] |= 1 << (g.hash >> s.shift % 64)
	}
	s.least, s.most = 1<<30, 0
	for _, t := range s.texts {
		s.least, s.most = min(s.least, len(t.set)), max(s.most, len(t.set))
	}
	s.least, s.most = max(1, int(float64(s.least)*s.similarity)), int(float64(s.most)/s.similarity)
}

// Find gives the cases that a document's title and text hold, the first ten, in the order in which they were added.
func (s *Screen) Find(d Document) []Hit {
	s.seal()
	if len(s.cases) == 0 {
		return nil
	}
	text := d.Text
	if d.Title != "" {
		text = d.Title + "\n\n" + d.Text
	}
	found := map[int32]Hit{}
	s.byGrams(text, found)
	s.bySimilarity(text, found)
	var hits []Hit
	for _, at := range sortedKeys(found) {
		if len(hits) == maxDocHits {
			break
		}
		hit := found[at]
		hit.Document, hit.Suite, hit.Case = d.ID, s.cases[at].Suite, s.cases[at].Case
		hits = append(hits, hit)
	}
	return hits
}

func sortedKeys[V any](m map[int32]V) []int32 {
	keys := make([]int32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// byGrams finds the first run of words that each case shares with a text.
func (s *Screen) byGrams(text string, found map[int32]Hit) {
	s.list.read(text)
	type run struct{ from, to int } // words
	runs := map[int32]run{}
	for _, n := range s.lengths {
		grams(s.list.hashes, n, func(at int, hash uint64) {
			if s.maybe[hash>>s.shift/64]&(1<<(hash>>s.shift%64)) == 0 {
				return
			}
			for _, by := range lookUp(s.grams, hash) {
				r, ok := runs[by.by]
				switch {
				case !ok:
					runs[by.by] = run{at, at + n}
				case r.from <= at && at <= r.to && at+n > r.to:
					runs[by.by] = run{r.from, at + n}
				}
			}
		})
	}
	for by, r := range runs {
		words := text[s.list.from[r.from]:s.list.to[r.to-1]]
		found[by] = Hit{How: ByGram, Length: r.to - r.from, Words: bounded(words)}
	}
}

// lookUp gives the entries of a hash.
func lookUp(list []owned, hash uint64) []owned {
	from, ok := slices.BinarySearchFunc(list, hash, func(o owned, h uint64) int { return cmp.Compare(o.hash, h) })
	if !ok {
		return nil
	}
	to := from
	for to < len(list) && list[to].hash == hash {
		to++
	}
	return list[from:to]
}

// bySimilarity compares the whole text, its paragraphs and their lines.
func (s *Screen) bySimilarity(text string, found map[int32]Hit) {
	s.compare(text, found)
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if len(paragraph) < len(text) {
			s.compare(paragraph, found)
		}
		if !strings.Contains(paragraph, "\n") {
			continue
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			s.compare(line, found)
		}
	}
}

func (s *Screen) compare(text string, found map[int32]Hit) {
	if len(text) < 2*screenShingle-1 { // letters and the spaces between them
		return
	}
	s.piece.read(text)
	if n := len(s.piece.hashes) - screenShingle + 1; n < s.least || n > 4*s.most { // of longer ones three quarters would have to be repetition
		return
	}
	set := shinglesOf(s.piece.hashes)
	if len(set) < s.least || len(set) > s.most {
		return
	}
	sketched := s.hashes.sketch(set)
	compared := map[int32]bool{}
	for b := range screenBands {
		for _, by := range lookUp(s.bands, sketched.band(b, screenRows)) {
			if compared[by.by] {
				continue
			}
			compared[by.by] = true
			known := s.texts[by.by]
			if _, hit := found[known.of]; hit {
				continue
			}
			if j := jaccard(set, known.set); j >= s.similarity {
				found[known.of] = Hit{How: BySimilar, Similarity: j, Words: bounded(text)}
			}
		}
	}
}

// jaccard compares two sorted sets.
func jaccard(a, b []uint64) float64 {
	both := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			both, i, j = both+1, i+1, j+1
		}
	}
	return float64(both) / float64(max(1, len(a)+len(b)-both))
}

func bounded(words string) string {
	words = strings.Join(strings.Fields(words), " ")
	if len(words) > maxHitBytes {
		words = strings.ToValidUTF8(words[:maxHitBytes], "") + "..."
	}
	return strings.Clone(words)
}
