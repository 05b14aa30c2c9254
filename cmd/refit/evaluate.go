package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
)

// givesVerdict marks the commands that end with a verdict, and can give it as JUnit XML.
const givesVerdict = "gives-verdict"

// question is what EvaluateRelease is asked.
type question struct {
	Service  string `json:"service"`
	Release  string `json:"release,omitempty"`
	Baseline string `json:"baseline,omitempty"`
}

// verdictFlags says where else a verdict goes.
type verdictFlags struct{ junit, report string }

func (f *verdictFlags) add(cmd *cobra.Command) {
	cmd.Annotations = map[string]string{givesVerdict: "yes"}
	cmd.Flags().StringVar(&f.junit, "junit", "", "also write the verdict as JUnit XML to this file, for CI")
	cmd.Flags().StringVar(&f.report, "report", "", "also write the report as Markdown to this file")
}

const verdictHelp = "\n\nThe exit code is the verdict: 0 pass, 3 regress, 4 underpowered, 1 where it could not be judged. JUnit XML (-o junit or\n" +
	"--junit FILE) has a test a capability: what regressed or could not be told fails, what could not be judged is an error."

func newEvaluate(a *app) *cobra.Command {
	var in question
	var watch bool
	var to verdictFlags
	cmd := &cobra.Command{
		Use: "evaluate SERVICE", Short: "Judge a release at its gate", Args: cobra.ExactArgs(1),
		Long: "Let a release and its baseline answer the suite of the applied declaration, and judge the gate. With --watch, -o junit,\n" +
			"--junit or --report it waits for the verdict." + verdictHelp,
	}
	cmd.Flags().StringVar(&in.Release, "release", "", "release to judge (default: the newest)")
	cmd.Flags().StringVar(&in.Baseline, "baseline", "", "release to compare with (default: stable)")
	cmd.Flags().BoolVar(&watch, "watch", false, "follow it until it ends")
	to.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		if !watch && a.output != "junit" && to == (verdictFlags{}) {
			started, err := a.start(cmd, "EvaluateRelease", in)
			return a.report(started, err, func(w io.Writer) { printStarted(w, started) })
		}
		verdict, err := a.evaluate(cmd, in)
		if err != nil {
			return err
		}
		var report control.ReportResult
		if to.report != "" {
			if report, err = a.reportOf(cmd, verdict); err != nil {
				return err
			}
		}
		return a.give(verdict, report, verdict, to)
	}
	return cmd
}

func newCompare(a *app) *cobra.Command {
	var suite string
	var to verdictFlags
	cmd := &cobra.Command{
		Use: "compare SERVICE BASELINE RELEASE", Short: "Compare two releases by a service's suite, or two files of answers",
		Long: "Let two releases of a service answer the suite of the applied declaration (kept answers are not asked for again) and show\n" +
			"the gate's report. With --suite DIR the two arguments are files of answers, of the baseline and of the release, to the\n" +
			"suite in that folder: nothing is asked, started or recorded." + verdictHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if suite != "" {
				return cobra.ExactArgs(2)(cmd, args)
			}
			return cobra.ExactArgs(3)(cmd, args)
		},
	}
	cmd.Flags().StringVar(&suite, "suite", "", "folder of a suite: compare two files of answers to it")
	to.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if suite != "" {
			return a.compareFiles(suite, args[0], args[1], to)
		}
		verdict, err := a.evaluate(cmd, question{Service: args[0], Baseline: args[1], Release: args[2]})
		if err != nil {
			return err
		}
		report, err := a.reportOf(cmd, verdict)
		if err != nil {
			return err
		}
		return a.give(verdict, report, report.Report, to)
	}
	return cmd
}

// compareFiles compares two files of answers to the suite in a folder.
func (a *app) compareFiles(suite, baseline, candidate string, to verdictFlags) error {
	root, err := os.OpenRoot(suite)
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "--suite: %w", err)
	}
	defer root.Close()
	open := func(path string) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return os.Open(path) }
	}
	verdict, report, err := evaluation.Offline(root.FS(), open(baseline), open(candidate))
	if err != nil {
		return err
	}
	return a.give(verdict, control.ReportResult{Markdown: report.Markdown()}, report, to)
}

// evaluate asks EvaluateRelease and waits for its verdict.
func (a *app) evaluate(cmd *cobra.Command, in question) (lifecycle.Verdict, error) {
	var verdict lifecycle.Verdict
	started, err := a.start(cmd, "EvaluateRelease", in)
	if err != nil {
		return verdict, err
	}
	final, err := a.follow(cmd, started)
	if err != nil {
		return verdict, err
	}
	if err := json.Unmarshal(final.Result, &verdict); err != nil {
		return verdict, lifecycle.Errorf(lifecycle.Internal, "read the verdict: %w", err)
	}
	return verdict, nil
}

func (a *app) reportOf(cmd *cobra.Command, verdict lifecycle.Verdict) (control.ReportResult, error) {
	return call(a, cmd, control.Report, control.ReportInput{Service: verdict.Service, Report: verdict.Report})
}

// give prints a verdict, as text with its report where there is one, and ends the command with the verdict's code.
func (a *app) give(verdict lifecycle.Verdict, report control.ReportResult, asJSON any, to verdictFlags) error {
	junit, err := evaluation.JUnit(verdict)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		path, flag string
		content    []byte
	}{{to.junit, "--junit", junit}, {to.report, "--report", []byte(report.Markdown)}} {
		if file.path == "" {
			continue
		}
		if err := os.WriteFile(file.path, file.content, 0o644); err != nil {
			return lifecycle.Errorf(lifecycle.Invalid, "%s: %w", file.flag, err)
		}
	}
	switch {
	case a.output == "junit":
		_, err = a.out.Write(junit)
	case a.asJSON() || report.Markdown == "" || to.report != "":
		err = a.report(asJSON, nil, func(w io.Writer) { printVerdict(w, verdict) })
	default:
		_, err = io.WriteString(a.out, report.Markdown)
	}
	if err != nil {
		return err
	}
	if refused := verdict.Outcome.Err(fmt.Sprint(verdict.Reasons)); refused != nil {
		return &exitError{lifecycle.KindOf(refused).ExitCode(), refused.Error()}
	}
	return nil
}

func printVerdict(w io.Writer, verdict lifecycle.Verdict) {
	fmt.Fprintf(w, "%s: %v\n", verdict.Outcome, verdict.Reasons)
	var rows [][]string
	for _, c := range verdict.Capabilities {
		rows = append(rows, []string{
			c.Capability, c.Metric, fmt.Sprint(c.Items), fmt.Sprintf("%.4f", c.Baseline), fmt.Sprintf("%.4f", c.Candidate),
			fmt.Sprintf("%+.4f to %+.4f", c.Low, c.High), string(c.Outcome),
		})
	}
	table(w, []string{"CAPABILITY", "METRIC", "ITEMS", "BASELINE", "CANDIDATE", "DIFFERENCE", "VERDICT"}, rows)
}
