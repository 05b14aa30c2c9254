package corpus

import (
	"errors"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// GoOptions says how Go packages are read. The zero value reads a standard library.
type GoOptions struct {
	Path string   // import path of the folder itself; empty for GOROOT/src
	Skip []string // folders to leave out, relative to the file system: "cmd"
}

// maxFile is the size of a Go or text file in bytes; a larger one is no text that somebody wrote.
const maxFile = 8 << 20

// GoPackages reads the doc comments of the packages in fsys: one document for each package comment and for each
// exported symbol with a comment of its own, in the order of paths and names. IDs are what a person would
// write, "net/http" or "net/http.Client.Do"; the source is "go/" and the import path.
//
// Left out are commands, tests, and folders that are internal, vendor or testdata, begin with a dot or an
// underscore, or hold a module of their own. Of files with build constraints those count that build on Linux,
// amd64, without cgo. A file that does not parse is a Corrupt error beside a document that has the file's path as
// its ID, and reading goes on; the rest of its package is read.
func GoPackages(fsys fs.FS, options GoOptions) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		err := fs.WalkDir(fsys, ".", func(dir string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !entry.IsDir() {
				return nil
			}
			if dir != "." && skipGoDir(fsys, dir, options.Skip) {
				return fs.SkipDir
			}
			return readGoPackage(fsys, dir, path.Join(options.Path, dir), yield)
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Document{}, lifecycle.Wrap(err, "read Go packages below %q", options.Path))
		}
	}
}

// errStopped: whoever ranges over documents has enough.
var errStopped = errors.New("stopped")

func skipGoDir(fsys fs.FS, dir string, skip []string) bool {
	name := path.Base(dir)
	if slices.Contains([]string{"internal", "vendor", "testdata"}, name) || strings.HasPrefix(name, ".") ||
		strings.HasPrefix(name, "_") || slices.Contains(skip, dir) {
		return true
	}
	_, err := fs.Stat(fsys, path.Join(dir, "go.mod"))
	return err == nil
}

func readGoPackage(fsys fs.FS, dir, importPath string, yield func(Document, error) bool) error {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return err
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, entry := range entries {
		name := entry.Name()
		if !entry.Type().IsRegular() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parseGo(fsys, set, path.Join(dir, name))
		if lifecycle.Is(err, lifecycle.Corrupt) {
			if !yield(Document{ID: path.Join(importPath, name), Source: "go/" + importPath}, err) {
				return errStopped
			}
			continue
		}
		if err != nil {
			return err
		}
		if file != nil {
			files = append(files, file)
		}
	}
	files = onePackage(files, path.Base(importPath))
	if len(files) == 0 || files[0].Name.Name == "main" {
		return nil
	}
	docs, err := goDocuments(set, files, importPath)
	if err != nil {
		return err
	}
	for _, d := range docs {
		if !yield(d, nil) {
			return errStopped
		}
	}
	return nil
}

// parseGo gives nil for a file that does not build on the platform that is read for.
func parseGo(fsys fs.FS, set *token.FileSet, name string) (*ast.File, error) {
	source, err := readBounded(fsys, name)
	if err != nil {
		return nil, err
	}
	if !builds(path.Base(name), source) {
		return nil, nil
	}
	file, err := parser.ParseFile(set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "parse %s: %w", name, err)
	}
	return file, nil
}

// onePackage leaves the files of the package that the folder is named for, else of the first file's.
func onePackage(files []*ast.File, base string) []*ast.File {
	if len(files) == 0 {
		return nil
	}
	name := files[0].Name.Name
	for _, f := range files {
		if f.Name.Name == base {
			name = base
		}
	}
	return slices.DeleteFunc(files, func(f *ast.File) bool { return f.Name.Name != name })
}

func goDocuments(set *token.FileSet, files []*ast.File, importPath string) ([]Document, error) {
	pkg, err := doc.NewFromFiles(set, files, importPath)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "read the comments of package %s: %w", importPath, err)
	}
	var docs []Document
	seen := map[string]bool{}
	add := func(symbol, text string) {
		d := Document{ID: importPath, Source: "go/" + importPath, Title: "package " + pkg.Name, Text: text}
		if symbol != "" {
			d.ID, d.Title = importPath+"."+symbol, pkg.Name+"."+symbol
		}
		if strings.TrimSpace(text) != "" && !seen[d.ID] {
			seen[d.ID] = true
			docs = append(docs, d)
		}
	}
	values := func(list []*doc.Value) {
		for _, v := range list {
			addValue(v, add)
		}
	}
	funcs := func(receiver string, list []*doc.Func) {
		for _, f := range list {
			// A method promoted from an embedded type stands below that type too.
			if f.Level == 0 {
				add(receiver+f.Name, f.Doc)
			}
		}
	}
	add("", pkg.Doc)
	values(pkg.Consts)
	values(pkg.Vars)
	funcs("", pkg.Funcs)
	for _, t := range pkg.Types {
		add(t.Name, t.Doc)
		values(t.Consts)
		values(t.Vars)
		funcs("", t.Funcs)
		funcs(t.Name+".", t.Methods)
	}
	return docs, nil
}

// addValue gives the comment of a declaration to its first exported name, and the comments inside of a group to
// the names that they stand above.
func addValue(v *doc.Value, add func(symbol, text string)) {
	if i := slices.IndexFunc(v.Names, token.IsExported); i >= 0 && v.Doc != "" {
		add(v.Names[i], v.Doc)
	}
	if !v.Decl.Lparen.IsValid() {
		return
	}
	for _, spec := range v.Decl.Specs {
		value, ok := spec.(*ast.ValueSpec)
		if !ok || value.Doc == nil {
			continue
		}
		for _, name := range value.Names {
			if name.IsExported() {
				add(name.Name, value.Doc.Text())
				break
			}
		}
	}
}

// readBounded reads a file of at most maxFile bytes. A larger one is Corrupt.
func readBounded(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, lifecycle.Wrap(err, "look at %s", name)
	}
	if info.Size() > maxFile {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "%s has %d bytes; at most %d are read", name, info.Size(), maxFile)
	}
	source, err := fs.ReadFile(fsys, name)
	return source, lifecycle.Wrap(err, "read %s", name)
}
