package feedback

import (
	"regexp"

	"github.com/refitml/refit/internal/lifecycle"
)

// scrubber finds secrets, for which an item is dropped, and personal data, which is masked.
type scrubber struct {
	secrets []*regexp.Regexp
	masker  *lifecycle.Masker
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
	masker, err := lifecycle.NewMasker([]string{"email", "card", "iban", "phone"}, nil)
	if err != nil {
		panic(err) // its kinds stand here
	}
	s := &scrubber{masker: masker}
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

func (s *scrubber) mask(text string) string { return s.masker.Mask(text) }
