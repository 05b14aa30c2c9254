package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/form"
	"github.com/refitml/refit/internal/evaluation/imports"
	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

func newSuite(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "suite", Short: "Check and import suites of cases"}
	cmd.AddCommand(newSuiteCheck(a), newSuiteImport(a), newSuiteScorers(a))
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
						fmt.Sprint(c.Samples), fmt.Sprint(c.Search), labelsOf(c),
					})
				}
				table(w, []string{"CAPABILITY", "ASK", "METRIC", "MARGIN", "CASES", "GROUPS", "WEIGHT", "SAMPLES", "SEARCH", "LABELS"}, rows)
			})
		},
	}
}

// labelsOf tells the labels of people, and where they share groups how many are independent.
func labelsOf(c evaluation.Summary) string {
	if c.LabelledGroups == c.Labels {
		return fmt.Sprint(c.Labels)
	}
	return fmt.Sprintf("%d in %d groups", c.Labels, c.LabelledGroups)
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

// listedScorer is a line of the table of scorers.
type listedScorer struct {
	Name     string   `json:"name"`
	Ask      string   `json:"ask"`
	Scores   string   `json:"scores"` // "0 or 1", "number" or "less is better"
	Settings []string `json:"settings"`
	Source   string   `json:"source"`
}

func listedScorers() []listedScorer {
	asks := map[score.Asks]string{score.Text: evaluation.Generate, score.Choices: evaluation.Choice, score.Likelihood: evaluation.Likelihood, score.Ranking: evaluation.Retrieval}
	var list []listedScorer
	for _, entry := range score.Table() {
		scores := "number"
		switch {
		case entry.Binary:
			scores = "0 or 1"
		case entry.Less:
			scores = "less is better"
		}
		list = append(list, listedScorer{entry.Name, asks[entry.Asks], scores, entry.Settings(), entry.Source})
	}
	return list
}

func newSuiteScorers(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "scorers", Short: "List the scorers that suites may name, with the source of each", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			list := listedScorers()
			return a.report(list, nil, func(w io.Writer) {
				var rows [][]string
				for _, s := range list {
					rows = append(rows, []string{s.Name, s.Ask, s.Scores, strings.Join(s.Settings, " "), s.Source})
				}
				table(w, []string{"SCORER", "ASK", "SCORES", "SETTINGS", "SOURCE"}, rows)
			})
		},
	}
}

func newSuiteImport(a *app) *cobra.Command {
	var format, out, name string
	var how imports.Options
	cmd := &cobra.Command{
		Use: "import FILE...", Short: "Make a suite of what another evaluation tool wrote", Args: cobra.MinimumNArgs(1),
		Long: "Read files of one format and write a suite as people write it, into a folder that is new or empty. Answers that the\n" +
			"files hold are written beside it, scored anew. What could not be carried over is told on standard error.\n\n" +
			"Formats: jsonl (input and ideal, as OpenAI evals has its samples), lm-eval (samples_*.jsonl of --log_samples),\n" +
			"inspect (logs, .json and .eval), promptfoo (results as JSON).",
	}
	cmd.Flags().StringVar(&format, "from", "", "format: "+strings.Join(imports.Formats(), ", "))
	cmd.Flags().StringVar(&out, "out", "", "folder to write")
	cmd.Flags().StringVar(&name, "name", "imported", "of the suite")
	cmd.Flags().StringVar(&how.Score, "score", "", "scorer of answers in words (default: the one most like the tool's)")
	for _, required := range []string{"from", "out"} {
		_ = cmd.MarkFlagRequired(required) // it is there
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		result, err := importFiles(name, format, how, args)
		if err != nil {
			return err
		}
		digest, err := result.Suite.Digest()
		if err == nil {
			err = writeImported(out, result, digest)
		}
		if err != nil {
			return err
		}
		for _, note := range result.Notes {
			fmt.Fprintln(a.diagnostics, "note:", note)
		}
		return a.report(checkedSuite{result.Suite.Name, digest, result.Suite.Summaries()}, nil, func(w io.Writer) {
			fmt.Fprintf(w, "%d cases, %d answers in %s, digest %s\n", len(result.Suite.Cases), len(result.Answers), out, digest)
		})
	}
	return cmd
}

func importFiles(name, format string, how imports.Options, paths []string) (imports.Result, error) {
	var files []imports.File
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return imports.Result{}, lifecycle.Errorf(lifecycle.Invalid, "open what is to be imported: %w", err)
		}
		defer f.Close()
		files = append(files, imports.File{Name: path, Read: f})
	}
	return imports.Import(name, format, how, files...)
}

// answersFile holds imported answers, in the form in which gates keep them; they are of no release.
const answersFile = "answers.jsonl"

func writeImported(dir string, result imports.Result, digest lifecycle.Digest) error {
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return lifecycle.Errorf(lifecycle.Conflict, "folder %s is not empty; give a new one", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "make the folder: %w", err)
	}
	if err := form.Write(result.Suite, folder(dir)); err != nil || len(result.Answers) == 0 {
		return err
	}
	f, err := folder(dir).Create(answersFile)
	if err != nil {
		return err
	}
	return errors.Join(evaluation.Answers{Suite: digest, List: result.Answers}.Write(f), f.Close())
}

// folder is a new folder of files.
type folder string

// Create makes a file that is not there yet.
func (f folder) Create(name string) (io.WriteCloser, error) {
	return os.OpenFile(filepath.Join(string(f), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}
