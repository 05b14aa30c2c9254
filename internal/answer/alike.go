package answer

import (
	"bytes"
	"unicode/utf8"
)

// alike holds the last chunk of a stream that did nothing but say more of one choice. Nearly all that follow differ from
// it in that text only, and need not be read again as a whole.
type alike struct {
	before, after []byte // what stands around the text, up to its first quote and from its second; none: there was no such chunk
	index         int    // of the choice
}

// note keeps a chunk whose only choice is c and goes on; data is valid.
func (a *alike) note(data []byte, c choice) {
	a.before, a.after, a.index = append(a.before[:0], data[:c.content.from+1]...), append(a.after[:0], data[c.content.to-1:]...), c.index
}

// text gives the text of a chunk that differs from the last one in nothing else, as a JSON string in data, which is valid
// then; nil where it says nothing or is another one. It uses the reader for data.
func (a *alike) text(r *reader, data []byte) []byte {
	if len(a.before) == 0 || !bytes.HasPrefix(data, a.before) || !bytes.HasSuffix(data, a.after) {
		return nil
	}
	from, to := len(a.before), len(data)-len(a.after)
	if from >= to || !utf8.Valid(data[from:to]) {
		return nil
	}
	if r.doc = data; r.endOfString(from) != to {
		return nil
	}
	return data[from-1 : to+1]
}
