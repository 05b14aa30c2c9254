package activities

import (
	"context"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
	"github.com/refitml/refit/internal/steps"
)

// Index holds the step that builds retrieval indexes.
type Index struct {
	Shelf
	Engines map[string]serving.Engine              // the same as the promotion's
	Path    *answer.Path                           // that embeddings are asked through; default answer.New(answer.Settings{})
	Secret  func(reference string) (string, error) // reads env:NAME or file:PATH; needed where a service names an api_key
}

// Build builds an index over datasets and measures it.
func (x Index) Build(ctx context.Context, in steps.BuildIndexInput) (steps.IndexResult, error) {
	return steps.IndexResult{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}
