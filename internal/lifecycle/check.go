package lifecycle

import (
	"regexp"
	"slices"
	"strconv"
)

const nameRemedy = "give 1 to 63 lower-case letters, digits and dashes, beginning with a letter"

// validName: names become workflow IDs, labels and S3 prefixes, so they stay within DNS labels.
func validName(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] < 'a' || s[0] > 'z' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// CheckServiceName refuses what cannot be a service's name.
func CheckServiceName(name string) error {
	var faults Problems
	if !validName(name) {
		faults.Add("service", quote(name), "%s", nameRemedy)
	}
	return faults.Err("input")
}

func checkParameters(path string, p Parameters) Problems {
	var faults Problems
	if p.MaxTokens < 0 || p.MaxTokens > 1<<20 {
		faults.Add(path+".max_tokens", itoa(p.MaxTokens), "give 1 to 1048576, or leave it out for the server's default")
	}
	if p.Temperature != nil && (*p.Temperature < 0 || *p.Temperature > 2) {
		faults.Add(path+".temperature", ftoa(*p.Temperature), "give 0 to 2")
	}
	if p.TopP != nil && (*p.TopP <= 0 || *p.TopP > 1) {
		faults.Add(path+".top_p", ftoa(*p.TopP), "give more than 0, at most 1")
	}
	if p.TopK < 0 || p.TopK > 100 {
		faults.Add(path+".retrieve", itoa(p.TopK), "give 0 to 100 passages")
	}
	if len(p.Stop) > 16 {
		faults.Add(path+".stop", itoa(len(p.Stop))+" sequences", "give at most 16")
	}
	if d := p.Diffusion; d != nil && (d.Steps < 1 || d.Steps > 1000) {
		faults.Add(path+".diffusion.steps", itoa(d.Steps), "give 1 to 1000 sampling steps")
	}
	return faults
}

// Kinds of post-processing rules.
const (
	RuleMaxLength   = "max-length"   // value: characters
	RuleDenyPattern = "deny-pattern" // value: RE2 regular expression
	RuleTrim        = "trim"         // no value: white space at both ends
)

func checkRules(path string, rules []Rule) Problems {
	var faults Problems
	for i, r := range rules {
		at := path + "[" + itoa(i) + "]"
		switch r.Kind {
		case RuleMaxLength:
			if n, err := strconv.Atoi(r.Value); err != nil || n < 1 {
				faults.Add(at+".value", quote(r.Value), "give a number of characters, at least 1")
			}
		case RuleDenyPattern:
			if _, err := regexp.Compile(r.Value); err != nil || r.Value == "" {
				faults.Add(at+".value", quote(r.Value), "give an RE2 regular expression")
			}
		case RuleTrim:
		default:
			faults.Add(at+".kind", quote(r.Kind), "give one of max-length, deny-pattern, trim")
		}
		if !slices.Contains([]string{"", "mask", "refuse"}, r.Action) {
			faults.Add(at+".action", quote(r.Action), "give mask or refuse")
		}
	}
	return faults
}

func ftoa(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
