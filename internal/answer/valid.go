package answer

import "unicode/utf8"

// maxDepth bounds how deep lists and objects may stand in each other: model servers' own parsers give up at a
// depth of their own, some by failing.
const maxDepth = 128

// valid says whether doc is one JSON value in UTF-8 (RFC 8259), at most maxDepth deep. It takes what
// encoding/json takes, in one pass.
func valid(doc []byte) bool {
	end := skipSpace(doc, validValue(doc, skipSpace(doc, 0), maxDepth))
	return end == len(doc) && utf8.Valid(doc)
}

// bad is past the end of every document, so that what follows fails too.
const bad = int(^uint(0) >> 1)

// validValue gives the end of the value that begins at doc[i], or bad.
func validValue(doc []byte, i, depth int) int {
	if i >= len(doc) {
		return bad
	}
	switch c := doc[i]; {
	case c == '"':
		return validString(doc, i)
	case c == '{' || c == '[':
		if depth == 0 {
			return bad
		}
		return validList(doc, i, depth-1)
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
func validList(doc []byte, i, depth int) int {
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
			if i = skipSpace(doc, validString(doc, i)); i >= len(doc) || doc[i] != ':' {
				return bad
			}
			i = skipSpace(doc, i+1)
		}
		if i = skipSpace(doc, validValue(doc, i, depth)); i >= len(doc) {
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

func validString(doc []byte, i int) int {
	for i++; i < len(doc); i++ {
		switch c := doc[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return bad
		case c == '\\':
			if i++; i >= len(doc) {
				return bad
			}
			switch doc[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(doc) || !isHex(doc[i]) {
						return bad
					}
				}
			default:
				return bad
			}
		}
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
