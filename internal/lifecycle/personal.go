package lifecycle

import (
	"regexp"
	"slices"
	"strings"
)

// Bounds of what a service may declare as redacted.
const (
	maxPatterns = 32
	maxPattern  = 500 // bytes
)

// Masker puts "[KIND]" in the place of personal data and "[redacted]" in the place of what patterns match. Nil masks
// nothing. It is safe for concurrent use.
type Masker struct {
	forms    PersonalForms
	patterns []*regexp.Regexp
}

// NewMasker makes a masker of kinds of personal data and of RE2 patterns. Unknown kinds and patterns that cannot be
// meant are Invalid.
func NewMasker(kinds, patterns []string) (*Masker, error) {
	faults := checkRedaction("redact", Redaction{Kinds: kinds, Patterns: patterns})
	if err := faults.Err("redaction"); err != nil {
		return nil, err
	}
	m := &Masker{forms: FormsOf(kinds)}
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
	text, _ = m.forms.Scan(true).Feed(text, true)
	return text
}

func checkRedaction(path string, r Redaction) Problems {
	var faults Problems
	for i, kind := range r.Kinds {
		if !slices.Contains(PIIKinds(), kind) {
			faults.Add(path+".kinds["+itoa(i)+"]", quote(kind), "give one of %s", strings.Join(PIIKinds(), ", "))
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
