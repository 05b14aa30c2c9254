package workflows

import (
	"encoding/json"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// ContinuePretraining rebuilds the model on fresh text: a base-image rebuild with the same core. Where
// there is no base yet it trains one first. Old text is replayed beside the fresh, and the result becomes
// a release that still has to pass its gate.
func ContinuePretraining(ctx workflow.Context, raw converter.RawValue) (steps.PretrainingResult, error) {
	in, err := steps.Decode[steps.PretrainingInput](raw)
	if err != nil {
		return steps.PretrainingResult{}, err
	}
	setDefault(&in.Corpus, "fresh")
	setDefault(&in.Replay, "base")
	setDefault(&in.Stage, "continued")
	if in.Stage != "base" && in.Stage != "continued" {
		return steps.PretrainingResult{}, steps.ToTemporal(lifecycle.Errorf(lifecycle.Invalid, "stage: %q; give base or continued", in.Stage))
	}
	if err := checkParameters(in.Parameters); err != nil {
		return steps.PretrainingResult{}, err
	}
	l, err := openExclusive(ctx, raw, in.Service, lifecycle.PretrainingLoop, in.By)
	if err != nil {
		return steps.PretrainingResult{}, err
	}
	p := pretraining{loop: l, in: in}
	out, err := p.run(ctx)
	return out, l.close(ctx, err)
}

// checkParameters refuses what is no JSON object; null counts as left out.
func checkParameters(raw json.RawMessage) error {
	var object map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &object) == nil {
		return nil
	}
	return steps.ToTemporal(lifecycle.Errorf(lifecycle.Invalid, "parameters: give a JSON object of the job's parameters"))
}

type pretraining struct {
	*loop
	in      steps.PretrainingInput
	screens []steps.Screened
}

func (p *pretraining) run(ctx workflow.Context) (steps.PretrainingResult, error) {
	var out steps.PretrainingResult
	base, err := steps.FindBaseModel.Run(ctx, steps.BaseModelInput{Service: p.service.Name, Model: p.in.From})
	if err != nil {
		return out, err
	}
	if base.Model == "" || p.in.Stage == "base" {
		if base, err = p.trainBase(ctx); err != nil {
			return out, err
		}
	}
	out.Base, out.Model, out.Dataset = base.Model, base.Model, base.Dataset
	if p.in.Stage == "continued" {
		if out.Dataset, err = p.dataset(ctx, p.in.Corpus); err != nil {
			return out, err
		}
		if out.Model, out.Dataset, err = p.continueFrom(ctx, base, out.Dataset); err != nil {
			return out, err
		}
	}
	out.Screens = p.screens
	p.note(ctx, "bundling", "model "+out.Model.Short())
	release, err := steps.MakeRelease.Run(ctx, steps.MakeReleaseInput{Service: p.service.Name, Model: out.Model, By: p.by})
	if err != nil {
		return out, err
	}
	out.Release = release.Release
	p.state.Release = string(out.Release)
	p.note(ctx, "done", "release "+out.Release.Short()+"; promote it when its gate passes")
	return out, nil
}

func (p *pretraining) trainBase(ctx workflow.Context) (steps.BaseModel, error) {
	dataset, err := p.dataset(ctx, p.in.Replay)
	if err != nil {
		return steps.BaseModel{}, err
	}
	parameters := p.service.Training.Base
	if p.in.Stage == "base" {
		parameters = overlay(parameters, p.in.Parameters)
	}
	inputs := map[string]lifecycle.ArtifactRef{"dataset": {Kind: lifecycle.DatasetArtifact, Digest: dataset}}
	model, dataset, err := p.train(ctx, "pretrain", parameters, inputs, map[string]string{"stage": "base"})
	return steps.BaseModel{Model: model, Dataset: dataset}, err
}

func (p *pretraining) continueFrom(ctx workflow.Context, base steps.BaseModel, dataset lifecycle.Digest) (model, learned lifecycle.Digest, err error) {
	inputs := map[string]lifecycle.ArtifactRef{
		"dataset": {Kind: lifecycle.DatasetArtifact, Digest: dataset},
		"model":   {Kind: lifecycle.ModelArtifact, Digest: base.Model},
	}
	if base.Dataset != "" {
		inputs["replay"] = lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: base.Dataset}
	}
	parameters := overlay(p.service.Training.Continued, p.in.Parameters)
	return p.train(ctx, "continue", parameters, inputs, map[string]string{"stage": "continued"})
}

// train runs a job on what of its data holds no case of a suite, and gives the model and the dataset that it learned.
func (p *pretraining) train(ctx workflow.Context, name string, parameters json.RawMessage, inputs map[string]lifecycle.ArtifactRef, labels map[string]string) (model, learned lifecycle.Digest, err error) {
	inputs, screened, err := p.screen(ctx, name, inputs, "replay")
	if err != nil {
		return "", "", err
	}
	if screened != nil {
		p.screens = append(p.screens, *screened)
		labels[lifecycle.ScreenLabel] = string(screened.Report)
	}
	learned = inputs["dataset"].Digest
	labels["dataset"] = string(learned)
	for _, key := range workflow.DeterministicKeys(p.in.Labels) {
		if _, own := labels[key]; !own { // what a model is must not be said by whoever starts a run
			labels[key] = p.in.Labels[key]
		}
	}
	outputs, err := p.runJob(ctx, name, lifecycle.JobSpec{
		Name: name, Engine: p.service.Training.Engine, Command: p.service.Training.Command,
		Parameters: parameters, Inputs: inputs,
		Outputs:   map[string]lifecycle.ArtifactKind{"model": lifecycle.ModelArtifact},
		Resources: p.service.Training.Resources, MaxTime: p.service.Training.MaxTime,
	}, labels)
	return outputs["model"].Digest, learned, err
}

// overlay puts the fields of over on top of those of under; both are JSON objects or empty.
func overlay(under, over json.RawMessage) json.RawMessage {
	if len(over) == 0 {
		return under
	}
	merged := map[string]json.RawMessage{}
	for _, layer := range []json.RawMessage{under, over} {
		var fields map[string]json.RawMessage
		// What is no object stays out; the job decodes strictly and names what it misses.
		_ = json.Unmarshal(layer, &fields)
		for _, name := range workflow.DeterministicKeys(fields) {
			merged[name] = fields[name]
		}
	}
	out, err := json.Marshal(merged) // sorted by key, so the same on every replay
	if err != nil {
		return under
	}
	return out
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
