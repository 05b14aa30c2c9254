package corpus

// Overlap knows texts that must not be trained on, as the sets of their word n-grams: prompts and answers
// of evaluation suites. A document that shares one n-gram is contaminated (Brown et al. 2020, arXiv 2005.14165,
// appendix C: n is 13, of shorter texts all words, with 8 as the least).
type Overlap struct {
	n     int
	grams map[int]map[uint64]struct{} // by their length in words
}

// Lengths of n-grams in words.
const (
	defaultGram = 13
	leastGram   = 8
)

// NewOverlap makes an empty set for n-grams of n words; 0 means 13. Under 8 words chance alone makes
// collisions, but n is taken as given.
func NewOverlap(n int) *Overlap {
	if n <= 0 {
		n = defaultGram
	}
	return &Overlap{n: n, grams: map[int]map[uint64]struct{}{}}
}

// Add adds a text. One with fewer words than n counts as a whole, one with fewer than 8 not at all: it says
// whether the text can be recognised.
func (o *Overlap) Add(text string) bool {
	list := words(text)
	n := min(o.n, len(list))
	if n < min(leastGram, o.n) {
		return false
	}
	if o.grams[n] == nil {
		o.grams[n] = map[uint64]struct{}{}
	}
	for i := 0; i+n <= len(list); i++ {
		o.grams[n][hashText(list[i:i+n]...)] = struct{}{}
	}
	return true
}

// Hits says whether text shares an n-gram with what was added.
func (o *Overlap) Hits(text string) bool {
	if o == nil || len(o.grams) == 0 {
		return false
	}
	list := words(text)
	for n, grams := range o.grams {
		for i := 0; i+n <= len(list); i++ {
			if _, ok := grams[hashText(list[i:i+n]...)]; ok {
				return true
			}
		}
	}
	return false
}
