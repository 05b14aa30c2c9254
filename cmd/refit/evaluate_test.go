package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
)

// tree is a folder that a suite writes itself into.
type tree string

func (t tree) Create(name string) (io.WriteCloser, error) {
	return os.Create(filepath.Join(string(t), name))
}

// compared is a suite's folder with two files of answers to it.
func compared(t *testing.T, right func(release string, i int) bool) (folder string, files [2]string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "suite")
	require.NoError(t, os.Mkdir(folder, 0o700))
	const cases = 400
	suite := evaluation.Suite{Version: 1, Capabilities: []evaluation.Capability{
		{Name: "words", Kind: evaluation.NextToken, Metric: "accuracy", Margin: 0.05, Items: cases},
	}}
	for i := range cases {
		id := fmt.Sprint("case-", i)
		suite.Cases = append(suite.Cases, evaluation.Case{ID: id, Capability: "words", Group: id, Text: "once upon a", Want: "time"})
	}
	require.NoError(t, suite.Write(tree(folder)))
	var manifest []lifecycle.File
	for _, name := range []string{evaluation.SuiteFile, evaluation.CasesFile} {
		raw, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		manifest = append(manifest, lifecycle.File{Path: name, Size: int64(len(raw)), SHA256: lifecycle.DigestOf(raw)})
	}
	m, err := lifecycle.NewManifest(lifecycle.SuiteArtifact, manifest)
	require.NoError(t, err)
	for n, release := range []string{"before", "after"} {
		answers := evaluation.Answers{Suite: m.Digest(), Release: lifecycle.DigestOf([]byte(release))}
		for i := range cases {
			a := evaluation.Answer{Case: fmt.Sprint("case-", i), Capability: "words", Said: "tide"}
			if right(release, i) {
				a.Score, a.Said = 1, "time"
			}
			answers.List = append(answers.List, a)
		}
		files[n] = filepath.Join(folder, "..", release+".jsonl")
		f, err := os.Create(files[n])
		require.NoError(t, err)
		require.NoError(t, answers.Write(f))
		require.NoError(t, f.Close())
	}
	return folder, files
}

func TestTwoFilesOfAnswersAreCompared(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		right func(string, int) bool
		code  int
		want  string
	}{
		"the same":     {func(_ string, i int) bool { return i%2 == 0 }, 0, "# Gate: pass"},
		"a third less": {func(r string, i int) bool { return r == "before" || i%3 != 0 }, 3, "# Gate: regress"},
		"much noise":   {func(r string, i int) bool { return i%2 == len(r)%2 }, 4, "# Gate: underpowered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, files := compared(t, tc.right)
			o := command(t.Context(), "compare", "--suite", folder, files[0], files[1])
			require.Equal(t, tc.code, o.code, o.errors)
			require.Contains(t, o.out, tc.want)
			require.Contains(t, o.out, "words  .", "the interval is drawn")

			o = command(t.Context(), "compare", "--suite", folder, files[0], files[1], "-o", "json")
			require.Equal(t, tc.code, o.code)
			var report struct {
				Verdict lifecycle.Verdict `json:"verdict"`
			}
			require.NoError(t, json.Unmarshal([]byte(o.out), &report))
			require.Equal(t, tc.code, exitOf(report.Verdict.Outcome))

			junit, text := filepath.Join(folder, "..", "gate.xml"), filepath.Join(folder, "..", "gate.md")
			o = command(t.Context(), "compare", "--suite", folder, files[0], files[1], "-o", "junit", "--junit", junit, "--report", text)
			require.Equal(t, tc.code, o.code)
			written, err := os.ReadFile(junit)
			require.NoError(t, err)
			require.Equal(t, string(written), o.out)
			require.NoError(t, xml.Unmarshal(written, new(any)))
			written, err = os.ReadFile(text)
			require.NoError(t, err)
			require.Contains(t, string(written), tc.want)
		})
	}
}

func exitOf(o lifecycle.Outcome) int {
	if err := o.Err(""); err != nil {
		return lifecycle.KindOf(err).ExitCode()
	}
	return 0
}

func TestAnswersToAnotherSuiteAreNoVerdict(t *testing.T) {
	t.Parallel()
	folder, files := compared(t, func(string, int) bool { return true })
	require.NoError(t, os.WriteFile(filepath.Join(folder, "note.txt"), []byte("a suite that changed"), 0o600))
	o := command(t.Context(), "compare", "--suite", folder, files[0], files[1])
	require.Equal(t, 1, o.code)
	require.Contains(t, o.out, "answers suite")
	for _, args := range [][]string{
		{"compare", "--suite", folder, files[0]}, {"compare", "docs", "a"}, {"compare", "--suite", folder, files[0], folder + "/none"},
		{"compare", "--suite", folder + "/none", files[0], files[1]}, {"status", "-o", "junit"},
	} {
		require.Equal(t, 2, command(t.Context(), args...).code, "%v", args)
	}
	require.NoError(t, os.WriteFile(files[1], []byte(`{"suite":"x","release":""}`+"\n"), 0o600))
	require.Equal(t, 2, command(t.Context(), "compare", "--suite", folder, files[0], files[1]).code, "answers of nobody")
	require.Equal(t, 2, command(t.Context(), "compare", "--suite", folder, files[1], files[0]).code, "a baseline without a name would be a first release")
}

func TestTwoReleasesOfAServiceAreCompared(t *testing.T) {
	t.Parallel()
	verdict := lifecycle.Verdict{
		Service: "docs", Outcome: lifecycle.RegressOutcome, Report: lifecycle.DigestOf([]byte("report")), Reasons: []string{"words: worse"},
		Capabilities: []lifecycle.CapabilityVerdict{{Capability: "words", Outcome: lifecycle.RegressOutcome, Reason: "worse"}},
	}
	raw, err := json.Marshal(verdict)
	require.NoError(t, err)
	a := newAPI(t, map[string]any{
		"start": started, "watch": control.Watched{Status: "Completed", Result: raw},
		"report": control.ReportResult{Markdown: "# Gate: regress\n", Report: json.RawMessage(`{"verdict":{}}`)},
	})
	o := a.run("compare", "docs", "abc", "def")
	require.Equal(t, 3, o.code)
	require.Equal(t, "# Gate: regress\n", o.out)
	o = a.run("compare", "docs", "abc", "def", "-o", "json")
	require.Equal(t, 3, o.code)
	require.JSONEq(t, `{"verdict":{}}`, o.out)
	o = a.run("evaluate", "docs", "-o", "junit")
	require.Equal(t, 3, o.code)
	require.Contains(t, o.out, `<failure type="regress" message="worse">`)
	asked, err := json.Marshal(a.asked["start"][0])
	require.NoError(t, err)
	require.JSONEq(t, `{"workflow": "EvaluateRelease", "input": {"service": "docs", "baseline": "abc", "release": "def"}}`, string(asked))
	asked, err = json.Marshal(a.asked["report"][0])
	require.NoError(t, err)
	require.JSONEq(t, fmt.Sprintf(`{"service": "docs", "report": %q}`, verdict.Report), string(asked))
}
