package bpe

import (
	"strings"
	"unicode/utf8"
)

const (
	// EndOfText is the ID of the special token that stands before, between and after documents.
	EndOfText = 0
	// EndOfTextName is its name in tokenizer.json.
	EndOfTextName = "<|endoftext|>"

	firstByte  = 1               // the tokens of the 256 bytes follow the special token
	firstMerge = firstByte + 256 // and the merges follow them
)

type pair struct{ left, right int }

// Tokenizer encodes and decodes.
type Tokenizer struct {
	merges []pair
	ranks  map[pair]int // pair to merged token; a smaller token was merged earlier
	bytes  []string     // token to its bytes; the special token has none
}

func byteToken(b byte) int { return firstByte + int(b) }

func newTokenizer(merges []pair) *Tokenizer {
	t := &Tokenizer{merges: merges, ranks: make(map[pair]int, len(merges)), bytes: make([]string, firstMerge, firstMerge+len(merges))}
	for b := range 256 {
		t.bytes[byteToken(byte(b))] = string([]byte{byte(b)})
	}
	for i, m := range merges {
		t.ranks[m] = firstMerge + i
		t.bytes = append(t.bytes, t.bytes[m.left]+t.bytes[m.right])
	}
	return t
}

// Size is the number of tokens.
func (t *Tokenizer) Size() int { return len(t.bytes) }

// Encode returns the tokens of text. Decode of them gives text again, byte for byte.
func (t *Tokenizer) Encode(text string) []int {
	return t.appendTo(make([]int, 0, len(text)/2+1), text, nil)
}

// Encoder encodes many texts and remembers words. It belongs to one goroutine.
type Encoder struct {
	t     *Tokenizer
	cache map[string][]int
}

// Encoder returns a new encoder with an empty memory, which is bounded.
func (t *Tokenizer) Encoder() *Encoder { return &Encoder{t: t, cache: map[string][]int{}} }

// AppendTo appends the tokens of text to tokens.
func (e *Encoder) AppendTo(tokens []int, text string) []int {
	return e.t.appendTo(tokens, text, e.cache)
}

const maxCached = 1 << 16

func (t *Tokenizer) appendTo(out []int, text string, cache map[string][]int) []int {
	for len(text) > 0 {
		n := nextWord(text)
		w := text[:n]
		text = text[n:]
		if known, ok := cache[w]; ok {
			out = append(out, known...)
			continue
		}
		tokens := t.encodeWord(w)
		if cache != nil && len(cache) < maxCached {
			cache[strings.Clone(w)] = tokens
		}
		out = append(out, tokens...)
	}
	return out
}

// longWord bounds the quadratic cost of merging: a longer word is encoded in pieces. No word of prose is longer; a
// reader without this bound may encode such a run of letters with fewer tokens, never with other bytes.
const longWord = 512

func (t *Tokenizer) encodeWord(w string) []int {
	var done []int
	for len(w) > longWord {
		done = append(done, t.encodeWord(w[:longWord])...)
		w = w[longWord:]
	}
	tokens := make([]int, len(w))
	for i := range tokens {
		tokens[i] = byteToken(w[i])
	}
	for len(tokens) > 1 {
		best := -1
		var join pair
		for i := 1; i < len(tokens); i++ {
			p := pair{tokens[i-1], tokens[i]}
			if token, ok := t.ranks[p]; ok && (best < 0 || token < best) {
				best, join = token, p
			}
		}
		if best < 0 {
			break
		}
		tokens = replace(tokens, join, best)
	}
	return append(done, tokens...)
}

// Bytes returns the bytes of one token: part of a UTF-8 sequence at times, empty for the special token and for a
// token outside the vocabulary.
func (t *Tokenizer) Bytes(token int) string {
	if token < 0 || token >= len(t.bytes) {
		return ""
	}
	return t.bytes[token]
}

// Decode returns the bytes of tokens as a string, which is valid UTF-8 only if the tokens' bytes are.
func (t *Tokenizer) Decode(tokens []int) string {
	var b strings.Builder
	for _, token := range tokens {
		b.WriteString(t.Bytes(token))
	}
	return b.String()
}

// Complete returns the longest prefix of s that does not end inside a UTF-8 sequence.
func Complete(s string) string {
	for back := 1; back <= utf8.UTFMax-1 && back <= len(s); back++ {
		b := s[len(s)-back]
		if utf8.RuneStart(b) {
			if !utf8.FullRuneInString(s[len(s)-back:]) {
				return s[:len(s)-back]
			}
			break
		}
	}
	return s
}
