package answer

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// maxDepth bounds how deep lists and objects may stand in each other: model servers' own parsers give up at a
// depth of their own, some by failing.
const maxDepth = 128

// valid says whether the document is one JSON value in UTF-8 (RFC 8259), at most maxDepth deep. It takes what
// encoding/json takes, in one pass, and notes where long strings end.
func (r *reader) valid() bool {
	end := skipSpace(r.doc, r.validValue(skipSpace(r.doc, 0), maxDepth))
	return end == len(r.doc) && utf8.Valid(r.doc)
}

// bad is past the end of every document, so that what follows fails too.
const bad = int(^uint(0) >> 1)

// validValue gives the end of the value that begins at doc[i], or bad.
func (r *reader) validValue(i, depth int) int {
	doc := r.doc
	if i >= len(doc) {
		return bad
	}
	switch c := doc[i]; {
	case c == '"':
		return r.validString(i)
	case c == '{' || c == '[':
		if depth == 0 {
			return bad
		}
		return r.validList(i, depth-1)
	case c == '-' || isDigit(c):
		return validNumber(doc, i)
	case c == 't':
		return literal(doc, i, "true")
	case c == 'f':
		return literal(doc, i, "false")
	case c == 'n':
		return literal(doc, i, "null")
	}
	return bad
}

// validList reads an object or an array.
func (r *reader) validList(i, depth int) int {
	doc := r.doc
	object := doc[i] == '{'
	closing := byte(']')
	if object {
		closing = '}'
	}
	i = skipSpace(doc, i+1)
	if i < len(doc) && doc[i] == closing {
		return i + 1
	}
	for {
		if object {
			if i >= len(doc) || doc[i] != '"' {
				return bad
			}
			if i = skipSpace(doc, r.validString(i)); i >= len(doc) || doc[i] != ':' {
				return bad
			}
			i = skipSpace(doc, i+1)
		}
		if i = skipSpace(doc, r.validValue(i, depth)); i >= len(doc) {
			return bad
		}
		switch doc[i] {
		case closing:
			return i + 1
		case ',':
			i = skipSpace(doc, i+1)
		default:
			return bad
		}
	}
}

// A string is long from longString bytes on; so many of a document are noted at most.
const (
	longString = 128
	maxLong    = 256
)

func (r *reader) validString(from int) int {
	end := r.endOfString(from + 1)
	if end < len(r.doc) && end-from >= longString-1 && len(r.long) < maxLong {
		r.long = append(r.long, span{from, end + 1})
	}
	return end + 1
}

// endOfString gives the place of the quote that ends a string whose inside begins at i, or one before bad. Of long strings it
// looks at 64 bytes at a time, so that a text full of escapes costs little more than one without.
func (r *reader) endOfString(i int) int {
	doc := r.doc
	for i+64 <= len(doc) {
		stops := stopsOf((*[64]byte)(doc[i:]))
		next := i + 64
		for stops != 0 {
			at := i + bits.TrailingZeros64(stops)
			switch c := doc[at]; {
			case c == '"':
				return at
			case c != '\\' && c >= ' ': // marked by the one before it, see stretch
				stops &= stops - 1
				continue
			}
			after := r.endOfEscape(at)
			if after > len(doc) {
				return bad - 1
			}
			next = max(next, after)
			stops &^= 3 << (at - i) // the escaped character may look like a stop
		}
		i = next
	}
	for i = stretch(doc, i); i < len(doc); i = stretch(doc, i) {
		if doc[i] == '"' {
			return i
		}
		if i = r.endOfEscape(i); i > len(doc) {
			break
		}
	}
	return bad - 1
}

// endOfEscape gives the end of the escape at doc[i], or bad where there is a control character or an escape that JSON does
// not know.
func (r *reader) endOfEscape(i int) int {
	doc := r.doc
	if doc[i] != '\\' || i+1 >= len(doc) {
		return bad
	}
	if short[doc[i+1]] != 0 {
		return i + 2
	}
	if doc[i+1] != 'u' || i+6 > len(doc) {
		return bad
	}
	for _, c := range doc[i+2 : i+6] {
		if !isHex(c) {
			return bad
		}
	}
	return i + 6
}

// stopsOf marks the bytes that end a stretch, the first one in the lowest bit.
func stopsOf(b *[64]byte) uint64 {
	return gather(b[:])>>56 | gather(b[8:])>>56<<8 | gather(b[16:])>>56<<16 | gather(b[24:])>>56<<24 |
		gather(b[32:])>>56<<32 | gather(b[40:])>>56<<40 | gather(b[48:])>>56<<48 | gather(b[56:])>>56<<56
}

// gather brings the marks of eight bytes into the highest byte.
func gather(b []byte) uint64 { return stops(binary.LittleEndian.Uint64(b)) >> 7 * 0x0102040810204080 }

func validNumber(doc []byte, i int) int {
	digits := func() bool {
		from := i
		for i < len(doc) && isDigit(doc[i]) {
			i++
		}
		return i > from
	}
	if doc[i] == '-' {
		i++
	}
	switch {
	case i < len(doc) && doc[i] == '0':
		i++
	case !digits():
		return bad
	}
	if i < len(doc) && doc[i] == '.' {
		if i++; !digits() {
			return bad
		}
	}
	if i < len(doc) && (doc[i] == 'e' || doc[i] == 'E') {
		if i++; i < len(doc) && (doc[i] == '+' || doc[i] == '-') {
			i++
		}
		if !digits() {
			return bad
		}
	}
	return i
}

func literal(doc []byte, i int, word string) int {
	if len(doc)-i < len(word) || string(doc[i:i+len(word)]) != word {
		return bad
	}
	return i + len(word)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
