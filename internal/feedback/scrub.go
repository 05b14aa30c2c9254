package feedback

import (
	"regexp"
	"strings"
	"unicode"
)

// scrubber finds secrets, for which an item is dropped, and personal data, which is masked.
type scrubber struct {
	secrets []*regexp.Regexp
	masks   []mask
}

type mask struct {
	pattern *regexp.Regexp
	with    string
	really  func(match string) bool // nil: every match
}

func newScrubber() *scrubber {
	secrets := []string{
		`-----BEGIN [A-Z ]*PRIVATE KEY-----`,
		`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`,           // AWS access key ID
		`\bgh[pousr]_[A-Za-z0-9]{36,}\b`,          // GitHub
		`\bgithub_pat_[A-Za-z0-9_]{22,}\b`,        // GitHub, fine-grained
		`\bglpat-[A-Za-z0-9_-]{20,}`,              // GitLab
		`\bxox[abposr]-[A-Za-z0-9-]{10,}`,         // Slack
		`\bsk-[A-Za-z0-9_-]{20,}`,                 // OpenAI and others
		`\bAIza[0-9A-Za-z_-]{35}`,                 // Google
		`\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}`, // JSON web token
		`(?i)\b(?:authorization|bearer)[:\s]+[\w.~+/-]{20,}=*`,
		`(?i)\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)\b["']?\s*[:=]\s*["']?[^\s"']{8,}`,
	}
	s := &scrubber{masks: []mask{
		{pattern: regexp.MustCompile(`[\w.%+-]+@[\w-]+(?:\.[\w-]+)+`), with: "[email]"},
		{pattern: regexp.MustCompile(`\b\d(?:[ -]?\d){12,18}\b`), with: "[card]", really: luhn},
		{pattern: regexp.MustCompile(`\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b`), with: "[iban]", really: iban},
		{pattern: regexp.MustCompile(`(?:\+|\b00)\d{1,3}(?:[ ().-]{0,2}\d){7,12}\b`), with: "[phone]"},
	}}
	for _, p := range secrets {
		s.secrets = append(s.secrets, regexp.MustCompile(p))
	}
	return s
}

func (s *scrubber) secret(text string) bool {
	for _, p := range s.secrets {
		if p.MatchString(text) {
			return true
		}
	}
	return false
}

func (s *scrubber) mask(text string) string {
	for _, m := range s.masks {
		text = m.pattern.ReplaceAllStringFunc(text, func(match string) string {
			if m.really != nil && !m.really(match) {
				return match
			}
			return m.with
		})
	}
	return text
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
