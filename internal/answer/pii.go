package answer

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// A finder looks for one kind of personal data that starts with s[0]; before is the byte in front of it, 0 at the
// start of the text. It gives the match's length, 0 for none. What it says depends on one bounded run of characters
// and what stands around it, so it is the same however the text is cut: where the run may go on with text to come it
// says more, and is asked again.
type finder func(before byte, s string, final bool) (n int, more bool)

// finders in the order in which they are asked.
var finders = []struct {
	kind string
	find finder
}{
	{lifecycle.PIIEmail, findEmail}, {lifecycle.PIIIBAN, findIBAN}, {lifecycle.PIICard, findCard},
	{lifecycle.PIIAddress, findAddress}, {lifecycle.PIIPhone, findPhone},
}

// piiStage puts "[kind]" in place of personal data. It holds back no more than the run that may become some.
type piiStage struct {
	name  string
	kinds []string
	hide  bool   // false: hits are counted and the text passes
	buf   string // a byte that was decided, as context, and what is undecided
	done  int    // bytes of context
}

func (p *piiStage) feed(s string, last bool) (string, []string, bool) {
	p.buf += s
	var out strings.Builder
	var hits []string
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
		hits = append(hits, p.name+":"+kind)
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
	return out.String(), hits, true
}

// find asks the finders about what starts at a byte. One that must wait makes those behind it wait.
func (p *piiStage) find(at int, final bool) (kind string, n int, more bool) {
	var before byte
	if at > 0 {
		before = p.buf[at-1]
	}
	for _, f := range finders {
		if !slices.Contains(p.kinds, f.kind) {
			continue
		}
		if n, more := f.find(before, p.buf[at:], final); n > 0 || more {
			return f.kind, n, more
		}
	}
	return "", 0, false
}

// runOf gives the bytes at the start of s that are in a set, at most limit, and the byte behind them, 0 at the end.
// more says that the run may go on.
func runOf(s string, limit int, final bool, in func(c byte) bool) (run string, next byte, more bool) {
	n := 0
	for n < len(s) && n < limit && in(s[n]) {
		n++
	}
	if n < len(s) {
		return s[:n], s[n], false
	}
	return s, 0, !final
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isLetter(c) || isDigit(c) }
func inLocal(c byte) bool  { return isAlnum(c) || strings.IndexByte("._%+-", c) >= 0 }
func inHost(c byte) bool   { return isAlnum(c) || c == '.' || c == '-' }

// findEmail takes a local part, an at sign and a domain of two labels or more, the last one of letters.
func findEmail(before byte, s string, final bool) (int, bool) {
	if !inLocal(s[0]) || inLocal(before) {
		return 0, false
	}
	run, _, more := runOf(s, 320, final, func(c byte) bool { return inLocal(c) || c == '@' })
	if more {
		return 0, true
	}
	local, rest, ok := strings.Cut(run, "@")
	if !ok {
		return 0, false
	}
	domain, _, _ := runOf(rest, len(rest), true, inHost)
	for domain = strings.TrimRight(domain, ".-"); ; {
		dot := strings.LastIndexByte(domain, '.')
		if dot <= 0 {
			return 0, false
		}
		if top, _, _ := runOf(domain[dot+1:], len(domain), true, isLetter); len(top) >= 2 && domain[dot-1] != '.' {
			return len(local) + 1 + dot + 1 + len(top), false
		}
		domain = strings.TrimRight(domain[:dot], ".-")
	}
}

// prefixes gives the lengths of the run's beginnings that end where a group of digits or letters does, longest first.
// Groups are kept apart by at most gap separators.
func prefixes(run string, next byte, gap int) []int {
	var ends []int
	apart := 0
	for i := range len(run) {
		if !isAlnum(run[i]) {
			if apart++; apart > gap {
				break
			}
			continue
		}
		apart = 0
		after := next
		if i+1 < len(run) {
			after = run[i+1]
		}
		if !isAlnum(after) {
			ends = append(ends, i+1)
		}
	}
	slices.Reverse(ends)
	return ends
}

// digitsOf gives the digits of s.
func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// findCard takes 13 to 19 digits, in groups or not, whose last one checks the others (ISO/IEC 7812-1, Luhn).
func findCard(before byte, s string, final bool) (int, bool) {
	if !isDigit(s[0]) || isAlnum(before) {
		return 0, false
	}
	run, next, more := runOf(s, 48, final, func(c byte) bool { return isDigit(c) || c == ' ' || c == '-' })
	if more {
		return 0, true
	}
	for _, n := range prefixes(run, next, 1) {
		if digits := digitsOf(run[:n]); len(digits) >= 13 && len(digits) <= 19 && luhn(digits) {
			return n, false
		}
	}
	return 0, false
}

func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// findIBAN takes a country, two check digits and 11 to 30 more characters that they check (ISO 13616, modulo 97).
func findIBAN(before byte, s string, final bool) (int, bool) {
	if isAlnum(before) {
		return 0, false
	}
	for i, in := range []func(byte) bool{isLetter, isLetter, isDigit, isDigit} {
		if i == len(s) {
			return 0, !final
		}
		if !in(s[i]) {
			return 0, false
		}
	}
	run, next, more := runOf(s, 48, final, func(c byte) bool { return isAlnum(c) || c == ' ' })
	if more {
		return 0, true
	}
	for _, n := range prefixes(run, next, 1) {
		if compact := strings.ReplaceAll(run[:n], " ", ""); len(compact) >= 15 && len(compact) <= 34 && mod97(compact) == 1 {
			return n, false
		}
	}
	return 0, false
}

func mod97(iban string) int {
	rest := 0
	for _, c := range []byte(iban[4:] + iban[:4]) {
		if isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c|0x20-'a') + 10) % 97
		}
	}
	return rest
}

// findAddress takes an IPv4 address of four numbers, or an IPv6 address of two groups or more.
func findAddress(before byte, s string, final bool) (int, bool) {
	if !isHex(s[0]) || isAlnum(before) || before == '.' || before == ':' {
		return 0, false
	}
	run, next, more := runOf(s, 64, final, func(c byte) bool { return isHex(c) || c == '.' || c == ':' })
	if more {
		return 0, true
	}
	text := strings.TrimRight(run, ".")
	if !strings.HasSuffix(text, "::") {
		text = strings.TrimRight(text, ":")
	}
	if len(text) == len(run) && isAlnum(next) {
		return 0, false
	}
	if host, port, ok := strings.Cut(text, ":"); ok && strings.Count(host, ".") == 3 && !strings.Contains(port, ":") {
		text = host // and not its port
	}
	if address, err := netip.ParseAddr(text); err != nil || address.Is6() && len(strings.FieldsFunc(text, func(r rune) bool { return r == ':' })) < 2 {
		return 0, false
	}
	return len(text), false
}

// findPhone takes a number with a country's code after a plus, one that begins with a zero or an area in brackets and
// is in groups, or three groups of 3, 3 and 4 digits. Other numbers are too often something else.
func findPhone(before byte, s string, final bool) (int, bool) {
	if !isDigit(s[0]) && s[0] != '+' && s[0] != '(' || isAlnum(before) || before == '+' {
		return 0, false
	}
	run, next, more := runOf(s, 40, final, func(c byte) bool { return isDigit(c) || strings.IndexByte(" -.()/", c) >= 0 || c == '+' })
	if more {
		return 0, true
	}
	if plus := strings.IndexByte(run[1:], '+'); plus >= 0 {
		run, next = run[:plus+1], '+'
	}
	for _, n := range prefixes(run, next, 2) {
		if isPhone(run[:n]) {
			return n, false
		}
	}
	return 0, false
}

func isPhone(s string) bool {
	groups := strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	digits := len(digitsOf(s))
	var sizes []int
	for _, g := range groups {
		sizes = append(sizes, len(g))
	}
	switch {
	case digits < 8 || digits > 15:
		return false
	case s[0] == '+':
		return isDigit(s[1]) || s[1] == '('
	case slices.Equal(sizes, []int{3, 3, 4}):
		return true
	case slices.Equal(sizes, []int{2, 2, 4}): // a date
		return false
	}
	return len(groups) > 1 && (s[0] == '0' || s[0] == '(')
}
