package evaluation

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// kinds are the ways to ask, each with what its scorers look at; "" is a kind that needs none.
var kinds = map[string]score.Asks{
	BitsPerByte: "", NextToken: "", Cloze: "", Retrieval: score.Ranking,
	Generate: score.Text, Choice: score.Choices, Likelihood: score.Likelihood,
}

// maxProblems bounds how many faults of a suite are told at once.
const maxProblems = 50

// Check gives all faults of a suite at once.
func (s Suite) Check() error { return s.Problems().Err("suite") }

// Problems lists the faults of a suite, the first ones where there are many. Their paths are capabilities[i] and
// cases[i], with a field where one is at fault.
func (s Suite) Problems() lifecycle.Problems {
	var faults lifecycle.Problems
	if s.Version != BuiltVersion && s.Version != SuiteVersion {
		faults.Add("version", fmt.Sprint(s.Version), "this Refit reads versions %d and %d", BuiltVersion, SuiteVersion)
	}
	if s.Version == BuiltVersion && s.Name != "" {
		faults.Add("name", s.Name, "version 1 has none")
	}
	if len(s.Capabilities) == 0 {
		faults.Add("capabilities", "none", "give at least one")
	}
	if a := s.Agreement; a != nil && (s.Version == BuiltVersion || !(a.Minimum > 0 && a.Minimum < 1) || a.Labels < 1) {
		faults.Add("agreement", fmt.Sprint(*a), "give a minimum between 0 and 1 and a number of labels, in version 2")
	}
	scorers := s.checkCapabilities(&faults)
	s.checkCases(&faults, scorers)
	return faults
}

// ready is a capability with its scorer; nil where it needs none.
type ready struct {
	Capability
	scorer *score.Scorer
}

func (s Suite) checkCapabilities(faults *lifecycle.Problems) map[string]ready {
	known := map[string]ready{}
	for i, c := range s.Capabilities {
		at := fmt.Sprintf("capabilities[%d]", i)
		if _, twice := known[c.Name]; c.Name == "" || twice {
			faults.Add(at+".name", fmt.Sprintf("%q", c.Name), "give each capability a name of its own")
		}
		if !(c.Margin > 0) || math.IsInf(c.Margin, 0) {
			faults.Add(at+".margin", fmt.Sprint(c.Margin), "give a drop over 0 that is still accepted")
		}
		if s.Version == BuiltVersion && (c.Scorer != nil || c.Sampling != nil || len(c.Tags) > 0 || !builtKind(c.Kind)) {
			faults.Add(at, "a field or a kind of version 2", "version 1 has bits-per-byte, next-token, cloze and retrieval, without scorer, sampling and tags")
		}
		scorer, found := c.ready()
		for _, fault := range found {
			fault.Path = at + fault.Path
			*faults = append(*faults, fault)
		}
		if sampling := c.Sampling; sampling != nil {
			sampling.check(faults, at+".sampling")
		}
		known[c.Name] = ready{c, scorer}
	}
	return known
}

func builtKind(kind string) bool {
	return slices.Contains([]string{BitsPerByte, NextToken, Cloze, Retrieval}, kind)
}

// ready makes the capability's scorer, or says what is wrong with kind and scorer.
func (c Capability) ready() (*score.Scorer, lifecycle.Problems) {
	var faults lifecycle.Problems
	asks, known := kinds[c.Kind]
	switch {
	case !known:
		faults.Add(".kind", fmt.Sprintf("%q", c.Kind), "give generate, choice, likelihood or retrieval; built suites have bits-per-byte, next-token and cloze, too")
		return nil, faults
	case c.Scorer == nil && builtKind(c.Kind):
		return nil, nil
	case c.Scorer == nil:
		faults.Add(".scorer", "none", "say how an answer is scored")
		return nil, faults
	case asks == "":
		faults.Add(".scorer", c.Scorer.Name, "%s is scored in one way only", c.Kind)
		return nil, faults
	}
	scorer, err := score.New(*c.Scorer, score.World{})
	if err != nil {
		faults.Add(".scorer", c.Scorer.Name, "%v", err)
		return nil, faults
	}
	if scorer.Asks != asks {
		faults.Add(".scorer", c.Scorer.Name, "it looks at %s, and %s gives %s", scorer.Asks, c.Kind, asks)
		return nil, faults
	}
	if c.Metric != scorer.Metric {
		faults.Add(".metric", fmt.Sprintf("%q", c.Metric), "scorer %s calls it %q", c.Scorer.Name, scorer.Metric)
	}
	return &scorer, faults
}

func (p Sampling) check(faults *lifecycle.Problems, at string) {
	if p.Samples < 0 || p.Samples > maxSamples {
		faults.Add(at+".samples", fmt.Sprint(p.Samples), "give 1 to %d", maxSamples)
	}
	if t := p.Temperature; t != nil && !(*t >= 0 && *t <= 2) {
		faults.Add(at+".temperature", fmt.Sprint(*t), "give 0 to 2")
	}
	if t := p.TopP; t != nil && !(*t > 0 && *t <= 1) {
		faults.Add(at+".top_p", fmt.Sprint(*t), "give more than 0, at most 1")
	}
	if p.MaxTokens < 0 || p.MaxTokens > maxTokens {
		faults.Add(at+".max_tokens", fmt.Sprint(p.MaxTokens), "give 1 to %d", maxTokens)
	}
}

func (s Suite) checkCases(faults *lifecycle.Problems, known map[string]ready) {
	count, gates := map[string]int{}, map[string]int{}
	seen, splits, asked := map[string]bool{}, map[string]string{}, map[uint64]string{}
	for i, c := range s.Cases {
		if len(*faults) > maxProblems {
			return
		}
		at := fmt.Sprintf("cases[%d]", i)
		capability, ok := known[c.Capability]
		split := cmp.Or(c.Split, GateSplit)
		if other, met := splits[c.Group]; met && other != split {
			faults.Add(at+".split", split, "group %q has cases in the split %s, and a group belongs to one", c.Group, other)
		}
		if s.Version != BuiltVersion {
			what := c.asks()
			if other, met := asked[what]; met && other != split {
				faults.Add(at+".split", split, "the same is asked in the split %s; a question belongs to one", other)
			}
			asked[what] = split
		}
		switch {
		case c.ID == "" || seen[c.ID]:
			faults.Add(at+".id", fmt.Sprintf("%q", c.ID), "give each case an ID of its own")
		case !ok:
			faults.Add(at+".capability", fmt.Sprintf("%q", c.Capability), "name one of the suite's capabilities")
		case s.Version == BuiltVersion && c.newer():
			faults.Add(at, "a field of version 2", "say version 2")
		default:
			c.check(faults, at, capability)
		}
		seen[c.ID] = true
		if c.Group != "" {
			splits[c.Group] = split
		}
		count[c.Capability]++
		if split == GateSplit {
			gates[c.Capability]++
		}
	}
	for i, c := range s.Capabilities {
		at := fmt.Sprintf("capabilities[%d].items", i)
		if count[c.Name] != c.Items || c.Items == 0 {
			faults.Add(at, fmt.Sprint(c.Items), "the suite holds %d cases of it; it needs at least one", count[c.Name])
		} else if gates[c.Name] == 0 && len(*faults) == 0 && !s.searches() {
			faults.Add(at, "all in the split search", "give gates cases of it, too: what they do not ask nobody holds")
		}
	}
}

// searches says whether this is the search split of a suite, which no gate reads.
func (s Suite) searches() bool {
	return !slices.ContainsFunc(s.Cases, func(c Case) bool { return c.Split != SearchSplit })
}

// asks is a hash of what a case asks, whatever its ID.
func (c Case) asks() uint64 {
	parts := []string{c.Text}
	for _, m := range c.Messages {
		parts = append(parts, m.Role, m.Content)
	}
	return hash(0, append(parts, c.Choices...)...)
}

// newer says whether a case has what version 1 does not know.
func (c Case) newer() bool {
	return len(c.Also) > 0 || len(c.Messages) > 0 || len(c.Passages) > 0 || len(c.Relevant) > 0 || c.Weight != 0 || c.Split != "" ||
		len(c.Tags) > 0 || c.Human != nil
}

func (c Case) check(faults *lifecycle.Problems, at string, capability ready) {
	if c.Text == "" || c.Group == "" {
		faults.Add(at, "no text or no group", "give both")
	}
	if c.Weight < 0 || c.Weight > maxWeight {
		faults.Add(at+".weight", fmt.Sprint(c.Weight), "give a whole number from 1 to %d", maxWeight)
	}
	if c.Split != "" && c.Split != GateSplit && c.Split != SearchSplit {
		faults.Add(at+".split", fmt.Sprintf("%q", c.Split), "give gate or search")
	}
	for i, m := range c.Messages {
		if !slices.Contains([]string{"system", "user", "assistant"}, m.Role) {
			faults.Add(fmt.Sprintf("%s.messages[%d].role", at, i), fmt.Sprintf("%q", m.Role), "give system, user or assistant")
		}
	}
	if len(c.Messages) > 0 && capability.Kind != Generate {
		faults.Add(at+".messages", "given", "only generate asks a chat")
	}
	c.checkHuman(faults, at, capability)
	right := c.References()
	switch {
	case capability.scorer == nil && builtKind(capability.Kind) && capability.Kind != BitsPerByte && c.Want == "":
		faults.Add(at+".want", "none", "say what is right")
	case capability.scorer != nil && capability.scorer.Wants && len(right) == 0 && len(c.Relevant) == 0:
		faults.Add(at+".want", "none", "say what is right: scorer %s needs it", capability.scorer.Name)
	case capability.Kind == Likelihood && len(right) > 1:
		faults.Add(at+".want", fmt.Sprint(len(right)), "give the one text whose likelihood after this one is measured, or none")
	case capability.Kind == Cloze || capability.Kind == Choice:
		if len(c.Choices) < 2 || !slices.ContainsFunc(right, func(w string) bool { return slices.Contains(c.Choices, w) }) || twice(c.Choices) {
			faults.Add(at+".choices", fmt.Sprint(len(c.Choices)), "give at least two, each once, the right one among them")
		}
	}
	if capability.scorer != nil && capability.scorer.Check != nil {
		item := score.Item{Want: right, Relevant: c.Relevant}
		for _, choice := range c.Choices {
			item.Choices = append(item.Choices, score.Choice{Text: choice})
		}
		if err := capability.scorer.Check(item); err != nil {
			faults.Add(at, "scorer "+capability.scorer.Name, "%v", err)
		}
	}
}

func (c Case) checkHuman(faults *lifecycle.Problems, at string, capability ready) {
	if c.Human == nil {
		return
	}
	score := c.Human.Score
	if math.IsNaN(score) || math.IsInf(score, 0) {
		faults.Add(at+".human.score", fmt.Sprint(score), "give a number")
	}
	if capability.scorer == nil {
		return
	}
	if all := capability.scorer.Categories; all != nil && !slices.Contains(all, score) {
		faults.Add(at+".human.score", fmt.Sprint(score), "scorer %s gives one of %v", capability.scorer.Name, all)
	}
	if pairs := capability.scorer.Pair != nil; pairs != (c.Human.Over != "") {
		faults.Add(at+".human.over", fmt.Sprintf("%d bytes", len(c.Human.Over)), "give the other answer where answers are compared, and there only")
	}
}

func twice(list []string) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(list)))) < len(list)
}
