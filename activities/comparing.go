package activities

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

const comparisonsFile = "comparisons.jsonl"

// Labels of comparisons, beside those of answers.
const (
	comparedAnswers = "comparisons"
	candidateLabel  = "candidate"
	baselineLabel   = "baseline"
	judgesLabel     = "judges" // models that were asked
)

// Compare lets judges compare both sides' answers to the capabilities that are scored so. Two answers that were compared
// by the same judges are not compared again, wherever that was.
func (e Evaluation) Compare(ctx context.Context, in steps.CompareInput) (steps.CompareResult, error) {
	var progress report
	ctx, done := long(ctx, progress.details)
	defer done()
	suite, err := e.readSuite(ctx, in.Suite)
	if err != nil {
		return steps.CompareResult{}, err
	}
	candidate, err := e.readAnswers(ctx, in.CandidateAnswers)
	if err != nil {
		return steps.CompareResult{}, err
	}
	baseline, err := e.readAnswers(ctx, in.BaselineAnswers)
	if err != nil {
		return steps.CompareResult{}, err
	}
	world, err := e.world()
	if err != nil {
		return steps.CompareResult{}, err
	}
	as := linesOf{
		service: in.Service, by: in.By, file: comparisonsFile, parents: unique([]lifecycle.Digest{in.Suite, in.CandidateAnswers, in.BaselineAnswers}),
		labels: map[string]string{
			reportLabel: comparedAnswers, suiteLabel: string(in.Suite), candidateLabel: string(in.Candidate), baselineLabel: string(in.Baseline),
			judgesLabel: e.judgesAsked(),
		},
	}
	parts := e.comparisonParts(as, in)
	have, err := parts.before(ctx)
	if err != nil {
		return steps.CompareResult{}, err
	}
	total := int64(suite.Pairs())
	parts.start(int(total))
	compared := int64(0)
	list, err := evaluation.CompareAll(ctx, suite, candidate, baseline, evaluation.Comparing{
		World: world, Have: have,
		Compared: func(c evaluation.Comparison) {
			compared++
			progress.set(lifecycle.Progress{Step: min(int64(len(have))+compared, total), Total: total, Message: "comparing"})
			if c.Error == "" {
				parts.add(ctx, c)
			}
		},
	})
	if err != nil {
		return steps.CompareResult{}, lifecycle.Wrap(cmp.Or(stopped(ctx), err), "compare releases %s and %s", in.Candidate.Short(), in.Baseline.Short())
	}
	digest, err := parts.whole(ctx, list)
	return steps.CompareResult{Comparisons: digest, Pairs: len(list), Reused: compared == 0}, err
}

func (e Evaluation) comparisonParts(as linesOf, in steps.CompareInput) *parts[evaluation.Comparison] {
	return &parts[evaluation.Comparison]{
		e: e, as: as,
		write: func(w io.Writer, list []evaluation.Comparison) error {
			return evaluation.Comparisons{Suite: in.Suite, Candidate: in.Candidate, Baseline: in.Baseline, List: list}.Write(w)
		},
		read: func(r io.Reader) ([]evaluation.Comparison, error) {
			c, err := evaluation.ReadComparisons(r)
			if err == nil && (c.Suite != in.Suite || c.Candidate != in.Candidate || c.Baseline != in.Baseline) {
				err = lifecycle.Errorf(lifecycle.Corrupt, "comparisons of releases %s and %s", c.Candidate.Short(), c.Baseline.Short())
			}
			return c.List, err
		},
	}
}

// judgesAsked names the models and programs that suites may ask here: what another one said is another opinion. Where a
// model is served does not matter.
func (e Evaluation) judgesAsked() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(e.Judges)) {
		all = append(all, name+"="+e.Judges[name].Model)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Commands)) {
		all = append(all, name+": "+strings.Join(e.Commands[name].Argv, " "))
	}
	return string(lifecycle.DigestOf([]byte(strings.Join(all, "\n"))))
}
