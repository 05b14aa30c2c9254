package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASuiteIsImportedAndChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	items := filepath.Join(dir, "facts.jsonl")
	require.NoError(t, os.WriteFile(items, []byte(`{"input":"Which city?","ideal":["Paris","Rome"]}`+"\n"), 0o600))
	out := filepath.Join(dir, "suite")
	o := command(t.Context(), "suite", "import", "--from", "jsonl", "--out", out, "--name", "mine", items)
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, "1 cases, 0 answers")
	require.Contains(t, o.errors, "note: facts: scored by contains")

	o = command(t.Context(), "suite", "check", out, "--output", "json")
	require.Zero(t, o.code, o.errors)
	var checked checkedSuite
	require.NoError(t, json.Unmarshal([]byte(o.out), &checked))
	require.Equal(t, "mine", checked.Suite)
	require.True(t, checked.Digest.Valid())
	require.Equal(t, 1, checked.Capabilities[0].Gate)

	o = command(t.Context(), "suite", "import", "--from", "jsonl", "--out", out, items)
	require.Equal(t, 5, o.code, "nothing is written over: %s", o.errors)
	o = command(t.Context(), "suite", "import", "--from", "xml", "--out", filepath.Join(dir, "other"), items)
	require.Equal(t, 2, o.code)
	require.Contains(t, o.errors, "give one of inspect")

	require.NoError(t, os.WriteFile(filepath.Join(out, "facts.jsonl"), []byte(`{"text":"Which city?","wnat":"Paris"}`+"\n"), 0o600))
	o = command(t.Context(), "suite", "check", filepath.Join(out, "suite.yaml"))
	require.Equal(t, 2, o.code)
	require.Contains(t, o.errors, `facts.jsonl:1: json: unknown field "wnat"`)
}

func TestACheckedSuiteSaysHowManyAnswersPeopleHaveJudged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "suite.yaml"), []byte(`suite: labelled
capabilities:
  - {name: advice, ask: generate, score: contains, margin: 0.1, files: [advice.jsonl]}
  - {name: quick, ask: generate, score: latency, margin: 0.1, files: [quick.jsonl]}
`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "advice.jsonl"), []byte(`{"text": "1?", "want": "a", "group": "g", "human": {"said": "a", "score": 1}}
{"text": "2?", "want": "b", "group": "g", "human": {"said": "a", "score": 0}}
{"text": "3?", "want": "c", "human": {"said": "c", "score": 1}}
{"text": "4?", "want": "d"}
{"text": "5?", "want": "e", "split": "search", "human": {"said": "e", "score": 1}}
`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "quick.jsonl"), []byte(`{"text": "6?", "human": {"said": "a", "score": 1}}`+"\n"), 0o600))

	o := command(t.Context(), "suite", "check", dir)
	require.Zero(t, o.code, o.errors)
	lines := strings.Split(o.out, "\n")
	require.Regexp(t, `LABELS$`, lines[1])
	require.Regexp(t, `^advice .* 3 in 2 groups$`, lines[2])
	require.Regexp(t, `^quick .* 0$`, lines[3], "how long an answer took nobody reads off its words")

	o = command(t.Context(), "suite", "check", dir, "--output", "json")
	require.Zero(t, o.code, o.errors)
	var checked checkedSuite
	require.NoError(t, json.Unmarshal([]byte(o.out), &checked))
	require.Equal(t, 3, checked.Capabilities[0].Labels, "gates ask nothing of the split search")
	require.Equal(t, 2, checked.Capabilities[0].LabelledGroups)
	require.Zero(t, checked.Capabilities[1].Labels)
}

func TestAnImportedFileBringsItsAnswers(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "suite")
	o := command(t.Context(), "suite", "import", "--from", "inspect", "--out", out, "../../internal/evaluation/imports/testdata/inspect-words.eval")
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, "2 cases, 4 answers")
	raw, err := os.ReadFile(filepath.Join(out, answersFile))
	require.NoError(t, err)
	require.Contains(t, string(raw), `"said":"Lyon, I think."`)
}

func TestThePageOfSuitesListsEveryScorer(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/suites.md")
	require.NoError(t, err)
	for _, s := range listedScorers() {
		settings := "-"
		if len(s.Settings) > 0 {
			settings = "`" + strings.Join(s.Settings, "`, `") + "`"
		}
		row := fmt.Sprintf("| `%s` | %s | %s | %s | %s |", s.Name, s.Ask, s.Scores, settings, strings.ReplaceAll(s.Source, "|", "\\|"))
		require.Contains(t, string(page), row)
	}
}

func TestTheExampleOnThePageOfSuitesIsASuite(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/suites.md")
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"suite.yaml", "facts.jsonl"} {
		_, rest, ok := strings.Cut(string(page), "<!-- "+name+" -->\n```")
		require.True(t, ok, name)
		_, rest, _ = strings.Cut(rest, "\n")
		content, _, _ := strings.Cut(rest, "```")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	o := command(t.Context(), "suite", "check", dir)
	require.Zero(t, o.code, o.errors)
}
