package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// newLoop makes a command that starts a loop and, if asked, follows it.
func newLoop(a *app, cmd *cobra.Command, workflow string, input func(service string) any, ended func(control.Watched) error) *cobra.Command {
	var watch bool
	cmd.Args = cobra.ExactArgs(1)
	cmd.Flags().BoolVar(&watch, "watch", false, "follow it until it ends")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		started, err := a.start(cmd, workflow, input(args[0]))
		if err != nil || !watch {
			return a.report(started, err, func(w io.Writer) { printStarted(w, started) })
		}
		final, err := a.follow(cmd, started)
		if err != nil {
			return err
		}
		return ended(final)
	}
	return cmd
}

// start starts a loop with its input.
func (a *app) start(cmd *cobra.Command, workflow string, input any) (control.Started, error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return control.Started{}, err
	}
	return call(a, cmd, control.Start, control.StartInput{Workflow: workflow, Input: raw})
}

func printStarted(w io.Writer, s control.Started) {
	fmt.Fprintf(w, "started %s\n", s.WorkflowID)
	if s.URL != "" {
		fmt.Fprintln(w, s.URL)
	}
}

func newTrain(a *app) *cobra.Command {
	var in struct {
		Service string `json:"service"`
		Stage   string `json:"stage,omitempty"`
		Corpus  string `json:"corpus,omitempty"`
	}
	cmd := &cobra.Command{Use: "train SERVICE", Short: "Continue pre-training on the fresh domain; trains the base first where there is none"}
	cmd.Flags().StringVar(&in.Stage, "stage", "", "base or continued (default continued)")
	cmd.Flags().StringVar(&in.Corpus, "corpus", "", "fresh domain (default fresh)")
	return newLoop(a, cmd, "ContinuePretraining", func(service string) any { in.Service = service; return in }, a.printResult)
}

func newIndex(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "index SERVICE", Short: "Rebuild and measure the retrieval index"}
	return newLoop(a, cmd, "RebuildIndex", serviceOnly, a.printResult)
}

func newTune(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "tune SERVICE", Short: "Turn feedback into a dataset and open a ladder record"}
	return newLoop(a, cmd, "TuneFromFeedback", serviceOnly, a.printResult)
}

func newArchive(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "archive SERVICE", Short: "Archive days of interactions and forget those past their retention",
		Long: "Write each day that is over to the archive in S3 (Parquet), then remove archived days past capture.retention from the database.",
	}
	return newLoop(a, cmd, "ArchiveInteractions", serviceOnly, a.printResult)
}

func serviceOnly(service string) any { return map[string]string{"service": service} }

func (a *app) printResult(final control.Watched) error {
	var result any
	if err := json.Unmarshal(final.Result, &result); err != nil {
		return lifecycle.Errorf(lifecycle.Internal, "read the result: %w", err)
	}
	a.printJSON(result)
	return nil
}

// followInterval is how often a view asks again.
const followInterval = time.Second

// follow shows a workflow until it ends. Leaving the view leaves the workflow alone.
func (a *app) follow(cmd *cobra.Command, started control.Started) (control.Watched, error) {
	client, err := a.client()
	if err != nil {
		return control.Watched{}, err
	}
	view := newView(a.diagnostics)
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	for {
		now, err := control.Call(cmd.Context(), client, control.Watch, control.WatchInput{WorkflowID: started.WorkflowID, RunID: started.RunID})
		switch {
		case cmd.Context().Err() != nil: // below
		case lifecycle.Is(err, lifecycle.Unavailable):
			view.say("api", "waiting for the control API: "+err.Error())
		case err != nil:
			return now, err
		case now.Status != "Running":
			view.end()
			if now.Error != nil {
				return now, now.Error
			}
			return now, nil
		default:
			view.show(now)
		}
		select {
		case <-ticker.C:
		case <-cmd.Context().Done():
		}
		if cmd.Context().Err() != nil {
			view.end()
			fmt.Fprintf(a.diagnostics, "left the view; %s goes on %s\n", started.WorkflowID, started.URL)
			return now, cmd.Context().Err()
		}
	}
}
