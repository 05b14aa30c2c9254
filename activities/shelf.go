package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// Shelf is where steps get artifacts and put them: S3, the cache on this machine, and the record.
type Shelf struct {
	Registry *registry.Registry
	Store    *artifacts.Store
	Cache    *artifacts.Cache
	Scratch  string // folder for trees on their way to S3; default the system's for temporary files
}

// keep writes a tree, stores it as an artifact and records it with what the given artifact says beside
// digest, size and files. The same content is the same artifact, so keeping it again changes nothing.
func (s Shelf) keep(ctx context.Context, a lifecycle.Artifact, write func(tree) error) (lifecycle.ArtifactRef, error) {
	dir, cleanUp, err := s.scratch(string(a.Kind))
	if err != nil {
		return lifecycle.ArtifactRef{}, err
	}
	defer cleanUp()
	if err := write(dir); err != nil {
		return lifecycle.ArtifactRef{}, err
	}
	return s.keepDir(ctx, a, string(dir))
}

// scratch makes a folder for a tree on its way to S3.
func (s Shelf) scratch(what string) (tree, func(), error) {
	dir, err := os.MkdirTemp(s.Scratch, what+"-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for a %s: %w", what, err)
	}
	return tree(dir), func() { os.RemoveAll(dir) }, nil
}

// keepDir is keep for a tree that is there already.
func (s Shelf) keepDir(ctx context.Context, a lifecycle.Artifact, dir string) (lifecycle.ArtifactRef, error) {
	ref, manifest, err := s.Store.Put(ctx, a.Kind, dir)
	if err != nil {
		return ref, lifecycle.Wrap(err, "store a %s of %s", a.Kind, a.Service)
	}
	a.ArtifactRef, a.Size, a.Files = ref, manifest.Size(), len(manifest.Files)
	return ref, s.Registry.AddArtifact(ctx, a)
}

// open gives an artifact of a kind as a verified tree on this machine.
func (s Shelf) open(ctx context.Context, kind lifecycle.ArtifactKind, digest lifecycle.Digest) (*os.Root, error) {
	dir, err := s.Cache.Dir(ctx, lifecycle.ArtifactRef{Kind: kind, Digest: digest})
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	return root, lifecycle.Wrap(err, "open %s %s", kind, digest.Short())
}

// tree is a folder that rooms write their files into.
type tree string

// Create makes a file and the folders above it.
func (t tree) Create(name string) (io.WriteCloser, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return nil, lifecycle.Errorf(lifecycle.Internal, "file %q would leave its tree", name)
	}
	path := filepath.Join(string(t), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// write makes a whole file.
func (t tree) write(name string, content []byte) (err error) {
	file, err := t.Create(name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.Write(content)
	return err
}
