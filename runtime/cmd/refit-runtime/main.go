// Command refit-runtime trains and serves the reference model.
//
// Exit codes: 0 done, 1 failed, 2 usage; the jobs (train, train-embedder) also 64 (spec or input wrong, do not retry) and
// 75 (interrupted after a checkpoint, try again).
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/runtime/job"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := 0
	root := &cobra.Command{
		Use: "refit-runtime", Short: "Train and serve the reference model",
		Long: "Train and serve the reference model.\n\nExit codes: 0 done, 1 failed, 2 usage; jobs also 64 (spec or input wrong, do not retry)\n" +
			"and 75 (interrupted after a checkpoint, try again).",
		SilenceUsage: true, SilenceErrors: true,
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	root.AddCommand(newTrain(log, &code), newServe(log, &code), newTrainEmbedder(log, &code))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "refit-runtime:", err)
		if code == 0 { // cobra's own error: flags, arguments, unknown command
			code = 2
		}
	}
	os.Exit(code)
}

// asJob runs do as a job of the contract and sets the exit code.
func asJob(code *int, do func(ctx context.Context, j job.Job) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		j, err := job.FromEnvironment(os.Getenv)
		if err == nil {
			err = do(cmd.Context(), j)
		}
		*code = job.ExitCode(err)
		return err
	}
}
