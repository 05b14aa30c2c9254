package answer

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// text decodes a JSON string of a valid document; what is no string gives "".
func text(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	inner := raw[1 : len(raw)-1]
	if stretch(inner, 0) == len(inner) {
		return string(inner)
	}
	return string(appendText(make([]byte, 0, len(inner)), raw, len(inner)))
}

// scratch is where texts are decoded whose length nobody knows before.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// decoded is the beginning of a JSON string, n bytes of it at most.
func decoded(raw []byte, n int) string {
	room := scratch.Get().(*[]byte)
	defer scratch.Put(room)
	if need := min(len(raw), n+utf8.UTFMax); cap(*room) < need {
		*room = make([]byte, 0, need)
	}
	*room = appendText((*room)[:0], raw, n)
	return string((*room)[:cut(*room, n)])
}

// appendText decodes a JSON string of a valid document, about limit bytes of it at most and always whole characters. A
// surrogate that stands alone becomes U+FFFD, as in encoding/json.
func appendText(out, raw []byte, limit int) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return out
	}
	raw = raw[1 : len(raw)-1]
	limit += len(out)
	for len(raw) > 0 && len(out) < limit {
		n := stretch(raw, 0)
		if free := limit - len(out); n > free {
			for n = free; n > 0 && !utf8.RuneStart(raw[n]); n-- {
			}
			return append(out, raw[:n]...)
		}
		out, raw = append(out, raw[:n]...), raw[n:]
		if len(raw) == 0 {
			break
		}
		if c := short[raw[1]]; c != 0 {
			out, raw = append(out, c), raw[2:]
			continue
		}
		var r rune
		r, raw = escaped(raw)
		out = utf8.AppendRune(out, r)
	}
	return out
}

// short are the escapes of one character.
var short = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped decodes the escape that raw begins with.
func escaped(raw []byte) (rune, []byte) {
	if c := short[raw[1]]; c != 0 {
		return rune(c), raw[2:]
	}
	r, rest := unit(raw), raw[6:]
	if !utf16.IsSurrogate(r) {
		return r, rest
	}
	if len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		if whole := utf16.DecodeRune(r, unit(rest)); whole != utf8.RuneError {
			return whole, rest[6:]
		}
	}
	return utf8.RuneError, rest
}

// unit reads the four hexadecimal digits of an escape.
func unit(raw []byte) (r rune) {
	for _, c := range raw[2:6] {
		switch {
		case c <= '9':
			c -= '0'
		default:
			c = (c | 0x20) - 'a' + 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// stretch gives the place of the first byte from i on that ends a stretch of a string: a quote, a backslash or a control
// character; len(b) where there is none. It looks at eight bytes at a time: a byte x is under n, or zero, where
// x-n borrows from its highest bit (Warren, Hacker's Delight, 6-1); the lowest such byte is always a true one.
func stretch(b []byte, i int) int {
	for ; i+16 <= len(b); i += 16 {
		first, second := stops(binary.LittleEndian.Uint64(b[i:])), stops(binary.LittleEndian.Uint64(b[i+8:]))
		if first|second != 0 {
			if first != 0 {
				return i + bits.TrailingZeros64(first)/8
			}
			return i + 8 + bits.TrailingZeros64(second)/8
		}
	}
	if i+8 <= len(b) {
		if found := stops(binary.LittleEndian.Uint64(b[i:])); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
		i += 8
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}

// stops marks the bytes of x that end a stretch, with their highest bits.
func stops(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	return ((x - ones*' ') | (x ^ ones*'"' - ones) | (x ^ ones*'\\' - ones)) &^ x & highs
}

// quoted writes s as JSON.
func quoted(s string) []byte { return appendQuoted(make([]byte, 0, len(s)+2), s) }

// appendQuoted writes s as JSON in UTF-8 with no more escapes than JSON asks for. What is no UTF-8 becomes U+FFFD.
func appendQuoted(out []byte, s string) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\n':
			out = append(out, '\\', 'n')
		case c == '\t':
			out = append(out, '\\', 't')
		case c == '\r':
			out = append(out, '\\', 'r')
		case c < ' ':
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			out = append(out, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			out = utf8.AppendRune(out, r)
			i += n
			continue
		}
		i++
	}
	return append(out, '"')
}

// key decodes an object's key. Those that every request and answer has cost no memory.
func key(raw []byte) string {
	switch string(raw) {
	case `"model"`:
		return "model"
	case `"messages"`:
		return "messages"
	case `"role"`:
		return "role"
	case `"content"`:
		return "content"
	case `"stream"`:
		return "stream"
	case `"temperature"`:
		return "temperature"
	case `"max_tokens"`:
		return "max_tokens"
	case `"id"`:
		return "id"
	case `"object"`:
		return "object"
	case `"created"`:
		return "created"
	case `"choices"`:
		return "choices"
	case `"index"`:
		return "index"
	case `"delta"`:
		return "delta"
	case `"message"`:
		return "message"
	case `"text"`:
		return "text"
	case `"finish_reason"`:
		return "finish_reason"
	case `"logprobs"`:
		return "logprobs"
	case `"usage"`:
		return "usage"
	case `"system_fingerprint"`:
		return "system_fingerprint"
	}
	return text(raw)
}
