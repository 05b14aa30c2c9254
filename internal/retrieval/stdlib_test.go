package retrieval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// stdlib gives real documents with real queries: the functions and methods of some packages, asked for by the
// first sentence of their comment without the name, found by what is left of the comment.
func stdlib(t testing.TB) ([]Document, []Query) {
	t.Helper()
	var docs []Document
	var queries []Query
	seen := map[string]bool{}
	for _, path := range []string{"net/http", "os", "io", "bufio", "strings", "bytes", "database/sql", "encoding/json", "time", "sync", "reflect", "net"} {
		dir := filepath.Join(runtime.GOROOT(), "src", path) //nolint:staticcheck // tests run where Go is
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		if len(names) == 0 {
			t.Skipf("the standard library's source is not at %s", dir)
		}
		set := token.NewFileSet()
		var files []*ast.File
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(name)
			require.NoError(t, err)
			file, err := parser.ParseFile(set, name, raw, parser.ParseComments)
			require.NoError(t, err)
			if len(files) == 0 || files[0].Name.Name == file.Name.Name {
				files = append(files, file)
			}
		}
		pkg, err := doc.NewFromFiles(set, files, path)
		require.NoError(t, err)
		add := func(owner string, list []*doc.Func) {
			for _, f := range list {
				id := path + "." + owner + f.Name
				first, rest, found := strings.Cut(f.Doc, ".\n")
				first = strings.TrimPrefix(strings.Join(strings.Fields(first), " "), f.Name+" ")
				if seen[id] || !found || len(rest) < 40 || len(strings.Fields(first)) < 4 || strings.Contains(first, f.Name) {
					continue
				}
				seen[id] = true
				docs = append(docs, Document{id, pkg.Name + "." + owner + f.Name, rest})
				queries = append(queries, Query{id, path, first, id})
			}
		}
		add("", pkg.Funcs)
		for _, typ := range pkg.Types {
			add("", typ.Funcs)
			add(typ.Name+".", typ.Methods)
		}
	}
	return docs, queries
}

func TestRealQueriesFindTheirDocuments(t *testing.T) {
	t.Parallel()
	docs, queries := stdlib(t)
	require.Greater(t, len(queries), 300)
	x := build(t, Options{}, docs...)
	all, lexical, err := Evaluate(t.Context(), searcher(t, x, SearchOptions{}), slices.Values(queries))
	require.NoError(t, err)
	require.Len(t, all, len(queries))
	t.Logf("by words: %+v of %d documents", lexical, len(docs))
	require.Greater(t, lexical.RecallAt10, 0.6)
	require.Greater(t, lexical.MRR, 0.35)

	e := hashed{dimension: 256}
	x = build(t, Options{Embedder: e}, docs...)
	_, dense, err := Evaluate(t.Context(), searcher(t, x, SearchOptions{Mode: Dense, Embedder: e}), slices.Values(queries))
	require.NoError(t, err)
	_, hybrid, err := Evaluate(t.Context(), searcher(t, x, SearchOptions{Embedder: e}), slices.Values(queries))
	require.NoError(t, err)
	t.Logf("hashed vectors: %+v; fused: %+v", dense, hybrid)
	require.Greater(t, dense.RecallAt10, 50*10/float64(len(docs))*0.2, "far over chance")
	require.Greater(t, hybrid.RecallAt10, dense.RecallAt10, "words help weak vectors")
}

// resealed gives the files with a header that fits their digests, so that the parsers behind it are reached.
func resealed(files tree) tree {
	var h map[string]any
	if json.Unmarshal(files[HeaderFile].Data, &h) != nil {
		return files
	}
	listed := map[string]any{}
	for name, f := range files {
		if name != HeaderFile {
			listed[name] = fileInfo{int64(len(f.Data)), lifecycle.DigestOf(f.Data)}
		}
	}
	h["files"] = listed
	raw, err := json.Marshal(h)
	if err != nil {
		return files
	}
	files[HeaderFile] = &fstest.MapFile{Data: raw}
	return files
}

func FuzzOpen(f *testing.F) {
	good := written(f, build(f, Options{Embedder: hashed{dimension: 4}}, shelf...))
	f.Add(good[HeaderFile].Data, good[ChunksFile].Data, good[TermsFile].Data, good[VectorsFile].Data)
	f.Add(good[HeaderFile].Data, good[ChunksFile].Data, []byte{4, 1, 1, 1, 1, 255, 255, 255, 127}, []byte{})
	f.Fuzz(func(t *testing.T, head, chunks, terms, vectors []byte) {
		files := resealed(tree{
			HeaderFile: {Data: head}, ChunksFile: {Data: chunks}, TermsFile: {Data: terms}, VectorsFile: {Data: vectors},
		})
		x, err := Open(fstest.MapFS(files))
		if err != nil {
			if kind := lifecycle.KindOf(err); kind != lifecycle.Corrupt {
				t.Fatalf("%s: %v", kind, err)
			}
			return
		}
		// What opens can be searched, and comes back as it was read.
		s, err := x.Searcher(SearchOptions{Mode: Lexical})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Search(t.Context(), "connections to a database", 5); err != nil {
			t.Fatal(err)
		}
		again, err := Open(fstest.MapFS(written(t, x)))
		if err != nil || again.Info() != x.Info() {
			t.Fatalf("it does not come back: %v", err)
		}
	})
}

func FuzzTokensAndChunks(f *testing.F) {
	f.Add("NewHTTPClient http.Client.Do\n\nnext. one", 7, 3)
	f.Fuzz(func(t *testing.T, text string, size, overlap int) {
		for _, term := range Tokens(text) {
			if term == "" || len(term) > 2*maxToken {
				t.Fatalf("term %q", term)
			}
		}
		c, err := (Chunking{Size: size, Overlap: overlap}).withDefaults()
		if err != nil || len(text) > 10_000 {
			return
		}
		last := 0
		for _, s := range c.cut(text) {
			if s.to <= last || s.from >= s.to || s.to > len(text) {
				t.Fatalf("chunk %v after %d", s, last)
			}
			last = s.to
		}
	})
}

// tenThousand makes an index of 10,000 chunks out of real documents, each with a word of its own.
func tenThousand(tb testing.TB, e Embedder) *Index {
	tb.Helper()
	real, _ := stdlib(tb)
	var docs []Document
	for i := range 10_000 {
		d := real[i%len(real)]
		d.ID, d.Text = fmt.Sprintf("%s/%d", d.ID, i), fmt.Sprintf("%s number %d", d.Text, i)
		docs = append(docs, d)
	}
	return build(tb, Options{Embedder: e}, docs...)
}

func BenchmarkSearch(b *testing.B) {
	e := hashed{dimension: 256}
	x := tenThousand(b, e)
	for _, mode := range []Mode{Lexical, Dense, Hybrid} {
		b.Run(string(mode), func(b *testing.B) {
			s := searcher(b, x, SearchOptions{Mode: mode, Embedder: e})
			b.ReportAllocs()
			for b.Loop() {
				hits, err := s.Search(b.Context(), "reads from the connection until the buffer is full", 10)
				if err != nil || len(hits) != 10 {
					b.Fatalf("%d hits: %v", len(hits), err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	files := written(b, tenThousand(b, hashed{dimension: 256}))
	for b.Loop() {
		_, err := Open(fstest.MapFS(files))
		require.NoError(b, err)
	}
}

func TestNumbersNeverReadPastTheirEnd(t *testing.T) {
	t.Parallel()
	r := numbers{rest: bytes.Repeat([]byte{0xff}, 12)}
	require.Zero(t, r.next(math.MaxInt))
	require.True(t, r.bad)
	r = numbers{rest: []byte{5}}
	require.Zero(t, r.next(4))
	require.True(t, r.bad, "over what it may be")
}
