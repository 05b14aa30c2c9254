// Command devstack runs PostgreSQL, Temporal with its UI, and S3 on one machine, for people who try Refit and for its
// tests. See README.md of this module.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := newRoot().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	var exit exitCode
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(int(exit))
	case interrupted:
		fmt.Fprintln(os.Stderr, "devstack: interrupted:", err)
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "devstack:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	var a app
	root := &cobra.Command{
		Use:   "devstack",
		Short: "PostgreSQL, Temporal with its UI, and S3 on one machine",
		Long: `PostgreSQL, Temporal with its UI, and S3 on one machine, with data of their own that outlives them.

Settings in the environment:
  REFIT_DATA              data folder (default: of the checkout)
  REFIT_POSTGRES_BIN      folder of initdb and postgres
  REFIT_POSTGRES_FSYNC    off: do not wait for the disk (tests only)
  REFIT_POSTGRES_PORT     default 15432
  REFIT_TEMPORAL_PORT     default 7233
  REFIT_TEMPORAL_UI_PORT  default 8233
  REFIT_S3_PORT           default 9000`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&a.data, "data", "", "data folder (default: REFIT_DATA, else one of the checkout)")
	root.PersistentFlags().StringVar(&a.checkout, "checkout", ".", "where to look for the checkout")
	root.AddCommand(newUp(&a), newServe(&a), newDown(&a), newClean(&a), newStatus(&a), newRun(&a))
	return root
}
