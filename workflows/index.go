package workflows

import (
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// RebuildIndex builds the retrieval index anew from the service's corpora, measures it, and bundles it
// with the newest model into a release that still has to pass its gate.
func RebuildIndex(ctx workflow.Context, raw converter.RawValue) (steps.IndexResult, error) {
	in, err := steps.Decode[steps.IndexInput](raw)
	if err != nil {
		return steps.IndexResult{}, err
	}
	l, err := openExclusive(ctx, raw, in.Service, lifecycle.IndexLoop, in.By)
	if err != nil {
		return steps.IndexResult{}, err
	}
	out, err := l.rebuildIndex(ctx)
	return out, l.close(ctx, err)
}

func (l *loop) rebuildIndex(ctx workflow.Context) (steps.IndexResult, error) {
	if len(l.service.Retrieval.Corpora) == 0 {
		return steps.IndexResult{}, steps.ToTemporal(lifecycle.Errorf(lifecycle.Invalid,
			"retrieval.corpora: none; name the corpora that service %s retrieves from", l.service.Name))
	}
	var datasets []lifecycle.Digest
	for _, corpus := range l.service.Retrieval.Corpora {
		dataset, err := l.dataset(ctx, corpus)
		if err != nil {
			return steps.IndexResult{}, err
		}
		datasets = append(datasets, dataset)
	}
	embedder, screened, err := l.trainEmbedder(ctx, datasets)
	if err != nil {
		return steps.IndexResult{}, err
	}
	l.note(ctx, "indexing", fmt.Sprintf("%d datasets", len(datasets)))
	out, err := steps.BuildIndex.Run(ctx, steps.BuildIndexInput{
		Service: l.service.Name, Datasets: datasets, Embedder: embedder, Retrieval: l.service.Retrieval, By: l.by,
	})
	if err != nil {
		return out, err
	}
	if screened != nil {
		out.Screens = []steps.Screened{*screened}
	}
	release, err := steps.MakeRelease.Run(ctx, steps.MakeReleaseInput{Service: l.service.Name, Index: out.Index, By: l.by})
	if steps.KindOf(err) == lifecycle.NotFound {
		l.note(ctx, "done", "index "+out.Index.Short()+"; no model is there yet to make a release with")
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Release = release.Release
	l.state.Release = string(out.Release)
	l.note(ctx, "done", "index "+out.Index.Short())
	return out, nil
}

func (l *loop) trainEmbedder(ctx workflow.Context, datasets []lifecycle.Digest) (lifecycle.Digest, *steps.Screened, error) {
	inputs := map[string]lifecycle.ArtifactRef{}
	for i, dataset := range datasets {
		name := "dataset"
		if i > 0 {
			name = fmt.Sprintf("dataset-%d", i+1)
		}
		inputs[name] = lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: dataset}
	}
	inputs, screened, err := l.screen(ctx, "embed", inputs)
	if err != nil {
		return "", nil, err
	}
	var labels map[string]string
	if screened != nil {
		labels = map[string]string{lifecycle.ScreenLabel: string(screened.Report)}
	}
	outputs, err := l.runJob(ctx, "embed", lifecycle.JobSpec{
		Name: "embed", Engine: l.service.Training.Engine, Command: l.service.Retrieval.Command,
		Parameters: l.service.Retrieval.Embedder, Inputs: inputs,
		Outputs:   map[string]lifecycle.ArtifactKind{"embedder": lifecycle.EmbedderArtifact},
		Resources: l.service.Training.Resources, MaxTime: l.service.Training.MaxTime,
	}, labels)
	return outputs["embedder"].Digest, screened, err
}
