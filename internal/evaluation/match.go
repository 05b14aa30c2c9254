package evaluation

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// sheet is a set of answers that was checked against its suite, in the suite's order.
type sheet struct {
	answers []Answer
	starts  []int // case i was answered by answers[starts[i]:starts[i+1]], one a sample
}

// of gives the answers to the suite's i-th case, one a sample.
func (s sheet) of(i int) []Answer { return s.answers[s.starts[i]:s.starts[i+1]] }

// maxFaults bounds the reasons of one side.
const maxFaults = 10

// faults collects what makes a comparison unfair.
type faults struct {
	who  string
	list []string
}

func (f *faults) add(format string, args ...any) {
	if len(f.list) < maxFaults {
		f.list = append(f.list, f.who+": "+fmt.Sprintf(format, args...))
	}
}

// check reads answers against the suite. Every fault that makes a comparison unfair is named: answers to another
// suite, of another release, missing, twice, of no case, or with a score that cannot be.
func check(who string, s Suite, suite, release lifecycle.Digest, a Answers) (sheet, []string) {
	f := faults{who: who}
	if a.Suite != suite {
		f.add("answers suite %s, not %s", or(a.Suite), or(suite))
	}
	if a.Release != release {
		f.add("the answers are of release %s, not %s", or(a.Release), or(release))
	}
	binary, samples := map[string]bool{}, map[string]int{}
	for _, c := range s.Capabilities {
		binary[c.Name], samples[c.Name] = c.Binary(), c.Samples()
	}
	out := sheet{answers: inOrder(s, a.List), starts: make([]int, 1, len(s.Cases)+1)}
	at, missing := 0, 0
	for _, c := range s.Cases {
		samples, next := samples[c.Capability], 0
		for at < len(out.answers) && out.answers[at].Case == c.ID {
			a := out.answers[at]
			f.answer(c, a, next, samples, binary[c.Capability])
			if a.Sample > next && next < samples {
				missing += min(a.Sample, samples) - next
			}
			next, at = a.Sample+1, at+1
		}
		if next < samples {
			if missing == 0 {
				f.add("%s has no answer", place{c.ID, next})
			}
			missing += samples - next
		}
		out.starts = append(out.starts, at)
	}
	if missing > 1 {
		f.add("%d answers are missing", missing)
	}
	if extra := len(out.answers) - at; extra > 0 {
		f.add("%d answers belong to no case of the suite", extra)
	}
	return out, f.list
}

// answer checks one answer to a case; next is the sample that has not been seen yet.
func (f *faults) answer(c Case, a Answer, next, samples int, binary bool) {
	at := place{a.Case, a.Sample}
	switch {
	case a.Sample >= samples || a.Sample < 0:
		f.add("%s belongs to no case of the suite, which asks it %d times", at, samples)
	case a.Sample < next:
		f.add("%s was answered twice", at)
	case a.Sample > next:
		f.add("%s has no answer", place{a.Case, next})
	}
	if a.Error != "" {
		f.add("%s has no score: %s", at, a.Error)
	}
	if !finite(a.Score) || binary && a.Score != 0 && a.Score != 1 {
		f.add("%s has the score %v", at, a.Score)
	}
	if a.Capability != c.Capability {
		f.add("%s was answered as one of %q", at, a.Capability)
	}
}

// place names one question.
type place struct {
	Case   string
	Sample int
}

func (p place) String() string {
	if p.Sample == 0 {
		return "case " + p.Case
	}
	return fmt.Sprintf("case %s, sample %d,", p.Case, p.Sample)
}

// inOrder gives the answers in the order of the suite's cases and of their samples; those of no case come last.
func inOrder(s Suite, list []Answer) []Answer {
	at := 0
	for _, c := range s.Cases {
		for from := at; at < len(list) && list[at].Case == c.ID && list[at].Sample == at-from; {
			at++
		}
	}
	if at == len(list) {
		return list
	}
	place := make(map[string]int, len(s.Cases))
	for i, c := range s.Cases {
		place[c.ID] = i
	}
	order := func(a Answer) int {
		if i, ok := place[a.Case]; ok {
			return i
		}
		return len(s.Cases)
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.Sample, b.Sample))
	})
	return sorted
}

func or(d lifecycle.Digest) string { return cmp.Or(d.Short(), "(none)") }
