package corpus

import (
	"crypto/sha256"
	"math"
	"strings"
)

// Sketch sizes: 16 bands of 8 rows. Two documents whose shingles agree at s meet in some band with probability
// 1-(1-s^8)^16: 0.947 at 0.8, 0.9999 at 0.9, 0.06 at 0.5.
const (
	bands     = 16
	rows      = 8
	shingle   = 5 // words
	agreement = 0.8
)

type sketch [bands * rows]uint32

// duplicates remembers what was kept. Exact duplicates agree in all words, near duplicates in the
// sets of their five-word shingles: MinHash (Broder 1997) with banding (Leskovec, Rajaraman and Ullman,
// Mining of Massive Datasets, chapter 3).
type duplicates struct {
	exact    map[[sha256.Size]byte]bool
	sketches []sketch
	buckets  map[uint64][]int32 // band and its rows, hashed, to places in sketches
	factors  [bands * rows]uint64
	offsets  [bands * rows]uint64
}

func newDuplicates() *duplicates {
	d := &duplicates{exact: map[[sha256.Size]byte]bool{}, buckets: map[uint64][]int32{}}
	for i := range d.factors {
		d.factors[i] = mix(uint64(2*i+1)) | 1 // odd, so that multiplying loses nothing
		d.offsets[i] = mix(uint64(2*i + 2))
	}
	return d
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
	s := d.sketch(list)
	var keys [bands]uint64
	for b := range bands {
		keys[b] = bandKey(b, s[b*rows:(b+1)*rows])
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

// sketch gives the smallest value of each hash over all shingles.
func (d *duplicates) sketch(list []string) sketch {
	var s sketch
	for i := range s {
		s[i] = math.MaxUint32
	}
	for i := 0; i+shingle <= len(list); i++ {
		h := hashText(list[i : i+shingle]...)
		for j := range s {
			s[j] = min(s[j], uint32((h*d.factors[j]+d.offsets[j])>>32))
		}
	}
	return s
}

func (s *sketch) agree(other *sketch) float64 {
	equal := 0
	for i := range s {
		if s[i] == other[i] {
			equal++
		}
	}
	return float64(equal) / float64(len(s))
}

func bandKey(band int, values []uint32) uint64 {
	key := mix(uint64(band) + 1)
	for _, v := range values {
		key = mix(key ^ uint64(v))
	}
	return key
}
