package lifecycle

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A finder looks for one kind of personal data that starts with s[0]; before is the byte in front of it, 0 at the
// start of the text. It gives the match's length, 0 for none. What it says depends on one bounded run of characters
// and what stands around it, so it is the same however the text is cut: where the run may go on with text to come it
// says more, and is asked again.
type finder func(before byte, s string, final bool) (n int, more bool)

// form is one kind of personal data that is known by its form.
type form struct {
	kind string
	find finder
}

// forms in the order in which they are asked.
func forms() []form {
	return []form{{PIIEmail, findEmail}, {PIIIBAN, findIBAN}, {PIICard, findCard}, {PIIAddress, findAddress}, {PIIPhone, findPhone}}
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

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isHex(c byte) bool    { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isLetter(c) || isDigit(c) }
func inLocal(c byte) bool  { return isAlnum(c) || strings.IndexByte("._%+-", c) >= 0 }
func inHost(c byte) bool   { return isAlnum(c) || strings.IndexByte("._-", c) >= 0 }

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
	if !isHex(s[0]) || isAlnum(before) || before == '.' {
		return 0, false
	}
	run, next, more := runOf(s, 64, final, func(c byte) bool { return isHex(c) || c == '.' || c == ':' })
	if more {
		return 0, true
	}
	if n := ipv4(run, next); n > 0 || before == ':' { // "host:10.0.0.1"; an IPv6 address begins in front of its colons
		return n, false
	}
	text := strings.TrimRight(run, ".")
	if !strings.HasSuffix(text, "::") {
		text = strings.TrimRight(text, ":")
	}
	if len(text) == len(run) && isAlnum(next) {
		return 0, false
	}
	if address, err := netip.ParseAddr(text); err != nil || !address.Is6() || len(strings.FieldsFunc(text, func(r rune) bool { return r == ':' })) < 2 {
		return 0, false
	}
	return len(text), false
}

// ipv4 gives the length of an address of four numbers at the start of a run, 0 for none. Its port is no part of it, nor
// is the end of a sentence. Four numbers with more before or behind them are something else.
func ipv4(run string, next byte) int {
	text, after, _ := runOf(run, len(run), true, func(c byte) bool { return isDigit(c) || c == '.' })
	if len(text) == len(run) {
		after = next
	}
	whole := strings.TrimRight(text, ".")
	if len(whole) == len(text) && isAlnum(after) {
		return 0
	}
	parts := strings.Split(whole, ".")
	for _, part := range parts {
		if n, err := strconv.ParseUint(part, 10, 16); err != nil || n > 255 || len(part) > 3 {
			return 0
		}
	}
	if len(parts) != 4 {
		return 0
	}
	return len(whole)
}

// findPhone takes a number with a country's code after a plus or two zeros, one that begins with a zero or an area in brackets and
// is in groups, or three groups of 3, 3 and 4 digits. Other numbers are too often something else.
func findPhone(before byte, s string, final bool) (int, bool) {
	if !isDigit(s[0]) && s[0] != '+' && s[0] != '(' || isDigit(before) || before == '+' || isLetter(before) && s[0] != '+' {
		return 0, false // a plus behind a digit adds; behind a word it begins a number
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
	if abroad, ok := strings.CutPrefix(s, "00"); ok && abroad != "" && abroad[0] >= '1' && abroad[0] <= '9' {
		s = "+" + abroad // no country's code begins with a zero
	}
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
