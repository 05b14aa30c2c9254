package activities

import (
	"context"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// HoldStep keeps a share alive until there is a reason to end the step.
func (p Promotion) HoldStep(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
	return steps.HoldResult{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}
