package lifecycle

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what a service may declare as redacted.
const (
	maxPatterns = 32
	maxPattern  = 500 // bytes
)

// personal is one kind of personal data that is known by its form.
type personal struct {
	kind    string
	pattern *regexp.Regexp
	needs   string            // any of these bytes stands in every match; a text without one is not searched
	really  func(string) bool // nil: every match is one
}

// personalData holds the forms in the order in which they are masked.
var personalData = []personal{
	{kind: "email", needs: "@", pattern: regexp.MustCompile(`[\w.%+-]+@[\w-]+(?:\.[\w-]+)+`)},
	{kind: "card", needs: digits, pattern: regexp.MustCompile(`\b\d(?:[ -]?\d){12,18}\b`), really: luhn},
	{kind: "iban", needs: digits, pattern: regexp.MustCompile(`\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b`), really: iban},
	{kind: "ip", needs: ".", pattern: regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b`), really: ipv4},
	{kind: "phone", needs: digits, pattern: regexp.MustCompile(`(?:\+|\b00)\d{1,3}(?:[ ().-]{0,2}\d){7,12}\b`)},
}

const digits = "0123456789"

// PersonalKinds lists the kinds of personal data that can be found by their form. Names and addresses in prose cannot.
func PersonalKinds() []string {
	kinds := make([]string, len(personalData))
	for i, p := range personalData {
		kinds[i] = p.kind
	}
	return kinds
}

// Masker puts "[KIND]" in the place of personal data and "[redacted]" in the place of what patterns match. Nil masks
// nothing. It is safe for concurrent use.
type Masker struct {
	kinds    []personal
	patterns []*regexp.Regexp
}

// NewMasker makes a masker of kinds of personal data and of RE2 patterns. Unknown kinds and patterns that cannot be
// meant are Invalid.
func NewMasker(kinds, patterns []string) (*Masker, error) {
	faults := checkRedaction("redact", Redaction{Kinds: kinds, Patterns: patterns})
	if err := faults.Err("redaction"); err != nil {
		return nil, err
	}
	m := &Masker{}
	for _, p := range personalData {
		if slices.Contains(kinds, p.kind) {
			m.kinds = append(m.kinds, p)
		}
	}
	for _, p := range patterns {
		m.patterns = append(m.patterns, regexp.MustCompile(p))
	}
	return m, nil
}

// Mask gives the text with what is masked.
func (m *Masker) Mask(text string) string {
	if m == nil || text == "" {
		return text
	}
	for _, p := range m.patterns {
		text = p.ReplaceAllLiteralString(text, "[redacted]")
	}
	for _, p := range m.kinds {
		if !strings.ContainsAny(text, p.needs) {
			continue
		}
		text = p.pattern.ReplaceAllStringFunc(text, func(match string) string {
			if p.really != nil && !p.really(match) {
				return match
			}
			return "[" + p.kind + "]"
		})
	}
	return text
}

func checkRedaction(path string, r Redaction) Problems {
	var faults Problems
	for i, kind := range r.Kinds {
		if !slices.Contains(PersonalKinds(), kind) {
			faults.Add(path+".kinds["+itoa(i)+"]", quote(kind), "give one of %s", strings.Join(PersonalKinds(), ", "))
		}
	}
	if len(r.Patterns) > maxPatterns {
		faults.Add(path+".patterns", itoa(len(r.Patterns)), "give at most %d", maxPatterns)
	}
	for i, p := range r.Patterns {
		at := path + ".patterns[" + itoa(i) + "]"
		compiled, err := regexp.Compile(p)
		switch {
		case len(p) > maxPattern:
			faults.Add(at, itoa(len(p))+" bytes", "give at most %d", maxPattern)
		case err != nil:
			faults.Add(at, quote(p), "give an RE2 regular expression")
		case compiled.MatchString(""):
			faults.Add(at, quote(p), "it matches the empty text; say what is to be redacted")
		}
	}
	return faults
}

// luhn is the check of payment card numbers (ISO/IEC 7812-1).
func luhn(s string) bool {
	sum, double := 0, false
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		d := int(s[i] - '0')
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum, double = sum+d, !double
	}
	return sum%10 == 0
}

// iban is the check of bank account numbers (ISO 13616): modulo 97 of the rearranged number is 1.
func iban(s string) bool {
	s = strings.ReplaceAll(s, " ", "")
	if len(s) < 15 || len(s) > 34 {
		return false
	}
	rest := 0
	for _, c := range s[4:] + s[:4] {
		if unicode.IsDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}

func ipv4(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if n, err := strconv.Atoi(part); err != nil || n > 255 {
			return false
		}
	}
	return true
}
