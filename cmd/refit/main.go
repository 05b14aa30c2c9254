// Command refit is what people run: the command line, and the roles gateway, worker and console, each as
// a process of its own or together with `refit up`. It translates flags and prints; it decides nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/refitml/refit/internal/lifecycle"
)

// exitInterrupted is the exit code of a command that a person stopped.
const exitInterrupted = 130

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &app{out: os.Stdout, diagnostics: os.Stderr}
	root := newRoot(app)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitInterrupted
	default:
		app.fail(err)
		return exitCode(err)
	}
}

// exitCode: what cobra itself refuses (an unknown flag, a missing argument) is a usage error.
func exitCode(err error) int {
	var typed *lifecycle.Error
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &typed):
		return typed.Kind.ExitCode()
	default:
		return lifecycle.Invalid.ExitCode()
	}
}

// exitError ends a command whose result was printed with a code of its own.
type exitError struct {
	code   int
	reason string
}

func (e *exitError) Error() string { return e.reason }

func (a *app) fail(err error) {
	if a.asJSON() {
		kind := lifecycle.KindOf(err)
		var typed *lifecycle.Error
		fields := map[string]string{}
		if errors.As(err, &typed) {
			fields = typed.Fields
		} else {
			kind = lifecycle.Invalid
		}
		a.printJSON(map[string]any{"error": map[string]any{"kind": kind, "message": err.Error(), "fields": fields}})
		return
	}
	fmt.Fprintln(a.diagnostics, "refit:", err)
}
