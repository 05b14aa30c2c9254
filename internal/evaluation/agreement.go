package evaluation

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

// Labels is what scorers said of the answers of a suite that people have judged. It is of the suite, and of no release.
type Labels struct {
	Suite lifecycle.Digest `json:"suite"` // artifact
	List  []Label          `json:"-"`
}

// Label is one answer that a person and a scorer have judged.
type Label struct {
	Case       string  `json:"case"`
	Capability string  `json:"capability"`
	Human      float64 `json:"human"` // what the suite says, to notice another one's label
	Score      float64 `json:"score"`
	Error      string  `json:"error,omitempty"` // why the scorer has none
}

// Write writes a first line that names the suite, and one line a label.
func (l Labels) Write(w io.Writer) error { return writeList(w, l, l.List) }

// ReadLabels reads what Write wrote.
func ReadLabels(r io.Reader) (l Labels, err error) {
	l.List, err = readList[Label](r, &l, "labels")
	return l, err
}

// found gives labels by case; nil where there are none.
func (l Labels) found() map[string]Label {
	if l.List == nil {
		return nil
	}
	out := map[string]Label{}
	for _, each := range l.List {
		out[each.Case] = each
	}
	return out
}

// Labelling says how scorers are held against people.
type Labelling struct {
	Parallel int         // at once; default 4
	Have     []Label     // from before; they are not asked for again
	Labelled func(Label) // called with each new one, one call at a time; nil for none
	World    score.World // whom scorers may ask
}

// labelled says whether a case is one by which its scorer is held against a person: an answer in words, whose score is
// about the words.
func (c Case) labelled(by *score.Scorer) bool {
	return c.Human != nil && by != nil && by.Asks == score.Text && !by.Less
}

// scorers makes the suite's scorers ready, by capability; nil where a capability has none.
func (s Suite) scorers(world score.World) (map[string]*score.Scorer, error) {
	out := map[string]*score.Scorer{}
	for _, c := range s.Capabilities {
		out[c.Name] = nil
		if c.Scorer == nil {
			continue
		}
		made, err := score.New(*c.Scorer, world)
		if err != nil {
			return nil, lifecycle.Wrap(err, "capability %s", c.Name)
		}
		out[c.Name] = &made
	}
	return out, nil
}

// Labelled is how many answers of the suite people have judged, by which its scorers can be held against them.
func (s Suite) Labelled() (n int) {
	scorers, err := s.scorers(score.World{})
	if err != nil {
		return 0 // it does not check
	}
	for _, c := range s.Cases {
		if c.labelled(scorers[c.Capability]) {
			n++
		}
	}
	return n
}

// Asks says whether any capability is scored by somebody outside, who may be mistaken.
func (s Suite) Asks() bool {
	for _, c := range s.Capabilities {
		if c.asked() {
			return true
		}
	}
	return false
}

func (c Capability) asked() bool {
	if c.Scorer == nil {
		return false
	}
	entry, _ := scorerEntry(c.Scorer.Name)
	return entry.Asked
}

// LabelAll lets the suite's scorers judge the answers that people have judged. At the first one for which a judge was not
// there it stops, and gives that error with what it has; what could not be scored comes back with its error.
func LabelAll(ctx context.Context, s Suite, how Labelling) ([]Label, error) {
	setDefault(&how.Parallel, 4)
	scorers, err := s.scorers(how.World)
	if err != nil {
		return nil, err
	}
	before := map[string]Label{}
	for _, l := range how.Have {
		if l.Error == "" {
			before[l.Case] = l
		}
	}
	var cases []Case
	var got []*Label
	for _, c := range s.Cases {
		if !c.labelled(scorers[c.Capability]) {
			continue
		}
		cases, got = append(cases, c), append(got, nil)
		if l, there := before[c.ID]; there && l.Human == c.Human.Score {
			got[len(got)-1] = &l
		}
	}
	var one sync.Mutex // call of Labelled at a time
	err = inParallel(ctx, len(cases), how.Parallel, func(i int) bool { return got[i] != nil }, func(ctx context.Context, i int) error {
		l, err := cases[i].label(ctx, scorers[cases[i].Capability])
		if err != nil {
			return err
		}
		got[i] = &l
		if how.Labelled != nil {
			one.Lock()
			defer one.Unlock()
			how.Labelled(l)
		}
		return nil
	})
	list := there(got)
	return list, lifecycle.Wrap(err, "scored %d of %d answers that people have judged", len(list), len(cases))
}

// label scores the answer that a person has judged. An error means that asking again may help.
func (c Case) label(ctx context.Context, by *score.Scorer) (Label, error) {
	l := Label{Case: c.ID, Capability: c.Capability, Human: c.Human.Score}
	var err error
	if by.Pair != nil {
		var preferred score.Preference
		preferred, err = by.Pair(ctx, c.Text, c.Human.Said, c.Human.Over)
		l.Score = preferred.Score()
	} else {
		l.Score, err = by.Score(ctx, score.Item{Question: c.Text, Said: c.Human.Said, Want: c.References(), Passages: c.Passages})
	}
	if err != nil && (ctx.Err() != nil || lifecycle.Is(err, lifecycle.Unavailable)) {
		return l, lifecycle.Wrap(err, "case %s", c.ID)
	}
	if err != nil {
		l.Score, l.Error = 0, cut(err.Error(), maxSaid)
	}
	return l, nil
}

// Agreement is how far a scorer agrees with people. Labels of one group count as one in the limits, each at 95%.
type Agreement struct {
	Labels   int     `json:"labels"`   // answers that both have judged
	Groups   int     `json:"groups"`   // independent ones among them
	Unscored int     `json:"unscored"` // answers that the scorer did not judge
	Measure  string  `json:"measure"`  // kappa where scores are categories, else spearman
	Of       agreed  `json:"agreement"`
	Raw      *agreed `json:"raw,omitempty"`     // share of equal scores, of categories
	Kendall  *agreed `json:"kendall,omitempty"` // tau-b, of other scores

	Required float64 `json:"required,omitempty"` // that the lower limit must reach
	Wanted   int     `json:"wanted,omitempty"`   // labels that there must be
}

// agreed is a measure with its limits; null where it is not known.
type agreed struct {
	Value number `json:"value"`
	Low   number `json:"low"`
	High  number `json:"high"`
}

// Measures of agreement.
const (
	byKappa    = "kappa"
	bySpearman = "spearman"
)

// labels is what a tally knows of people's labels.
type labels struct {
	found          map[string]Label // by case
	categories     bool
	human, machine []float64
	groups         map[string]bool
	unscored       int
}

// label notes what a person and the scorer said of an answer to a case.
func (t *tally) label(c Case) {
	if t.labels == nil || !c.labelled(t.scorer) {
		return
	}
	l, there := t.labels.found[c.ID]
	if !there || l.Error != "" || l.Capability != c.Capability || l.Human != c.Human.Score || !finite(l.Score) {
		t.labels.unscored++
		return
	}
	t.labels.human, t.labels.machine = append(t.labels.human, l.Human), append(t.labels.machine, l.Score)
	t.labels.groups[c.Group] = true
}

// agreement sums up what was noted; nil where nobody has judged an answer and nothing is asked.
func (t *tally) agreement() *Agreement {
	l := t.labels
	if l == nil || len(l.human)+l.unscored == 0 && t.required == nil {
		return nil
	}
	a := &Agreement{Labels: len(l.human), Groups: len(l.groups), Unscored: l.unscored, Measure: bySpearman, Of: agreed{unknown(), unknown(), unknown()}}
	if r := t.required; r != nil {
		a.Required, a.Wanted = r.Minimum, r.Labels
	}
	take := func(of stats.Agreed, err error) agreed {
		if err != nil { // too few, or all alike: nothing is known
			return agreed{unknown(), unknown(), unknown()}
		}
		return agreed{number(of.Value), number(of.Low), number(of.High)}
	}
	if l.categories {
		a.Measure = byKappa
		raw := take(stats.RawAgreement(l.human, l.machine, a.Groups, Level))
		a.Of, a.Raw = take(stats.CohenKappa(l.human, l.machine, a.Groups, Level)), &raw
		return a
	}
	kendall := take(stats.KendallTau(l.human, l.machine, a.Groups, Level))
	a.Of, a.Kendall = take(stats.Spearman(l.human, l.machine, a.Groups, Level)), &kendall
	return a
}

// believed gives an error where the scorer does not agree with people as it must: a judge of whom that is not known is none.
func (t *tally) believed() error {
	if t.required == nil {
		return nil
	}
	a := t.agreement()
	switch {
	case a == nil:
		return fmt.Errorf("nobody held the judge against people, and its agreement must be %g", t.required.Minimum)
	case a.Unscored > 0:
		return fmt.Errorf("the judge gave no score to %d of %d answers that people have judged", a.Unscored, a.Labels+a.Unscored)
	case a.Groups < t.required.Labels:
		return fmt.Errorf("people have judged %d answers of independent cases, and it takes %d to believe the judge", a.Groups, t.required.Labels)
	case !finite(float64(a.Of.Low)):
		return fmt.Errorf("%d labels do not tell whether the judge agrees with people: one of both says the same of all", a.Labels)
	case !(float64(a.Of.Low) >= t.required.Minimum):
		return fmt.Errorf("the judge agrees with people by a %s of %.2f, which may be as little as %.2f; it takes %g to believe it",
			a.Measure, float64(a.Of.Value), float64(a.Of.Low), t.required.Minimum)
	}
	return nil
}
