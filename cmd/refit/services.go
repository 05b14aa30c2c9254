package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func newApply(a *app) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "apply FILE", Short: "Declare a service and reconcile its schedules",
		Long: "Read a service declaration in YAML (- is standard input), check it wholly, store it as a new version and\n" +
			"reconcile its schedules. Applying the same again changes nothing; a person's pause is left alone.",
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check only")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		service, err := configs.ReadServiceFile(args[0])
		if err != nil {
			return err
		}
		result, err := call(a, cmd, control.Apply, control.ApplyInput{Service: service, DryRun: dryRun})
		err = a.report(result, err, func(w io.Writer) {
			word := "unchanged"
			if result.Version.Changed {
				word = "applied"
			}
			if dryRun {
				word = "valid"
			}
			fmt.Fprintf(w, "%s %s, version %d (%s)\n", service.Name, word, result.Version.Version, result.Version.Digest.Short())
			for _, c := range result.Changes {
				fmt.Fprintln(w, "  "+c)
			}
			for _, s := range result.Schedules {
				fmt.Fprintf(w, "schedule %s %s\n", s.ID, s.Change)
			}
		})
		if err == nil && result.Warning != "" {
			err = &exitError{lifecycle.Unavailable.ExitCode(), result.Warning}
		}
		return err
	}
	return cmd
}

func newSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of a service declaration", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := configs.Schema()
			if err == nil {
				_, err = a.out.Write(schema)
			}
			return err
		},
	}
}

func newReleases(a *app) *cobra.Command {
	in := control.ReleasesInput{}
	cmd := &cobra.Command{Use: "releases SERVICE", Short: "List a service's releases, newest first", Args: cobra.ExactArgs(1)}
	cmd.Flags().IntVar(&in.Limit, "limit", 20, "at most so many")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		releases, err := call(a, cmd, control.Releases, in)
		return a.report(releases, err, func(w io.Writer) {
			var rows [][]string
			for _, r := range releases {
				rows = append(rows, []string{
					r.ID.Short(), at(r.AddedAt), r.Release.Model.Short(),
					r.Release.Index.Short(), string(r.Outcome),
				})
			}
			table(w, []string{"RELEASE", "ADDED", "MODEL", "INDEX", "GATE"}, rows)
		})
	}
	return cmd
}

func newMakeRelease(a *app) *cobra.Command {
	var model, index string
	cmd := &cobra.Command{
		Use: "release SERVICE", Short: "Make a release of the declaration as it is now, without training anything", Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&model, "model", "", "model artifact, by its digest (default: the newest)")
	cmd.Flags().StringVar(&index, "index", "", "index artifact, by its digest (default: the newest)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := control.MakeReleaseInput{Service: args[0], Model: lifecycle.Digest(model), Index: lifecycle.Digest(index)}
		made, err := call(a, cmd, control.MakeRelease, in)
		return a.report(made, err, func(w io.Writer) { fmt.Fprintln(w, made.Release) })
	}
	return cmd
}

func newDiff(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "diff SERVICE BEFORE AFTER", Short: "Name the levers that changed between two releases", Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			diff, err := call(a, cmd, control.Diff, control.DiffInput{Service: args[0], Before: args[1], After: args[2]})
			return a.report(diff, err, func(w io.Writer) {
				if len(diff.Levers) == 0 {
					fmt.Fprintln(w, "the same release")
				}
				for _, lever := range diff.Levers {
					fmt.Fprintln(w, lever)
				}
			})
		},
	}
}

func shorten(s string) string {
	if d := lifecycle.Digest(s); d.Valid() {
		return d.Short()
	}
	return strings.TrimSpace(s)
}

func newFeedback(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "feedback SERVICE", Short: "Count what users reported and show the ladder", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := call(a, cmd, control.Feedback, control.FeedbackInput{Service: args[0]})
			return a.report(result, err, func(w io.Writer) {
				for _, kind := range lifecycle.FeedbackKinds() {
					fmt.Fprintf(w, "%-12s %d\n", kind, result.Counts[kind])
				}
				for _, l := range result.Ladder {
					lever, why := l.NextLever()
					fmt.Fprintf(w, "ladder %s: %s; next lever %s: %s\n", l.ID[:min(12, len(l.ID))], l.Deficit, lever, why)
				}
			})
		},
	}
}

func newSchedule(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "schedule", Short: "See and change a service's cadences"}
	cmd.AddCommand(&cobra.Command{
		Use: "list SERVICE", Short: "List the cadences", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := call(a, cmd, control.Schedules, control.SchedulesInput{Service: args[0]})
			return a.report(all, err, func(w io.Writer) {
				var rows [][]string
				for _, s := range all {
					rows = append(rows, []string{
						string(s.Loop), s.Workflow, fmt.Sprint(s.Paused), at(s.Next), at(s.Last), fmt.Sprint(s.Runs), fmt.Sprint(s.Skipped), s.Note,
					})
				}
				table(w, []string{"LOOP", "WORKFLOW", "PAUSED", "NEXT", "LAST", "RUNS", "SKIPPED", "NOTE"}, rows)
			})
		},
	})
	for action, short := range map[string]string{
		"pause": "Pause a cadence", "resume": "Let a cadence go on", "trigger": "Start a cadence's loop now",
	} {
		in := control.ChangeScheduleInput{Action: action}
		sub := &cobra.Command{Use: action + " SERVICE LOOP", Short: short, Args: cobra.ExactArgs(2)}
		sub.Flags().StringVar(&in.Note, "note", "", "why")
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			in.Service, in.Loop = args[0], lifecycle.Loop(args[1])
			change, err := call(a, cmd, control.ChangeSchedule, in)
			return a.report(change, err, func(w io.Writer) { fmt.Fprintf(w, "schedule %s %s\n", change.ID, change.Change) })
		}
		cmd.AddCommand(sub)
	}
	return cmd
}
