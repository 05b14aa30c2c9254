package corpus

import "math"

// permutations is how many hashes a sketch holds the smallest values of. Of two texts whose shingles agree at s so
// many hashes agree as a binomial of 128 and s says.
const permutations = 128

type sketch [permutations]uint32

// family is the hashes of MinHash (Broder 1997), the same in every process: x*factor+offset over 64 bits, of which
// the upper half is taken.
type family struct {
	factors [permutations]uint64
	offsets [permutations]uint64
}

func newFamily() family {
	var f family
	for i := range f.factors {
		f.factors[i] = mix(uint64(2*i+1)) | 1 // odd, so that multiplying loses nothing
		f.offsets[i] = mix(uint64(2*i + 2))
	}
	return f
}

// sketch gives the smallest value of each hash over all shingles.
func (f *family) sketch(shingles []uint64) sketch {
	var s sketch
	for i := range s {
		s[i] = math.MaxUint32
	}
	for _, h := range shingles {
		for j := range s {
			s[j] = min(s[j], uint32((h*f.factors[j]+f.offsets[j])>>32))
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

// band names the values of a run of rows (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3): two
// texts that agree at s have one of b bands of r rows in common with probability 1-(1-s^r)^b.
func (s *sketch) band(b, rows int) uint64 {
	key := mix(uint64(b) + 1)
	for _, v := range s[b*rows : (b+1)*rows] {
		key = mix(key ^ uint64(v))
	}
	return key
}
