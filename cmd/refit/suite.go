package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/form"
	"github.com/refitml/refit/internal/lifecycle"
)

func newSuite(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "suite", Short: "Check and import suites of cases"}
	cmd.AddCommand(newSuiteCheck(a))
	return cmd
}

// checkedSuite is what is printed of a suite.
type checkedSuite struct {
	Suite        string               `json:"suite"`
	Digest       lifecycle.Digest     `json:"digest"`
	Capabilities []evaluation.Summary `json:"capabilities"`
}

func newSuiteCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check FOLDER|FILE", Short: "Read a suite and show what gates will ask", Args: cobra.ExactArgs(1),
		Long: "Read a suite as people write it: a folder with " + form.File + ", or one YAML file. All faults are told at once, each with\n" +
			"file and line. The digest is that of the artifact which a gate makes of it.",
		RunE: func(_ *cobra.Command, args []string) error {
			suite, err := readSuiteAt(args[0])
			if err != nil {
				return err
			}
			digest, err := suite.Digest()
			return a.report(checkedSuite{suite.Name, digest, suite.Summaries()}, err, func(w io.Writer) {
				fmt.Fprintf(w, "suite %s, digest %s\n", suite.Name, digest)
				var rows [][]string
				for _, c := range suite.Summaries() {
					rows = append(rows, []string{
						c.Capability, c.Kind, c.Metric, fmt.Sprint(c.Margin), fmt.Sprint(c.Gate), fmt.Sprint(c.Groups), fmt.Sprint(c.Weight),
						fmt.Sprint(c.Samples), fmt.Sprint(c.Search),
					})
				}
				table(w, []string{"CAPABILITY", "ASK", "METRIC", "MARGIN", "CASES", "GROUPS", "WEIGHT", "SAMPLES", "SEARCH"}, rows)
			})
		},
	}
}

// readSuiteAt reads a folder or a file; nothing outside of the folder is read.
func readSuiteAt(path string) (evaluation.Suite, error) {
	folder, name := path, form.File
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		folder, name = filepath.Split(path)
		if folder == "" {
			folder = "."
		}
	}
	if err != nil {
		return evaluation.Suite{}, lifecycle.Errorf(lifecycle.Invalid, "find the suite: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return evaluation.Suite{}, lifecycle.Errorf(lifecycle.Invalid, "open the suite's folder: %w", err)
	}
	defer root.Close()
	return form.Read(root.FS(), name)
}
