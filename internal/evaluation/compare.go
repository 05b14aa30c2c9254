package evaluation

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Comparisons is what a judge said of two releases' answers to one suite, case by case.
type Comparisons struct {
	Suite     lifecycle.Digest `json:"suite"` // artifact
	Candidate lifecycle.Digest `json:"candidate"`
	Baseline  lifecycle.Digest `json:"baseline"`
	List      []Comparison     `json:"-"`
}

// Comparison is what a judge said of both sides' answers to one case and sample.
type Comparison struct {
	Case       string           `json:"case"`
	Capability string           `json:"capability"`
	Sample     int              `json:"sample,omitempty"`
	Pair       lifecycle.Digest `json:"pair"`              // of both answers: of others it says nothing
	Same       bool             `json:"same,omitempty"`    // both answers are the same text: a tie, and no judge was asked
	Straight   score.Choosing   `json:"first,omitempty"`   // what was preferred with the candidate's answer first: one is the candidate's
	Swapped    score.Choosing   `json:"swapped,omitempty"` // likewise with the baseline's first
	Error      string           `json:"error,omitempty"`   // why there is none; a gate that reads it cannot judge
}

// preferred gives the candidate's score; the baseline's is what is left of 1.
func (c Comparison) preferred() float64 {
	return score.Preference{Straight: c.Straight, Swapped: c.Swapped}.Score()
}

// Compares says whether the capability's answers are worth something only beside those of another release.
func (c Capability) Compares() bool {
	if c.Kind != Generate || c.Scorer == nil {
		return false
	}
	scorer, _ := c.ready()
	return scorer != nil && scorer.Pair != nil
}

// Compares says whether any of the suite's capabilities does.
func (s Suite) Compares() bool {
	for _, c := range s.Capabilities {
		if c.Compares() {
			return true
		}
	}
	return false
}

// Pairs is how many pairs of answers are compared.
func (s Suite) Pairs() (n int) {
	compares := s.compares()
	for _, q := range s.questions() {
		if compares[s.Cases[q.at].Capability] {
			n++
		}
	}
	return n
}

// pairOf names two answers.
func pairOf(candidate, baseline string) lifecycle.Digest {
	return lifecycle.DigestOf(fmt.Appendf(nil, "%d %s%s", len(candidate), candidate, baseline))
}

// Comparing says how answers are compared.
type Comparing struct {
	Parallel int              // at once; default 4
	Have     []Comparison     // from before; the same two answers are not compared again
	Compared func(Comparison) // called with each new one, one call at a time; nil for none
	World    score.World      // whom scorers may ask
}

// CompareAll lets judges compare both sides' answers to every case of the capabilities that are scored so, in the suite's
// order. Answers that are not those of the suite are an error. At the first pair for which a judge was not there it stops,
// and gives that error with what it has; what a judge could not say of a pair comes back with its error.
func CompareAll(ctx context.Context, s Suite, candidate, baseline Answers, how Comparing) ([]Comparison, error) {
	for _, side := range []Answers{candidate, baseline} {
		if err := s.Answered(side.List); err != nil {
			return nil, lifecycle.Wrap(err, "answers of release %s", side.Release.Short())
		}
	}
	scorers := map[string]*score.Scorer{}
	for _, c := range s.Capabilities {
		if !c.Compares() {
			continue
		}
		scorer, err := score.New(*c.Scorer, how.World)
		if err != nil {
			return nil, lifecycle.Wrap(err, "capability %s", c.Name)
		}
		scorers[c.Name] = &scorer
	}
	var pairs []pair
	for i, q := range s.questions() {
		if scorer := scorers[s.Cases[q.at].Capability]; scorer != nil {
			pairs = append(pairs, pair{c: s.Cases[q.at], candidate: candidate.List[i], baseline: baseline.List[i], by: scorer})
		}
	}
	return comparePairs(ctx, pairs, how)
}

// pair is two answers to one question, and who compares them.
type pair struct {
	c                   Case
	candidate, baseline Answer
	by                  *score.Scorer
}

func comparePairs(ctx context.Context, pairs []pair, how Comparing) ([]Comparison, error) {
	setDefault(&how.Parallel, 4)
	type known struct {
		place
		pair lifecycle.Digest
	}
	before := map[known]Comparison{}
	for _, c := range how.Have {
		if c.Error == "" {
			before[known{place{c.Case, c.Sample}, c.Pair}] = c
		}
	}
	got := make([]*Comparison, len(pairs))
	for i, p := range pairs {
		blank := p.blank()
		if c, there := before[known{place{blank.Case, blank.Sample}, blank.Pair}]; there {
			got[i] = &c
		}
	}
	var one sync.Mutex // call of Compared at a time
	err := inParallel(ctx, len(pairs), how.Parallel, func(i int) bool { return got[i] != nil }, func(ctx context.Context, i int) error {
		c, err := pairs[i].compare(ctx)
		if err != nil {
			return err
		}
		got[i] = &c
		if how.Compared != nil {
			one.Lock()
			defer one.Unlock()
			how.Compared(c)
		}
		return nil
	})
	list := there(got)
	return list, lifecycle.Wrap(err, "compared %d of %d pairs of answers", len(list), len(pairs))
}

// blank is the comparison before it was made.
func (p pair) blank() Comparison {
	return Comparison{
		Case: p.c.ID, Capability: p.c.Capability, Sample: p.candidate.Sample, Pair: pairOf(p.candidate.Said, p.baseline.Said),
	}
}

// compare asks. Where both sides said the same nobody is asked; an error means that asking again may help.
func (p pair) compare(ctx context.Context) (Comparison, error) {
	c := p.blank()
	switch {
	case p.candidate.Error != "" || p.baseline.Error != "":
		c.Error = "one of the answers is an error"
	case p.candidate.Said == p.baseline.Said:
		c.Same, c.Straight, c.Swapped = true, score.Tie, score.Tie
	default:
		preferred, err := p.by.Pair(ctx, p.c.Text, p.candidate.Said, p.baseline.Said)
		if err != nil && (ctx.Err() != nil || lifecycle.Is(err, lifecycle.Unavailable)) {
			return c, lifecycle.Wrap(err, "case %s", c.Case)
		}
		if err != nil {
			c.Error = cut(err.Error(), maxSaid)
			break
		}
		c.Straight, c.Swapped = preferred.Straight, preferred.Swapped
	}
	return c, nil
}

// Write writes a first line that names suite and releases, and one line a comparison.
func (c Comparisons) Write(w io.Writer) error { return writeList(w, c, c.List) }

// ReadComparisons reads what Write wrote.
func ReadComparisons(r io.Reader) (c Comparisons, err error) {
	c.List, err = readList[Comparison](r, &c, "comparisons")
	return c, err
}

// compared checks one comparison of two answers.
func (f *faults) compared(c Comparison, candidate, baseline Answer) {
	at := place{candidate.Case, candidate.Sample}
	switch {
	case c.Case != candidate.Case || c.Sample != candidate.Sample || c.Capability != candidate.Capability:
		f.add("%s was not compared", at)
	case c.Error != "":
		f.add("%s has no comparison: %s", at, c.Error)
	case c.Pair != pairOf(candidate.Said, baseline.Said):
		f.add("%s was compared with other answers", at)
	case !chosen(c.Straight) || !chosen(c.Swapped) || c.Same && (c.Straight != score.Tie || c.Swapped != score.Tie || candidate.Said != baseline.Said):
		f.add("%s was compared with no result", at)
	}
}

func chosen(c score.Choosing) bool {
	return c == score.One || c == score.Other || c == score.Tie
}

// comparisons checks those of a gate against the answers that they are of; the sheets are in the suite's order.
func (g Gate) comparisons(candidate, baseline sheet) (map[place]Comparison, []string) {
	if g.Baseline == "" || !g.Suite.Compares() {
		return nil, nil
	}
	f := faults{who: "comparison"}
	if g.Compared.Suite == "" && len(g.Compared.List) == 0 {
		f.add("nobody compared the answers of candidate and baseline, and the suite asks for it")
		return nil, f.list
	}
	if c := g.Compared; c.Suite != g.SuiteDigest || c.Candidate != g.Candidate || c.Baseline != g.Baseline {
		f.add("of releases %s and %s by suite %s, not of %s and %s by %s", or(c.Candidate), or(c.Baseline), or(c.Suite),
			or(g.Candidate), or(g.Baseline), or(g.SuiteDigest))
		return nil, f.list
	}
	found := map[place]Comparison{}
	for _, c := range g.Compared.List {
		found[place{c.Case, c.Sample}] = c
	}
	compares, pairs := g.Suite.compares(), 0
	for i, c := range g.Suite.Cases {
		if !compares[c.Capability] {
			continue
		}
		before := baseline.of(i)
		for at, after := range candidate.of(i) {
			f.compared(found[place{after.Case, after.Sample}], after, before[at])
			pairs++
		}
	}
	if len(f.list) == 0 && len(g.Compared.List) != pairs {
		f.add("%d comparisons of %d pairs of answers", len(g.Compared.List), pairs)
	}
	return found, f.list
}

func (s Suite) compares() map[string]bool {
	out := map[string]bool{}
	for _, c := range s.Capabilities {
		out[c.Name] = c.Compares()
	}
	return out
}

// Pairwise is what came of comparing answers. A judge whose mind changes with the order of the answers says nothing of
// them: such a pair counts as a tie.
type Pairwise struct {
	Pairs     int `json:"pairs"`     // in all
	Same      int `json:"same"`      // both answers the same text: a tie that no judge was asked about
	Candidate int `json:"candidate"` // preferred in both orders
	Baseline  int `json:"baseline"`  // likewise
	Ties      int `json:"ties"`      // called one in both orders
	Changed   int `json:"changed"`   // the judge changed its mind with the order
	First     int `json:"first"`     // of these, those where it took whichever came first
	Second    int `json:"second"`    // likewise second
}

func (p *Pairwise) add(c Comparison) {
	p.Pairs++
	switch {
	case c.Same:
		p.Same++
	case c.Straight != c.Swapped:
		p.Changed++
		if c.Straight == score.One && c.Swapped == score.Other {
			p.First++
		}
		if c.Straight == score.Other && c.Swapped == score.One {
			p.Second++
		}
	case c.Straight == score.One:
		p.Candidate++
	case c.Straight == score.Other:
		p.Baseline++
	default:
		p.Ties++
	}
}

// asked is how many pairs the judge was asked about.
func (p Pairwise) asked() int { return p.Pairs - p.Same }

// compared gives both sides' answers to a case the scores that comparing them gave. Without comparisons, where there is
// nothing to compare with, each counts as much as itself.
func (t *tally) compared(candidate, baseline []Answer, list []Comparison) (after, before []Answer) {
	after, before = slices.Clone(candidate), slices.Clone(baseline)
	for i := range after {
		after[i].Score, before[i].Score = 0.5, 0.5
	}
	for i, c := range list {
		t.pairwise.add(c)
		after[i].Score = c.preferred()
		before[i].Score = 1 - after[i].Score
	}
	return after, before
}
