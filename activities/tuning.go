package activities

import (
	"context"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Tuning holds the steps that learn from feedback.
type Tuning struct {
	Shelf
	Captured *capture.Store
}

// Curate turns feedback into a dataset.
func (t Tuning) Curate(ctx context.Context, in steps.CurateInput) (steps.TuningResult, error) {
	return steps.TuningResult{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}

// OpenLadder opens the record of a deficit.
func (t Tuning) OpenLadder(ctx context.Context, in steps.OpenLadderInput) (lifecycle.LadderRecord, error) {
	return lifecycle.LadderRecord{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}
