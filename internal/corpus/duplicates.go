package corpus

import (
	"crypto/sha256"
	"strings"
)

// Bands of the search for duplicates: 16 of 8 rows. Two documents whose shingles agree at s meet in some band with
// probability 1-(1-s^8)^16: 0.947 at 0.8, 0.9999 at 0.9, 0.06 at 0.5.
const (
	bands     = 16
	rows      = permutations / bands
	shingle   = 5 // words
	agreement = 0.8
)

// duplicates remembers what was kept. Exact duplicates agree in all words, near duplicates in the
// sets of their five-word shingles.
type duplicates struct {
	exact    map[[sha256.Size]byte]bool
	sketches []sketch
	buckets  map[uint64][]int32 // bands to places in sketches
	hashes   family
}

func newDuplicates() *duplicates {
	return &duplicates{exact: map[[sha256.Size]byte]bool{}, buckets: map[uint64][]int32{}, hashes: newFamily()}
}

// seen says why text repeats what was kept before, or keeps it and gives "". Texts under five words are only
// compared exactly.
func (d *duplicates) seen(text string) Reason {
	list := words(text)
	if len(list) == 0 {
		list = strings.Fields(text) // symbols only: what quality lets through is compared as it stands
	}
	sum := sha256.Sum256([]byte(strings.Join(list, " ")))
	if d.exact[sum] {
		return Duplicate
	}
	if len(list) < shingle {
		d.exact[sum] = true
		return ""
	}
	shingles := make([]uint64, 0, len(list)-shingle+1)
	for i := 0; i+shingle <= len(list); i++ {
		shingles = append(shingles, hashText(list[i:i+shingle]...))
	}
	s := d.hashes.sketch(shingles)
	var keys [bands]uint64
	for b := range bands {
		keys[b] = s.band(b, rows)
		for _, at := range d.buckets[keys[b]] {
			if s.agree(&d.sketches[at]) >= agreement {
				return NearDuplicate
			}
		}
	}
	d.exact[sum] = true
	at := int32(len(d.sketches))
	d.sketches = append(d.sketches, s)
	for _, key := range keys {
		d.buckets[key] = append(d.buckets[key], at)
	}
	return ""
}
