package corpus

import (
	"math"
	"regexp"
	"strings"
	"unicode"
)

// Kinds of secret, as the data card counts them.
const (
	PrivateKey  = "private-key"
	AWSKey      = "aws-key"
	AccessToken = "access-token"
	Assignment  = "assignment" // a random-looking value given to a telling name
)

// secretForm is a kind of secret with the pattern of its known form; group 1 is the secret itself.
type secretForm struct {
	kind    string
	pattern *regexp.Regexp
	random  bool // what looks made by hand is none
}

// secretForms are compiled anew for each finder: a package holds no state. Published forms of the
// issuers: AWS key IDs, GitHub, GitLab, Slack, Google, Stripe, npm and OpenAI-like tokens, JSON web tokens (RFC 7519).
func secretForms() []secretForm {
	form := func(kind, pattern string) secretForm {
		return secretForm{kind, regexp.MustCompile(pattern), kind != PrivateKey}
	}
	return []secretForm{
		form(PrivateKey, `(-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----\s+(?:[A-Za-z-]+: [^\n]*\s+)*[A-Za-z0-9+/=]{40})`),
		form(AWSKey, `\b((?:AKIA|ASIA)[A-Z0-9]{16})\b`),
		form(AccessToken, `\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_-]{20,})`),
		form(AccessToken, `\b(xox[abeprs]-[A-Za-z0-9-]{20,}|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{36})`),
		form(AccessToken, `\b([sr]k_live_[A-Za-z0-9]{20,}|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,})`),
		form(AccessToken, `\b(eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,})`),
		form(Assignment, `(?i)(?:passw(?:or)?d|secret|token|api[_-]?key|access[_-]?key|credential)[a-z_-]{0,20}["']?\s{0,3}(?::=|=|:)\s{0,3}["']?([A-Za-z0-9+/_.~-]{20,}={0,2})`),
	}
}

// finder looks for secrets.
type finder struct{ forms []secretForm }

func newFinder() finder { return finder{secretForms()} }

// find gives the kind of the first secret in a text, or "". It never gives the secret.
func (f finder) find(text string) string {
	for _, form := range f.forms {
		for _, found := range form.pattern.FindAllStringSubmatch(text, -1) {
			if !form.random || looksRandom(form.kind, found[1]) {
				return form.kind
			}
		}
	}
	return ""
}

// entropyFloor in bits per character: words of a language and names in code stay under it.
const entropyFloor = 3.5

// looksRandom leaves out the examples that documentation is full of: placeholders, paths and names. A token of a
// known form needs less, because its prefix speaks already.
func looksRandom(kind, value string) bool {
	upper := strings.ToUpper(value)
	for _, word := range []string{"EXAMPLE", "PLACEHOLDER", "YOUR", "XXXX", "....", "REDACTED"} {
		if strings.Contains(upper, word) {
			return false
		}
	}
	if kind != Assignment {
		return entropy(value) > 2.5
	}
	digits := 0
	for _, r := range value {
		if unicode.IsDigit(r) {
			digits++
		}
	}
	return digits >= 2 && digits < len(value) && entropy(value) >= entropyFloor
}

// entropy is Shannon's, in bits per byte of s.
func entropy(s string) float64 {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	bits := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
