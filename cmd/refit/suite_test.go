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
