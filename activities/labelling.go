package activities

import (
	"cmp"
	"context"
	"io"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

const (
	labelsFile  = "labels.jsonl"
	humanLabels = "human-labels" // what sort of report
)

// Label lets the scorers of a suite judge the answers that people have judged. It is of the suite and of no release, so gates
// that ask the same suite share it, as long as the same judges are asked.
func (e Evaluation) Label(ctx context.Context, in steps.LabelInput) (steps.LabelResult, error) {
	var progress report
	ctx, done := long(ctx, progress.details)
	defer done()
	suite, err := e.readSuite(ctx, in.Suite)
	if err != nil {
		return steps.LabelResult{}, err
	}
	world, err := e.world()
	if err != nil {
		return steps.LabelResult{}, err
	}
	as := linesOf{
		service: in.Service, by: in.By, file: labelsFile, parents: []lifecycle.Digest{in.Suite},
		labels: map[string]string{reportLabel: humanLabels, suiteLabel: string(in.Suite), judgesLabel: e.judgesAsked()},
	}
	parts := labelParts(e, as, in.Suite)
	have, err := parts.before(ctx)
	if err != nil {
		return steps.LabelResult{}, err
	}
	total, fresh := int64(suite.Labelled()), int64(0)
	parts.start(int(total))
	list, err := evaluation.LabelAll(ctx, suite, evaluation.Labelling{
		World: world, Have: have,
		Labelled: func(l evaluation.Label) {
			fresh++
			progress.set(lifecycle.Progress{Step: min(int64(len(have))+fresh, total), Total: total, Message: "holding scorers against people"})
			if l.Error == "" {
				parts.add(ctx, l)
			}
		},
	})
	if err != nil {
		return steps.LabelResult{}, cmp.Or(stopped(ctx), err)
	}
	digest, err := parts.whole(ctx, list)
	return steps.LabelResult{Labels: digest, Answers: len(list), Reused: fresh == 0}, err
}

func labelParts(e Evaluation, as linesOf, suite lifecycle.Digest) *parts[evaluation.Label] {
	return &parts[evaluation.Label]{
		e: e, as: as,
		write: func(w io.Writer, list []evaluation.Label) error {
			return evaluation.Labels{Suite: suite, List: list}.Write(w)
		},
		read: func(r io.Reader) ([]evaluation.Label, error) {
			l, err := evaluation.ReadLabels(r)
			if err == nil && l.Suite != suite {
				err = lifecycle.Errorf(lifecycle.Corrupt, "labels of suite %s", l.Suite.Short())
			}
			return l.List, err
		},
	}
}
