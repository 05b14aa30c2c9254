package activities

import (
	"context"
	"log/slog"
	"time"

	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Jobs holds the step that runs GPU jobs.
type Jobs struct {
	Shelf
	Engines map[string]compute.Engine // by name, as services give it in training.engine
	Look    time.Duration             // how often a running job is looked at; default 1 s
	Log     *slog.Logger              // default slog.Default()
}

// Run runs one try of a job to its end and stores its outputs.
func (j Jobs) Run(ctx context.Context, in steps.RunJobInput) (steps.RunJobResult, error) {
	return steps.RunJobResult{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}
