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
		Use: "train", Short: "Pre-train a model, or continue from a base (a job)", Args: cobra.NoArgs,
		Long: "Pre-train a model, or continue from a base, as a job of the contract: REFIT_SPEC, REFIT_INPUTS, REFIT_OUTPUTS,\n" +
			"REFIT_CHECKPOINTS and REFIT_PROGRESS are set.\n\n" +
			"Inputs: dataset; model (optional: the base to continue from); replay (optional: an older dataset, of which a share is\n" +
			"mixed in). Output: model. A try that was killed or interrupted goes on from its newest checkpoint.",
		RunE: asJob(code, func(ctx context.Context, j job.Job) error { return trainer.Run(ctx, j, log) }),
	}
}
