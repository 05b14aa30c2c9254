// Command refit is what people run: the command line, and the roles gateway, worker and console, each as
// a process of its own or together with `refit up`. It translates flags and prints; it decides nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // declarations name time zones; small images have no data of them

	"github.com/refitml/refit/internal/lifecycle"
)

// exitInterrupted is the exit code of a command that a person stopped.
const exitInterrupted = 130

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs one command to its end and gives the exit code. The end of ctx is an interruption.
func run(ctx context.Context, args []string, out, diagnostics io.Writer) int {
	app := &app{out: out, diagnostics: diagnostics}
	root := newRoot(app)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(diagnostics)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	default:
		app.fail(err)
		return exitCode(err)
	}
}

// exitCode: what has no kind comes from cobra, which did not understand what was typed.
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

// fail says what went wrong: as JSON on standard output, where a program reads it, else in words. A command
// that has printed its result already says the rest in words only, so that there is one JSON value.
func (a *app) fail(err error) {
	var exit *exitError
	if !a.asJSON() || errors.As(err, &exit) {
		fmt.Fprintln(a.diagnostics, "refit:", err)
		return
	}
	kind := lifecycle.Invalid // see exitCode
	var typed *lifecycle.Error
	fields := map[string]string{}
	if errors.As(err, &typed) {
		kind = typed.Kind
		if typed.Fields != nil {
			fields = typed.Fields
		}
	}
	a.printJSON(map[string]any{"error": map[string]any{"kind": kind, "message": err.Error(), "fields": fields}})
}
