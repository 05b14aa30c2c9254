package activities

import (
	"context"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Datasets holds the step that makes datasets of corpora.
type Datasets struct {
	Shelf
	Roots       []string // folders that sources of kind folder may lie in; none: there are no such sources
	GoRoot      string   // for sources of kind go-std; default what `go env GOROOT` says
	ModuleCache string   // for sources of kind go-modules; default what `go env GOMODCACHE` says
}

// CheckCorpus reads a corpus, puts it through the data check and stores it as a dataset.
func (d Datasets) CheckCorpus(ctx context.Context, in steps.CheckCorpusInput) (steps.BuildDatasetResult, error) {
	return steps.BuildDatasetResult{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}
