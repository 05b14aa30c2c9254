package lifecycle

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	RuleMaxLength   = "max-length"     // value: characters
	RuleDenyPattern = "deny-pattern"   // value: RE2 regular expression
	RuleTrim        = "trim"           // no value: white space at both ends
	RulePII         = "pii"            // value: kinds of personal data, apart by commas; empty: all
	RuleRefusal     = "refusal-phrase" // value: phrases by which a model refuses, one a line
	RuleJSON        = "json"           // no value: the whole answer is one JSON value
)

// Kinds of personal data that a rule finds.
const (
	PIIEmail   = "email"
	PIIPhone   = "phone"
	PIICard    = "card" // payment cards, checked by their last digit
	PIIIBAN    = "iban" // checked by their check digits
	PIIAddress = "ip"
)

// PIIKinds lists the kinds of personal data that a rule finds.
func PIIKinds() []string { return []string{PIIEmail, PIIPhone, PIICard, PIIIBAN, PIIAddress} }

// PIIOf gives the kinds of personal data that a rule names.
func PIIOf(r Rule) []string {
	if strings.TrimSpace(r.Value) == "" {
		return PIIKinds()
	}
	kinds := strings.Split(r.Value, ",")
	for i := range kinds {
		kinds[i] = strings.TrimSpace(kinds[i])
	}
	return kinds
}

// ruleActions are what a rule of a kind may do, the default first. Mask puts a mark in place of what matched, refuse
// puts the notice in place of the answer, count lets the answer pass, and mark lets it pass with the finish reason
// content_filter. Every rule that minds an answer is counted.
var ruleActions = map[string][]string{
	RuleMaxLength: {"", "mask", "refuse"}, RuleTrim: {"", "mask"},
	RuleDenyPattern: {"", "mask", "refuse"}, RulePII: {"", "mask", "refuse", "count"},
	RuleRefusal: {"", "count", "mark"}, RuleJSON: {"", "count", "mark", "refuse"},
}

// maxRuleValue bounds a rule's value, in bytes: each stream keeps so much of its text.
const maxRuleValue = 4096

// CheckRules gives the faults of post-processing rules.
func CheckRules(path string, rules []Rule) Problems {
	return checkRules(path, rules)
}

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
		case RulePII:
			for _, kind := range PIIOf(r) {
				if !slices.Contains(PIIKinds(), kind) {
					faults.Add(at+".value", quote(kind), "give some of %s, apart by commas, or nothing for all", strings.Join(PIIKinds(), ", "))
				}
			}
		case RuleRefusal:
			if strings.TrimSpace(r.Value) == "" || len(r.Value) > maxRuleValue {
				faults.Add(at+".value", itoa(len(r.Value))+" bytes", "give phrases, one a line, at most %d bytes", maxRuleValue)
			}
		case RuleTrim, RuleJSON:
		default:
			faults.Add(at+".kind", quote(r.Kind), "give one of %s", strings.Join(sortedKeys(ruleActions), ", "))
			continue
		}
		if actions := ruleActions[r.Kind]; !slices.Contains(actions, r.Action) {
			faults.Add(at+".action", quote(r.Action), "give %s, or leave it out", strings.Join(actions[1:], " or "))
		}
	}
	return faults
}

func ftoa(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
