package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// app is what every command shares: where to print and how, and where the control API is.
type app struct {
	out         io.Writer
	diagnostics io.Writer
	settings    string // file
	output      string // "text", "json", or "junit" where a verdict is given
}

const exitCodes = `Exit codes: 0 done or pass, 1 infrastructure or judge missing, 2 usage, 3 regress,
4 underpowered, 5 refused by policy, busy or fenced, 130 interrupted.`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "refit",
		Short:         "The release authority of a foundation model",
		Long:          "Refit rebuilds, gates, releases and takes back a foundation model.",
		Version:       commitOfBuild(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&a.settings, "settings", "", "settings file (default: environment and defaults only)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "text or json; evaluate and compare also junit")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if a.output == "text" || a.output == "json" || a.output == "junit" && cmd.Annotations[givesVerdict] != "" {
			return nil
		}
		return lifecycle.Errorf(lifecycle.Invalid, "--output: %q; give text or json (evaluate and compare: also junit)", a.output)
	}
	root.AddCommand(
		newUp(a), newRole(a, "gateway"), newRole(a, "worker"), newRole(a, "console"), newMigrate(a),
		newApply(a), newSchema(a), newStatus(a), newReleases(a), newMakeRelease(a), newDiff(a),
		newPromote(a), newApprove(a), newRollback(a), newIntervene(a, "pause"), newIntervene(a, "resume"),
		newIntervene(a, "abort"), newIntervene(a, "reject"), newFreeze(a), newBreakGlass(a),
		newTrain(a), newIndex(a), newEvaluate(a), newCompare(a), newSuite(a), newTune(a), newArchive(a),
		newSchedule(a), newFeedback(a), newLedger(a), newRegistry(a), newSign(a), newAPIKeys(a), newJobShim(),
	)
	root.SetHelpTemplate(root.HelpTemplate() + "\n" + exitCodes + "\n") // of every command
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return lifecycle.Errorf(lifecycle.Invalid, "%w", err) })
	giveKinds(root)
	return root
}

// giveKinds sees to it that an error has a kind whoever made it: what cobra refuses is Invalid, what a command
// could not do and nobody gave a kind is Internal. It also gives groups of commands an answer to a wrong name.
func giveKinds(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	for _, sub := range cmd.Commands() {
		giveKinds(sub)
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return lifecycle.Errorf(lifecycle.Invalid, "%w; see %s --help", err, cmd.CommandPath())
			}
			return nil
		}
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := "see " + cmd.CommandPath() + " --help"
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "?"
			}
			return lifecycle.Errorf(lifecycle.Invalid, "unknown command %q for %s; %s", args[0], cmd.CommandPath(), hint)
		}
		return
	}
	if do := cmd.RunE; do != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			err := do(cmd, args)
			var typed *lifecycle.Error
			var exit *exitError
			if err == nil || errors.As(err, &typed) || errors.As(err, &exit) || errors.Is(err, context.Canceled) {
				return err
			}
			return lifecycle.Errorf(lifecycle.Internal, "%w", err)
		}
	}
}

// at is a time for people; none is a dash.
func at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func (a *app) asJSON() bool { return a.output == "json" }

func (a *app) printJSON(value any) {
	encoder := json.NewEncoder(a.out)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value) // nowhere to report a closed standard output to
}

// report prints a result as JSON, or as text by the given function.
func (a *app) report(value any, err error, text func(io.Writer)) error {
	if err != nil {
		return err
	}
	if a.asJSON() {
		a.printJSON(value)
		return nil
	}
	text(a.out)
	return nil
}

// table prints aligned columns.
func table(w io.Writer, header []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
}

// client finds the control API and its token.
func (a *app) client() (control.Client, error) {
	settings, err := configs.Load(a.settings)
	if err != nil {
		return control.Client{}, err
	}
	token := os.Getenv("REFIT_TOKEN")
	if token == "" {
		raw, err := os.ReadFile(settings.Control.TokenFile)
		if errors.Is(err, fs.ErrNotExist) {
			return control.Client{}, lifecycle.Errorf(lifecycle.Unavailable,
				"control.token_file: %w; start `refit up` first, or set REFIT_TOKEN", err)
		}
		if err != nil {
			return control.Client{}, lifecycle.Errorf(lifecycle.Invalid, "control.token_file: %w", err)
		}
		token = strings.TrimSpace(string(raw))
	}
	trusted, err := trusting("control.ca_file", settings.Control.CAFile)
	return control.Client{URL: settings.Control.URL, Token: token, HTTP: trusted}, err
}

// call does one use case through the control API.
func call[In, Out any](a *app, cmd *cobra.Command, u control.UseCase[In, Out], in In) (Out, error) {
	client, err := a.client()
	if err != nil {
		var none Out
		return none, err
	}
	return control.Call(cmd.Context(), client, u, in)
}
