package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

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
	output      string // "text" or "json"
}

const exitCodes = `Exit codes: 0 done or pass, 1 infrastructure or judge missing, 2 usage, 3 regress,
4 underpowered, 5 refused by policy, busy or fenced, 130 interrupted.`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "refit",
		Short:         "The release authority of a foundation model",
		Long:          "Refit rebuilds, gates, releases and takes back a foundation model.\n\n" + exitCodes,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&a.settings, "settings", "", "settings file (default: environment and defaults only)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "text or json")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "text" && a.output != "json" {
			return lifecycle.Errorf(lifecycle.Invalid, "--output: %q; give text or json", a.output)
		}
		return nil
	}
	root.AddCommand(
		newUp(a), newRole(a, "gateway"), newRole(a, "worker"), newRole(a, "console"), newMigrate(a),
		newApply(a), newSchema(a), newStatus(a), newReleases(a), newMakeRelease(a), newDiff(a),
		newPromote(a), newApprove(a), newRollback(a), newIntervene(a, "pause"), newIntervene(a, "resume"),
		newIntervene(a, "abort"), newIntervene(a, "reject"),
		newTrain(a), newIndex(a), newEvaluate(a), newTune(a),
		newSchedule(a), newFeedback(a), newLedger(a), newJobShim(),
	)
	return root
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
		if err != nil {
			return control.Client{}, lifecycle.Errorf(lifecycle.Invalid,
				"control.token_file: %w; start `refit up` first, or set REFIT_TOKEN", err)
		}
		token = strings.TrimSpace(string(raw))
	}
	return control.Client{URL: settings.Control.URL, Token: token}, nil
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
