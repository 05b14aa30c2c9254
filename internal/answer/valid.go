package answer

import "unicode/utf8"

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
	doc := r.doc
	for i := stretch(doc, from+1); i < len(doc); i = stretch(doc, i) {
		switch c := doc[i]; {
		case c == '"':
			if i-from >= longString && len(r.long) < maxLong {
				r.long = append(r.long, span{from, i + 1})
			}
			return i + 1
		case c < ' ':
			return bad
		}
		if i++; i >= len(doc) {
			return bad
		}
		switch {
		case short[doc[i]] != 0:
		case doc[i] == 'u':
			for range 4 {
				if i++; i >= len(doc) || !isHex(doc[i]) {
					return bad
				}
			}
		default:
			return bad
		}
		i++
	}
	return bad
}

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
