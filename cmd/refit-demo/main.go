// Command refit-demo drives one foundation model once around its life: see package demo. `make demo` runs it after
// a build; `refit-demo stop` ends what it left running.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/refitml/refit/internal/demo"
	"github.com/refitml/refit/internal/lifecycle"
)

// exitInterrupted is the exit code of a run that a person stopped.
const exitInterrupted = 130

const usage = `refit-demo [--checkout DIR] [--bin DIR] [--small]   drive one model once around its life
refit-demo [--checkout DIR] [--bin DIR] stop        stop refit up, the model servers and the stack; data stays

--bin is where refit, refit-runtime and devstack are (default: bin of the checkout); --small learns and asks less.

Environment: REFIT_DEMO_TEXT=DIR learns the text and Markdown below DIR as the fresh domain; REFIT_DATA, the stack's
ports (bin/devstack --help), REFIT_GATEWAY_LISTEN and REFIT_CONTROL_LISTEN say where things are.

Exit codes: 0 every stage showed what it is there to show, 130 interrupted, else that of the error as of refit.
`

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	flags := flag.NewFlagSet("refit-demo", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	checkout := flags.String("checkout", ".", "")
	bin := flags.String("bin", "", "")
	small := flags.Bool("small", false, "")
	switch err := flags.Parse(arguments); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return lifecycle.Invalid.ExitCode()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	settings := demo.Default(*checkout, os.Getenv)
	if *bin != "" {
		settings.Bin = *bin
	}
	settings.Out, settings.Wide = os.Stdout, terminal(os.Stdout)
	settings.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if *small {
		settings = demo.Small(settings)
	}
	var err error
	switch flags.Arg(0) {
	case "":
		_, err = demo.Run(ctx, settings)
	case "stop":
		err = demo.Stop(ctx, settings)
	default:
		err = lifecycle.Errorf(lifecycle.Invalid, "%q is no command\n%s", flags.Arg(0), usage)
	}
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "refit-demo: interrupted; the next run goes on where this one was")
		return exitInterrupted
	default:
		fmt.Fprintln(os.Stderr, "refit-demo:", err)
		return lifecycle.KindOf(err).ExitCode()
	}
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
