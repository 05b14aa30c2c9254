package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/runtime/embedder"
	"github.com/refitml/refit/runtime/job"
)

func newTrainEmbedder(log *slog.Logger, code *int) *cobra.Command {
	return &cobra.Command{
		Use: "train-embedder", Short: "Train an embedder of texts (a job; inputs dataset, dataset-2, ...; output embedder)", Args: cobra.NoArgs,
		RunE: asJob(code, func(ctx context.Context, j job.Job) error { return embedder.Run(ctx, j, log) }),
	}
}
