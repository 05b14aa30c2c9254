package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/lifecycle"
)

// read gives the documents of all sources, one after another. That every source is there is found out before the
// first document is read.
func (d Datasets) read(ctx context.Context, sources []lifecycle.Source) (iter.Seq2[corpus.Document, error], error) {
	var parts []iter.Seq2[corpus.Document, error]
	for i, source := range sources {
		opened, err := d.source(ctx, source)
		if err != nil {
			return nil, lifecycle.Wrap(err, "sources[%d]", i)
		}
		parts = append(parts, opened...)
	}
	return func(yield func(corpus.Document, error) bool) {
		for _, part := range parts {
			for doc, err := range part {
				if !yield(doc, err) {
					return
				}
			}
		}
	}, nil
}

func (d Datasets) source(ctx context.Context, source lifecycle.Source) ([]iter.Seq2[corpus.Document, error], error) {
	switch source.Kind {
	case "go-std":
		root, err := d.goEnv(ctx, d.GoRoot, "GOROOT")
		if err != nil {
			return nil, err
		}
		from := filepath.Join(root, "src")
		if err := isFolder(from); err != nil {
			return nil, err
		}
		docs := corpus.GoPackages(os.DirFS(from), corpus.GoOptions{Skip: []string{"cmd"}})
		return []iter.Seq2[corpus.Document, error]{docs}, nil
	case "go-modules":
		return d.modules(ctx, source.Modules)
	case "folder":
		return d.folder(source.Path)
	default:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "kind: %q; give go-std, go-modules or folder", source.Kind)
	}
}

// modules reads Go modules from the module cache. A path without @version means the highest version there.
func (d Datasets) modules(ctx context.Context, paths []string) ([]iter.Seq2[corpus.Document, error], error) {
	cache, err := d.goEnv(ctx, d.ModuleCache, "GOMODCACHE")
	if err != nil {
		return nil, err
	}
	var parts []iter.Seq2[corpus.Document, error]
	for _, path := range paths {
		path, version, _ := strings.Cut(path, "@")
		dir, err := moduleDir(cache, path, version)
		if err != nil {
			return nil, err
		}
		parts = append(parts, corpus.GoPackages(os.DirFS(dir), corpus.GoOptions{Path: path}))
	}
	return parts, nil
}

func moduleDir(cache, path, version string) (string, error) {
	escaped, err := module.EscapePath(path)
	if err != nil {
		return "", lifecycle.Errorf(lifecycle.Invalid, "modules: %w", err)
	}
	parent, name := filepath.Split(filepath.Join(cache, filepath.FromSlash(escaped)))
	entries, err := os.ReadDir(parent)
	if err != nil && !os.IsNotExist(err) {
		return "", lifecycle.Errorf(lifecycle.Unavailable, "read the module cache: %w", err)
	}
	best := ""
	for _, entry := range entries {
		found, ok := strings.CutPrefix(entry.Name(), name+"@")
		if !ok || !entry.IsDir() {
			continue
		}
		found, err := module.UnescapeVersion(found)
		if err != nil || version != "" && found != version || !semver.IsValid(found) {
			continue
		}
		if best == "" || semver.Compare(found, best) > 0 {
			best = found
		}
	}
	if best == "" {
		return "", lifecycle.Errorf(lifecycle.Invalid, "modules: %s is not in the worker's module cache; run `go mod download` for it there", strings.TrimSuffix(path+"@"+version, "@"))
	}
	escapedVersion, err := module.EscapeVersion(best)
	return filepath.Join(parent, name+"@"+escapedVersion), err
}

// folder reads text below one of the roots, held by os.Root so that no path and no link leads out of it. IDs are
// relative to the root: they are the same wherever it lies.
func (d Datasets) folder(path string) ([]iter.Seq2[corpus.Document, error], error) {
	for _, root := range d.Roots {
		below, err := filepath.Rel(root, path)
		if err != nil || !filepath.IsLocal(below) {
			continue
		}
		opened, err := os.OpenRoot(root)
		if err != nil {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "open the data root: %w", err)
		}
		docs := func(yield func(corpus.Document, error) bool) {
			defer opened.Close()
			part, err := fs.Sub(opened.FS(), filepath.ToSlash(below))
			if err == nil {
				_, err = fs.Stat(part, ".")
			}
			if err != nil {
				yield(corpus.Document{}, lifecycle.Errorf(lifecycle.Invalid, "path: %w; give a folder below one of the worker's data_roots", err))
				return
			}
			name := filepath.ToSlash(below)
			if name == "." {
				name = ""
			}
			for doc, err := range corpus.Folder(part, corpus.FolderOptions{Name: name}) {
				if !yield(doc, err) {
					return
				}
			}
		}
		return []iter.Seq2[corpus.Document, error]{docs}, nil
	}
	return nil, lifecycle.Errorf(lifecycle.Refused, "path: %s lies below none of the worker's data_roots %v", path, d.Roots)
}

// goEnv gives a setting, or what the go command says where it is not set.
func (d Datasets) goEnv(ctx context.Context, set, name string) (string, error) {
	if set != "" {
		return set, nil
	}
	var values map[string]string
	out, err := exec.CommandContext(ctx, "go", "env", "-json", name).Output()
	if err == nil {
		err = json.Unmarshal(out, &values)
	}
	if err != nil || values[name] == "" {
		return "", lifecycle.Errorf(lifecycle.Invalid, "ask the go command for %s: %v; sources of Go need Go on the worker", name, err)
	}
	return values[name], nil
}

func isFolder(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", path)
	}
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "find the source: %w", err)
	}
	return nil
}
