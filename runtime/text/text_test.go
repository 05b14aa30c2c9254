package text

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func dataset(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return dir
}

func TestReadKeepsTheOrderOfFilesAndLines(t *testing.T) {
	t.Parallel()
	dir := dataset(t, map[string]string{
		"train/0001.jsonl":   `{"id":"c","source":"s","title":"T","text":"three"}` + "\n",
		"train/0000.jsonl":   `{"id":"b","text":"one"}` + "\n\n" + `{"id":"a","text":"two"}`,
		"train/notes.txt":    "not a document",
		"heldout/0000.jsonl": `{"id":"h","text":"held out"}`,
		"data-card.json":     "{}",
	})
	got, err := Read(dir, "train")
	require.NoError(t, err)
	require.Equal(t, []Document{{ID: "b", Text: "one"}, {ID: "a", Text: "two"}, {ID: "c", Source: "s", Title: "T", Text: "three"}}, got)
	require.Equal(t, "one", got[0].Rendered())
	require.Equal(t, "T\nthree", got[2].Rendered())
	got, err = Read(dir, "heldout")
	require.NoError(t, err)
	require.Equal(t, []Document{{ID: "h", Text: "held out"}}, got)
}

func TestHalfADatasetIsNone(t *testing.T) {
	t.Parallel()
	const good = `{"id":"a","text":"one"}` + "\n"
	for name, tc := range map[string]struct{ content, message string }{
		"broken line":   {good + `{"id":"b","text":`, "line 2"},
		"wrong type":    {good + good[:len(good)-1] + "\n" + `{"id":1}`, "line 2"},
		"same ID twice": {good + "\n" + good, "line 3"},
		"no ID":         {`{"text":"x"}`, "line 1"},
		"no text":       {`{"id":"b","text":" \n"}`, "line 1"},
		"not UTF-8":     {`{"id":"b","text":"` + "\xff" + `"}`, "not UTF-8"},
		"too long":      {`{"id":"b","text":"` + strings.Repeat("x", maxLine) + `"}`, "too long"},
		"no document":   {"\n", "no document"},
	} {
		_, err := Read(dataset(t, map[string]string{"train/0.jsonl": tc.content}), "train")
		require.ErrorContains(t, err, tc.message, name)
	}
	_, err := Read(t.TempDir(), "train")
	require.ErrorContains(t, err, "no document")
}

func TestAnIDIsUniqueOverFiles(t *testing.T) {
	t.Parallel()
	const line = `{"id":"a","text":"one"}`
	_, err := Read(dataset(t, map[string]string{"train/0.jsonl": line, "train/1.jsonl": line}), "train")
	require.ErrorContains(t, err, "1.jsonl line 1")
}
