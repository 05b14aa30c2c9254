package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/refitml/refit/internal/lifecycle"
)

// Plain bounds what GetPlain brings.
type Plain struct {
	Bytes int64 // of all files
	Files int
}

// GetPlain brings the objects below a prefix to the empty folder dir: files that people put there, which have no manifest
// and no digest to hold them against. The prefix is a path below the store's own; names that would leave the folder, more
// files or more bytes than allowed are Invalid, and a prefix with no object is NotFound.
func (s *Store) GetPlain(ctx context.Context, prefix, dir string, most Plain) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the folder for %s: %w", prefix, err)
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	whole := s.cfg.Prefix + strings.TrimSuffix(prefix, "/") + "/"
	files, left := 0, most.Bytes
	for object := range s.client.ListObjectsIter(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: whole, Recursive: true}) {
		if object.Err != nil {
			return fault(ctx, object.Err, "list %s", prefix)
		}
		name := strings.TrimPrefix(object.Key, whole)
		if name == "" || strings.HasSuffix(name, "/") {
			continue // how some tools mark folders
		}
		if files++; files > most.Files {
			return lifecycle.Errorf(lifecycle.Invalid, "%s holds over %d objects", prefix, most.Files)
		}
		n, err := s.getPlain(ctx, object.Key, root, filepath.FromSlash(name), left)
		if err != nil {
			return lifecycle.Wrap(err, "get %s", object.Key)
		}
		left -= n
	}
	if files == 0 {
		return lifecycle.Errorf(lifecycle.NotFound, "there is no object below %s in bucket %s", whole, s.cfg.Bucket)
	}
	return nil
}

func (s *Store) getPlain(ctx context.Context, key string, root *os.Root, name string, limit int64) (n int64, err error) {
	if !filepath.IsLocal(name) {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "the name leads out of its folder")
	}
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.leave()
	body, _, _, err := s.client.GetObject(ctx, s.cfg.Bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return 0, fault(ctx, err, "open it")
	}
	defer body.Close()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "make its folder: %w", err)
	}
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "create it: %w", err)
	}
	n, err = io.Copy(file, io.LimitReader(body, limit+1))
	err = errors.Join(err, file.Close())
	if err == nil && n > limit {
		return n, lifecycle.Errorf(lifecycle.Invalid, "it and what was read before hold too many bytes")
	}
	return n, fault(ctx, err, "read it")
}
