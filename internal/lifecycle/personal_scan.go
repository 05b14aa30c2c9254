package lifecycle

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// PersonalForms finds some kinds of personal data by their forms. Names and addresses in prose cannot be found so. It is
// safe for concurrent use.
type PersonalForms struct{ forms []form }

// FormsOf gives the forms of kinds; one that is unknown has none.
func FormsOf(kinds []string) PersonalForms {
	return PersonalForms{slices.DeleteFunc(forms(), func(f form) bool { return !slices.Contains(kinds, f.kind) })}
}

// Scan begins a text. Where hide is not set what is found is told and stays.
func (f PersonalForms) Scan(hide bool) *PersonalScan {
	return &PersonalScan{forms: f.forms, hide: hide}
}

// PersonalScan puts "[KIND]" in place of personal data in a text that comes in pieces. What it finds is the same however the
// text is cut, and it holds back no more than the run that may become some, at most 320 bytes.
type PersonalScan struct {
	forms []form
	hide  bool
	buf   string // a byte that was decided, as context, and what is undecided
	done  int    // bytes of context
}

// Feed takes a piece of the text, whose last one is marked. It gives what is decided and the kinds found in it, one for
// each time.
func (p *PersonalScan) Feed(piece string, last bool) (text string, found []string) {
	p.buf += piece
	var out strings.Builder
	from, at := p.done, p.done // written up to from, decided up to at
	sign, mark := -1, -1       // what comes next of either kind
	for {
		sign, mark = nextSign(p.buf, sign, at), nextMark(p.buf, mark, at)
		if at = max(at, p.clear(sign, mark, last)); at >= len(p.buf) {
			break
		}
		kind, n, more := p.find(at, last)
		if more {
			break
		}
		if n == 0 {
			at++
			continue
		}
		found = append(found, kind)
		if p.hide {
			out.WriteString(p.buf[from:at] + "[" + kind + "]")
			from = at + n
		}
		at += n
	}
	if text = p.buf[from:at]; out.Len() > 0 {
		out.WriteString(text)
		text = out.String()
	}
	if at > 0 {
		p.buf, p.done = p.buf[at-1:], 1
	}
	return text, found
}

// Every form has an at sign, or a digit or colon, within so many bytes of its beginning: the longest runs that are
// looked at. Where neither is near nothing can begin.
const (
	signWithin = 320
	markWithin = 64
)

// clear gives the place up to which nothing begins, for the places of the next at sign and the next digit or colon. Where
// the text goes on there may be either behind its end.
func (p *PersonalScan) clear(sign, mark int, last bool) int {
	end := len(p.buf)
	if sign < end || !last {
		sign -= signWithin
	}
	if mark < end || !last {
		mark -= markWithin
	}
	return min(sign, mark)
}

// nextSign gives the place of the first at sign from at on; the text's end where there is none. known is what it gave
// last for a smaller at, or -1.
func nextSign(s string, known, at int) int {
	if known >= at {
		return known
	}
	if n := strings.IndexByte(s[at:], '@'); n >= 0 {
		return at + n
	}
	return len(s)
}

// nextMark is nextSign for digits and colons, which stand side by side in ASCII. It looks at eight bytes at a time: of
// bytes under 128 the first term's high bit says that one is under n, the second's that it is over m.
func nextMark(s string, known, at int) int {
	if known >= at {
		return known
	}
	const ones, highs, m, n = 0x0101010101010101, 0x8080808080808080, '0' - 1, ':' + 1
	bytes := []byte(s) // not copied: nobody writes to it
	for ; at+8 <= len(bytes); at += 8 {
		x := binary.LittleEndian.Uint64(bytes[at:])
		low := x &^ highs
		if marks := (ones*(127+n) - low) & (low + ones*(127-m)) &^ x & highs; marks != 0 {
			return at + bits.TrailingZeros64(marks)/8
		}
	}
	for ; at < len(s); at++ {
		if '0' <= s[at] && s[at] <= ':' {
			return at
		}
	}
	return len(s)
}

// Held is how many bytes are undecided.
func (p *PersonalScan) Held() int { return len(p.buf) - p.done }

// find asks the finders about what starts at a byte. One that must wait makes those behind it wait.
func (p *PersonalScan) find(at int, final bool) (kind string, n int, more bool) {
	var before byte
	if at > 0 {
		before = p.buf[at-1]
	}
	for _, f := range p.forms {
		if n, more := f.find(before, p.buf[at:], final); n > 0 || more {
			return f.kind, n, more
		}
	}
	return "", 0, false
}
