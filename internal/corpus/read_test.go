package corpus

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func files(contents map[string]string) fs.FS {
	fsys := fstest.MapFS{}
	for name, text := range contents {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestGoPackagesNamesEverySymbolOnce(t *testing.T) {
	t.Parallel()
	source := files(map[string]string{
		"box/box.go": `// Package box keeps things.
package box

// Sizes of boxes.
const (
	// Small is for shoes.
	Small = iota
	Large
)

// Box keeps one thing.
type Box struct{}

// Open opens the box.
func (b *Box) Open() {}

// New makes a box.
func New() *Box { return nil }

// Silent has no comment below.
func Silent() {}
func Bare()    {}

// hidden is not exported.
func hidden() {}
`,
		"box/box_windows.go":       "package box\n\n// Registry is only there.\nfunc Registry() {}\n",
		"box/tagged.go":            "//go:build !linux\n\npackage box\n\n// Elsewhere is elsewhere.\nfunc Elsewhere() {}\n",
		"box/box_linux.go":         "package box\n\n// Here is here.\nfunc Here() {}\n",
		"box/box_test.go":          "package box\n\n// Tested is a test's.\nfunc Tested() {}\n",
		"box/internal/x.go":        "// Package x is hidden.\npackage x\n",
		"box/testdata/y.go":        "// Package y is data.\npackage y\n",
		"cmd/c.go":                 "// Command c runs.\npackage main\n",
		"other/go.mod":             "module other\n",
		"other/o.go":               "// Package other is another module.\npackage other\n",
		"skipped/s.go":             "// Package skipped is left out.\npackage skipped\n",
		"vendor/v/v.go":            "// Package v is somebody else's.\npackage v\n",
		"box/deeper/down/ignore.c": "int x;",
	})
	docs := collect(t, GoPackages(source, GoOptions{Path: "example.org/m", Skip: []string{"skipped"}}))
	titles := map[string]string{}
	for _, d := range docs {
		require.Equal(t, "go/example.org/m/box", d.Source)
		titles[d.ID] = d.Title + ": " + strings.TrimSpace(d.Text)
	}
	const box = "example.org/m/box"
	require.Equal(t, map[string]string{
		box:               "package box: Package box keeps things.",
		box + ".Small":    "box.Small: Sizes of boxes.",
		box + ".Box":      "box.Box: Box keeps one thing.",
		box + ".Box.Open": "box.Box.Open: Open opens the box.",
		box + ".New":      "box.New: New makes a box.",
		box + ".Silent":   "box.Silent: Silent has no comment below.",
		box + ".Here":     "box.Here: Here is here.",
	}, titles)
	require.Len(t, docs, len(titles))
}

func TestGoPackagesNamesAFileThatDoesNotParse(t *testing.T) {
	t.Parallel()
	source := files(map[string]string{
		"a/bad.go":  "package a\nfunc {",
		"a/good.go": "// Package a is half there.\npackage a\n",
	})
	var errs, docs []string
	for d, err := range GoPackages(source, GoOptions{}) {
		if err != nil {
			require.True(t, lifecycle.Is(err, lifecycle.Corrupt))
			errs = append(errs, d.ID)
			continue
		}
		docs = append(docs, d.ID)
	}
	require.Equal(t, []string{"a/bad.go"}, errs)
	require.Equal(t, []string{"a"}, docs)
}

func TestGoPackagesReadsTheStandardLibrary(t *testing.T) {
	t.Parallel()
	docs := collect(t, GoPackages(goroot(t, "net"), GoOptions{Path: "net"}))
	ids := map[string]Document{}
	for _, d := range docs {
		require.NotContains(t, ids, d.ID)
		ids[d.ID] = d
	}
	require.Contains(t, ids, "net/http")
	require.Contains(t, ids, "net/http.Client.Do")
	require.Equal(t, "http.Client", ids["net/http.Client"].Title)
	require.Greater(t, len(docs), 700)
	require.Equal(t, docs, collect(t, GoPackages(goroot(t, "net"), GoOptions{Path: "net"})))
}

func TestReadersStopWhenTheyAreAsked(t *testing.T) {
	t.Parallel()
	n := 0
	for range GoPackages(goroot(t, "net"), GoOptions{}) {
		n++
		break
	}
	for range Folder(files(map[string]string{"a.md": "# A\ntext\n# B\ntext\n"}), FolderOptions{}) {
		n++
		break
	}
	require.Equal(t, 2, n)
}

func TestFolderSplitsMarkdownAtHeadings(t *testing.T) {
	t.Parallel()
	docs := collect(t, Folder(files(map[string]string{
		"guide/a.md":   "before\n# First one\ntext\n```sh\n# a comment\n```\n## Twice\nx\n## Twice\ny\n#nothing\n### Empty\n",
		"b.txt":        "# plain text has no headings\n",
		".git/c.txt":   "hidden",
		"picture.png":  "no text",
		"guide/d.json": "{}",
	}), FolderOptions{Name: "own"}))
	require.Equal(t, []Document{
		{"own/b.txt", "own/b.txt", "b", "# plain text has no headings\n"},
		{"own/guide/a.md", "own/guide/a.md", "a", "before\n"},
		{"own/guide/a.md#first-one", "own/guide/a.md", "First one", "text\n```sh\n# a comment\n```\n"},
		{"own/guide/a.md#twice", "own/guide/a.md", "Twice", "x\n"},
		{"own/guide/a.md#twice-1", "own/guide/a.md", "Twice", "y\n#nothing\n"},
	}, docs)
}

func TestPairMasksTheSymbolsName(t *testing.T) {
	t.Parallel()
	const rest = "\nThe rest of the comment says much more about it, over several words."
	for name, tc := range map[string]struct{ title, text, want string }{
		"function": {"http.NewRequest", "NewRequest wraps a context, e.g. Background, for an HTTP call. " + rest,
			"wraps a context, e.g. Background, for an HTTP call."},
		"article and again": {"http.Client", "A Client is an HTTP client; a [Client] is safe. " + rest, "is an HTTP client; a [it] is safe."},
		"method":            {"http.Client.Do", "Do sends an HTTP request like Client.Do does. " + rest, "sends an HTTP request like it does."},
		"package":           {"package http", "Package http provides HTTP client implementations. " + rest, "provides HTTP client implementations."},
		"over lines":        {"io.Copy", "Copy copies from src\nto dst until EOF. " + rest, "copies from src to dst until EOF."},
		"longer names stay": {"io.Copy", "CopyN is more than CopyBuffer and io.CopyN are. " + rest, "CopyN is more than CopyBuffer and io.CopyN are."},
		"paragraph":         {"x.List", "List lists these things here:\n\n" + rest, "lists these things here:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := Document{ID: "i", Source: "s", Title: tc.title, Text: tc.text}
			q, left, ok := Pair(d)
			require.True(t, ok)
			require.Equal(t, Query{ID: "i", Group: "s", Text: tc.want, Document: "i"}, q)
			require.Equal(t, strings.TrimSpace(rest), left.Text)
		})
	}
	_, same, ok := Pair(Document{ID: "i", Title: "a.B", Text: "B is alone here and complete."})
	require.False(t, ok, "nothing would be left to find")
	require.Equal(t, "B is alone here and complete.", same.Text)
}

func TestPairsOfTheStandardLibraryDoNotNameTheirSymbol(t *testing.T) {
	t.Parallel()
	docs := collect(t, GoPackages(goroot(t, "net"), GoOptions{Path: "net"}))
	queries, indexed, err := Pairs(sequence(docs...))
	require.NoError(t, err)
	require.Len(t, indexed, len(docs))
	require.Greater(t, len(queries), 200)
	titles := map[string]string{}
	for _, d := range docs {
		titles[d.ID] = d.Title
	}
	for _, q := range queries {
		title := strings.TrimPrefix(titles[q.Document], "package ")
		name := title[strings.LastIndex(title, ".")+1:]
		require.NotContains(t, strings.FieldsFunc(q.Text, func(r rune) bool { return strings.ContainsRune(" .,[]()*", r) }), name, q.Text)
	}
}
