package corpus

import (
	"unicode"
	"unicode/utf8"
)

// wordList is a text as the hashes of its words, as words gives them, and where each stands in it.
type wordList struct {
	hashes   []uint64
	from, to []int32 // bytes of the text
}

func (w *wordList) read(text string) {
	w.hashes, w.from, w.to = w.hashes[:0], w.from[:0], w.to[:0]
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	at, sum := -1, uint64(offset)
	end := func(to int) {
		if at >= 0 {
			w.hashes, w.from, w.to = append(w.hashes, mix(sum)), append(w.from, int32(at)), append(w.to, int32(to))
		}
		at, sum = -1, offset
	}
	var encoded [utf8.UTFMax]byte
	for i, r := range text {
		r = unicode.ToLower(r)
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end(i)
			continue
		}
		if at < 0 {
			at = i
		}
		for _, b := range encoded[:utf8.EncodeRune(encoded[:], r)] {
			sum = (sum ^ uint64(b)) * prime
		}
	}
	end(len(text))
}

// base of the polynomial that makes one hash of the hashes of n words; odd, so that no word is lost.
const base = 0x9e3779b97f4a7c15

// grams calls found with the hash of every run of n words and the place of its first one.
func grams(words []uint64, n int, found func(at int, hash uint64)) {
	if n <= 0 || len(words) < n {
		return
	}
	first := uint64(1) // of the word that leaves
	for range n - 1 {
		first *= base
	}
	var sum uint64
	for i, w := range words {
		if i >= n {
			sum -= words[i-n] * first
		}
		sum = sum*base + w
		if i >= n-1 {
			found(i-n+1, mix(sum^uint64(n)))
		}
	}
}
