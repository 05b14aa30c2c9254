package activities

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/form"
	"github.com/refitml/refit/internal/lifecycle"
)

// mostOfASuite bounds what is brought from S3; the form has bounds of its own.
var mostOfASuite = artifacts.Plain{Bytes: 600 << 20, Files: 1000}

// written reads a suite that people wrote, where a declaration points.
func (e Evaluation) written(ctx context.Context, from lifecycle.SuiteSource) (evaluation.Suite, error) {
	if from.Folder != "" {
		return e.suiteBelow(from.Folder)
	}
	dir, cleanUp, err := e.scratch("suite")
	if err != nil {
		return evaluation.Suite{}, err
	}
	defer cleanUp()
	if err := e.Store.GetPlain(ctx, from.S3, string(dir), mostOfASuite); err != nil {
		return evaluation.Suite{}, err
	}
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		return evaluation.Suite{}, err
	}
	defer root.Close()
	return form.Read(root.FS(), form.File)
}

// suiteBelow reads a folder below one of the roots, held by os.Root so that no path and no link leads out of it.
func (e Evaluation) suiteBelow(path string) (evaluation.Suite, error) {
	for _, top := range e.Roots {
		below, err := filepath.Rel(top, path)
		if err != nil || !filepath.IsLocal(below) {
			continue
		}
		root, err := os.OpenRoot(top)
		if err != nil {
			return evaluation.Suite{}, lifecycle.Errorf(lifecycle.Unavailable, "open the data root: %w", err)
		}
		defer root.Close()
		folder, err := fs.Sub(root.FS(), filepath.ToSlash(below))
		if err != nil {
			return evaluation.Suite{}, lifecycle.Errorf(lifecycle.Invalid, "suite.folder: %w", err)
		}
		return form.Read(folder, form.File)
	}
	return evaluation.Suite{}, lifecycle.Errorf(lifecycle.Refused, "suite.folder: %s lies below none of the worker's data_roots %v", path, e.Roots)
}
