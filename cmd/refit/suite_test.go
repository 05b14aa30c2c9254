package main

import (
	"encoding/json"
	"os"
	"path/filepath"
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
