package corpus

import (
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"
)

// goroot is the standard library's source, on every machine that builds Go; skips aloud where it is not.
func goroot(t testing.TB, packages string) fs.FS {
	t.Helper()
	dir := filepath.Join(runtime.GOROOT(), "src", packages) //nolint:staticcheck // tests run where Go is
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the standard library's source is not here: %v", err)
	}
	return os.DirFS(dir)
}

func sequence(docs ...Document) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func collect(t testing.TB, docs iter.Seq2[Document, error]) []Document {
	t.Helper()
	var all []Document
	for d, err := range docs {
		if err != nil {
			t.Fatalf("document %q: %v", d.ID, err)
		}
		all = append(all, d)
	}
	return all
}

// tree is a Creator in memory.
type tree fstest.MapFS

type treeFile struct {
	tree tree
	name string
	data []byte
}

func (t tree) Create(name string) (io.WriteCloser, error) {
	return &treeFile{tree: t, name: name}, nil
}

func (f *treeFile) Write(p []byte) (int, error) {
	f.data = append(f.data, p...)
	return len(p), nil
}

func (f *treeFile) Close() error {
	f.tree[f.name] = &fstest.MapFile{Data: f.data}
	return nil
}
