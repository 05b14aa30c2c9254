package activities

import (
	"context"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// Releases bundles artifacts into releases.
type Releases struct {
	Registry *registry.Registry
}

// FindBaseModel gives the newest base model of a service with the dataset that it was trained on.
func (r Releases) FindBaseModel(ctx context.Context, in steps.BaseModelInput) (steps.BaseModel, error) {
	var model lifecycle.Artifact
	var err error
	if in.Model != "" {
		model, err = r.Registry.Artifact(ctx, lifecycle.Digest(in.Model))
	} else {
		model, err = r.Registry.LatestArtifact(ctx, in.Service, lifecycle.ModelArtifact, map[string]string{"stage": "base"})
		if lifecycle.Is(err, lifecycle.NotFound) {
			return steps.BaseModel{}, nil
		}
	}
	if err != nil {
		return steps.BaseModel{}, err
	}
	return steps.BaseModel{Model: model.Digest, Dataset: lifecycle.Digest(model.Labels["dataset"])}, nil
}

// MakeRelease bundles a model, an index and the service's defaults. What is not named is the newest of
// the service.
func (r Releases) MakeRelease(ctx context.Context, in steps.MakeReleaseInput) (steps.MakeReleaseResult, error) {
	id, err := r.Registry.MakeRelease(ctx, registry.NewRelease{
		Service: in.Service, Model: in.Model, Index: in.Index, By: in.By,
	})
	return steps.MakeReleaseResult{Release: id}, err
}
