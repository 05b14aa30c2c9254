package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func newFreeze(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "freeze", Short: "Show, open and close what holds changes",
		Long: "While a freeze lasts no promotion of the service begins and no canary's share grows; rolling back is always allowed.\n" +
			"Windows of a calendar stand in the declaration (changes); incidents are opened and closed here.",
	}
	cmd.AddCommand(newListFreezes(a), newCheckFreeze(a), newOpenFreeze(a), newCloseFreeze(a))
	return cmd
}

func newListFreezes(a *app) *cobra.Command {
	var in control.FreezesInput
	cmd := &cobra.Command{Use: "list SERVICE", Short: "Show what holds changes now, and what will", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&in.All, "all", false, "incidents that are over, too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		freezes, err := call(a, cmd, control.Freezes, in)
		return a.report(freezes, err, func(w io.Writer) { printFreezes(w, freezes) })
	}
	return cmd
}

func printFreezes(w io.Writer, f control.FreezesResult) {
	fmt.Fprintln(w, frozenLine(f.Frozen))
	var rows [][]string
	for _, i := range f.Incidents {
		ends := "when it is closed"
		switch {
		case !i.ClosedAt.IsZero():
			ends = "closed " + at(i.ClosedAt)
		case !i.EndsAt.IsZero():
			ends = at(i.EndsAt)
		}
		rows = append(rows, []string{"incident " + i.Name, levers(i.Levers), at(i.OpenedAt), ends, i.Reason + " (" + i.OpenedBy.Name + ")"})
	}
	for _, n := range f.Next {
		rows = append(rows, []string{n.By, levers(n.Levers), at(n.From), at(n.Until), windowText(f.Windows, n.By)})
	}
	if len(rows) > 0 {
		table(w, []string{"FREEZE", "LEVERS", "FROM", "UNTIL", "WHY"}, rows)
	}
}

func windowText(windows []lifecycle.FreezeWindow, by string) string {
	for _, w := range windows {
		if by == "window "+w.Name && w.Weekly != "" {
			return w.Weekly + " " + w.TimeZone
		}
		if by == "window "+w.Name {
			return w.From + " to " + w.Until + " " + w.TimeZone
		}
	}
	return ""
}

func frozenLine(f *lifecycle.Frozen) string {
	if f == nil {
		return "not frozen"
	}
	return "frozen by " + f.String()
}

func levers(list []lifecycle.Lever) string {
	if len(list) == 0 {
		return "all"
	}
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = string(l)
	}
	return strings.Join(names, ",")
}

func newCheckFreeze(a *app) *cobra.Command {
	var in control.CheckFreezeInput
	var when string
	cmd := &cobra.Command{
		Use: "check SERVICE", Short: "Say whether a promotion would be held", Args: cobra.ExactArgs(1),
		Long: "Say whether a promotion would be held. Exits with 0 where it would not, with 5 where it would.",
	}
	cmd.Flags().StringVar(&in.Release, "release", "", "of this release; freezes that hold none of what it changes do not count (default: any change)")
	cmd.Flags().StringVar(&when, "at", "", "at this time, as in 2026-12-24T12:00:00+01:00 (default: now)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		if when != "" {
			parsed, err := time.Parse(time.RFC3339, when)
			if err != nil {
				return lifecycle.Errorf(lifecycle.Invalid, "--at: %q; give a time with its offset, as in 2026-12-24T12:00:00+01:00", when)
			}
			in.At = parsed
		}
		checked, err := call(a, cmd, control.CheckFreeze, in)
		err = a.report(checked, err, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", at(checked.At), frozenLine(checked.Frozen)) })
		if err == nil && checked.Frozen != nil {
			err = &exitError{lifecycle.Refused.ExitCode(), "changes are frozen"}
		}
		return err
	}
	return cmd
}

func newOpenFreeze(a *app) *cobra.Command {
	var in control.OpenFreezeInput
	var names []string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use: "open SERVICE NAME", Short: "Hold a service's changes, as in an incident", Args: cobra.ExactArgs(2),
		Long: "Hold a service's changes until the freeze is closed. Running canaries keep their share, their steps' clocks stand.\n" +
			"Opening the same again changes nothing.",
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	cmd.Flags().StringSliceVar(&names, "lever", nil, "hold only releases that change prompt, retrieval, weights or parameters (default: all)")
	cmd.Flags().DurationVar(&lasts, "for", 0, "end by itself after this time (default: when it is closed)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service, in.Name = args[0], args[1]
		for _, n := range names {
			in.Levers = append(in.Levers, lifecycle.Lever(n))
		}
		if lasts < 0 {
			return lifecycle.Errorf(lifecycle.Invalid, "--for: %s; give a time to come", lasts)
		}
		if lasts > 0 {
			in.EndsAt = time.Now().Add(lasts).UTC().Truncate(time.Second)
		}
		opened, err := call(a, cmd, control.OpenFreeze, in)
		return a.report(opened, err, func(w io.Writer) {
			fmt.Fprintf(w, "freeze %s of %s is open since %s, for levers: %s\n", opened.Name, opened.Service, at(opened.OpenedAt), levers(opened.Levers))
		})
	}
	return cmd
}

func newCloseFreeze(a *app) *cobra.Command {
	var in control.CloseFreezeInput
	cmd := &cobra.Command{Use: "close SERVICE NAME", Short: "Let changes go on; needs role approver", Args: cobra.ExactArgs(2)}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service, in.Name = args[0], args[1]
		closed, err := call(a, cmd, control.CloseFreeze, in)
		return a.report(closed, err, func(w io.Writer) {
			fmt.Fprintf(w, "freeze %s of %s is closed since %s\n", closed.Name, closed.Service, at(closed.ClosedAt))
		})
	}
	return cmd
}

func newBreakGlass(a *app) *cobra.Command {
	var in control.BreakGlassInput
	var lasts time.Duration
	cmd := &cobra.Command{
		Use: "break-glass SERVICE", Short: "Let the running promotion go on in a freeze; needs role approver", Args: cobra.ExactArgs(1),
		Long: "Let the promotion that runs now, and no other, go on in freezes for a time. Who started it may not: a second person\n" +
			"breaks the glass, or two do where it is not proven who started it. A promotion that a freeze would turn away is started with `refit promote --wait`.",
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	cmd.Flags().DurationVar(&lasts, "for", time.Hour, "how long, at most 24h")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service, in.For = args[0], lifecycle.Duration(lasts)
		state, err := call(a, cmd, control.BreakGlass, in)
		return a.report(state, err, func(w io.Writer) {
			if state.Glass.IsZero() {
				fmt.Fprintf(w, "noted, and not broken yet: %s\n", state.Reason)
				return
			}
			fmt.Fprintf(w, "glass broken until %s\n", at(state.Glass))
		})
	}
	return cmd
}
