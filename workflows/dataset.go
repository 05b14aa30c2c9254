package workflows

import (
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// BuildDataset reads a corpus, puts it through the data check and stores it. A corpus that fails the
// check is Refused: no GPU is touched.
func BuildDataset(ctx workflow.Context, raw converter.RawValue) (steps.BuildDatasetResult, error) {
	in, err := steps.Decode[steps.BuildDatasetInput](raw)
	if err != nil {
		return steps.BuildDatasetResult{}, err
	}
	l, err := open(ctx, raw, in.Service, "dataset", in.By)
	if err != nil {
		return steps.BuildDatasetResult{}, err
	}
	out, err := l.buildDataset(ctx, in.Corpus)
	return out, l.close(ctx, err)
}

func (l *loop) buildDataset(ctx workflow.Context, corpus string) (steps.BuildDatasetResult, error) {
	policy, ok := l.service.Corpora[corpus]
	if !ok {
		return steps.BuildDatasetResult{}, steps.ToTemporal(lifecycle.Errorf(lifecycle.Invalid,
			"corpus: %q is not declared by service %s; declare it under corpora", corpus, l.service.Name))
	}
	l.note(ctx, "checking data", corpus)
	out, err := steps.CheckCorpus.Run(ctx, steps.CheckCorpusInput{
		Service: l.service.Name, Corpus: corpus, Policy: policy, By: l.by,
	})
	if err == nil {
		l.note(ctx, "done", fmt.Sprintf("%d documents, %d held out, %d dropped", out.Documents, out.HeldOut, out.Dropped))
	}
	return out, err
}

// dataset gives a corpus of the service as a dataset, shared with whoever builds the same one.
func (l *loop) dataset(ctx workflow.Context, corpus string) (lifecycle.Digest, error) {
	l.note(ctx, "dataset", corpus)
	built, err := share(ctx, steps.BuildDataset,
		steps.DatasetWorkflowID(l.service.Name, corpus, l.declared),
		steps.BuildDatasetInput{Service: l.service.Name, Corpus: corpus, By: l.by.Name},
		steps.AwaitDataset)
	return built.Dataset, err
}
