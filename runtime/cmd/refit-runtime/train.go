package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/trainer"
)

func newTrain(log *slog.Logger, code *int) *cobra.Command {
	return &cobra.Command{
		Use: "train", Short: "Pre-train a model, or continue from a base (a job; see REFIT_SPEC in the README)", Args: cobra.NoArgs,
		RunE: asJob(code, func(ctx context.Context, j job.Job) error { return trainer.Run(ctx, j, log) }),
	}
}
