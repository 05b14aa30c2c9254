package lifecycle

import (
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
	for at < len(p.buf) {
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
	out.WriteString(p.buf[from:at])
	if at > 0 {
		p.buf, p.done = p.buf[at-1:], 1
	}
	return out.String(), found
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
