// Package godocs makes small datasets for tests from the documentation of the standard library, which every machine
// that builds Go has. Nothing but tests and benchmarks may import it.
package godocs

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/refitml/refit/runtime/text"
)

// Documents returns the documented symbols of the packages with the given import paths, in a fixed order.
func Documents(packages ...string) ([]text.Document, error) {
	var documents []text.Document
	for _, path := range packages {
		found, err := ofPackage(path, filepath.Join(runtime.GOROOT(), "src", path)) //nolint:staticcheck // tests run where Go is
		if err != nil {
			return nil, fmt.Errorf("read the documentation of %s: %w", path, err)
		}
		documents = append(documents, found...)
	}
	return documents, nil
}

func ofPackage(path, dir string) ([]text.Document, error) {
	files := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var parsed []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if len(parsed) == 0 || parsed[0].Name.Name == file.Name.Name {
			parsed = append(parsed, file)
		}
	}
	pkg, err := doc.NewFromFiles(files, parsed, path)
	if err != nil {
		return nil, err
	}
	var documents []text.Document
	seen := map[string]bool{}
	add := func(symbol, body string) {
		id := path + "." + symbol
		if body = strings.TrimSpace(body); len(body) < 40 || seen[id] {
			return
		}
		seen[id] = true
		documents = append(documents, text.Document{ID: id, Source: "go/" + path, Title: filepath.Base(path) + "." + symbol, Text: body})
	}
	add("package", pkg.Doc)
	for _, f := range pkg.Funcs {
		add(f.Name, f.Doc)
	}
	for _, t := range pkg.Types {
		add(t.Name, t.Doc)
		for _, f := range append(t.Funcs, t.Methods...) {
			if f.Recv != "" {
				add(t.Name+"."+f.Name, f.Doc)
				continue
			}
			add(f.Name, f.Doc)
		}
	}
	return documents, nil
}

// Write makes a dataset folder: every tenth document is held out.
func Write(dir string, documents []text.Document) error {
	lines := map[string]*strings.Builder{"train": {}, "heldout": {}}
	for i, d := range documents {
		raw, err := json.Marshal(d)
		if err != nil {
			return err
		}
		split := "train"
		if i%10 == 9 {
			split = "heldout"
		}
		lines[split].Write(append(raw, '\n'))
	}
	for split, content := range lines {
		if err := os.MkdirAll(filepath.Join(dir, split), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, split, "docs.jsonl"), []byte(content.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
