package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/refitml/refit/internal/lifecycle"
)

const rangeTries = 3 // of one ranged read that breaks off in the middle

// Get brings an artifact to the folder dir, whose parent must exist. Files are read-only. The folder appears
// whole and verified or not at all. If it is there already, it is verified instead: the same artifact is kept
// and nothing is read but its manifest; a damaged file is Corrupt; a folder with anything else in it is Conflict.
func (s *Store) Get(ctx context.Context, ref lifecycle.ArtifactRef, dir string) (lifecycle.Manifest, error) {
	m, err := s.Manifest(ctx, ref)
	if err != nil {
		return m, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return m, lifecycle.Wrap(VerifyDir(ctx, m, dir), "%s %s in %s", ref.Kind, ref.Digest.Short(), dir)
	}
	return m, lifecycle.Wrap(s.download(ctx, m, dir), "get %s %s", ref.Kind, ref.Digest.Short())
}

func (s *Store) download(ctx context.Context, m lifecycle.Manifest, dir string) (err error) {
	parent, name := filepath.Split(filepath.Clean(dir))
	if parent == "" {
		parent = "."
	}
	temp, err := os.MkdirTemp(parent, "."+name+".partial-")
	if err != nil {
		return fmt.Errorf("make a folder to download into: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	root, err := os.OpenRoot(temp)
	if err != nil {
		return fmt.Errorf("open the folder to download into: %w", err)
	}
	defer root.Close()
	err = s.eachFile(ctx, m, func(ctx context.Context, f lifecycle.File) error { return s.fetch(ctx, root, f) })
	if err != nil {
		return err
	}
	if err := syncFolders(temp); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		// Somebody else may have brought the same artifact meanwhile.
		if verifyErr := VerifyDir(ctx, m, dir); verifyErr != nil {
			return fmt.Errorf("rename into place: %w", err)
		}
		return os.RemoveAll(temp)
	}
	return syncFolder(parent)
}

// eachFile runs do for every file of a manifest, several at once, and gives the first error.
func (s *Store) eachFile(ctx context.Context, m lifecycle.Manifest, do func(context.Context, lifecycle.File) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Concurrency)
	for _, f := range m.Files {
		group.Go(func() error { return do(groupCtx, f) })
	}
	return group.Wait()
}

// fetch writes one file below root, verified, synced and read-only.
func (s *Store) fetch(ctx context.Context, root *os.Root, f lifecycle.File) (err error) {
	if err := root.MkdirAll(filepath.Dir(filepath.FromSlash(f.Path)), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", f.Path, err)
	}
	file, err := root.OpenFile(filepath.FromSlash(f.Path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("create %s: %w", f.Path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if f.Size > s.cfg.PartSize {
		err = s.fetchRanges(ctx, file, f)
	} else {
		err = s.stream(ctx, f, file)
	}
	if err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", f.Path, err)
	}
	return nil
}

// stream reads one file from the store in one piece into w and holds it against its digest.
func (s *Store) stream(ctx context.Context, f lifecycle.File, w io.Writer) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	body, _, _, err := s.client.GetObject(ctx, s.cfg.Bucket, s.blobKey(f.SHA256), minio.GetObjectOptions{})
	if err != nil {
		return s.bytesGone(fault(ctx, err, "get %s", f.Path), f)
	}
	defer body.Close()
	whole := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, whole), io.LimitReader(body, f.Size+1))
	if err != nil {
		return fault(ctx, err, "read %s", f.Path)
	}
	return checkFile(f, n, whole.Sum(nil))
}

// fetchRanges reads a large file in several ranges at once, then reads it back from the disk to verify it.
func (s *Store) fetchRanges(ctx context.Context, file *os.File, f lifecycle.File) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Concurrency)
	for offset := int64(0); offset < f.Size; offset += s.cfg.PartSize {
		group.Go(func() error {
			return s.fetchRange(groupCtx, file, f, offset, min(s.cfg.PartSize, f.Size-offset))
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	whole := sha256.New()
	n, err := io.Copy(whole, io.NewSectionReader(file, 0, f.Size))
	if err != nil {
		return fmt.Errorf("read %s back: %w", f.Path, err)
	}
	return checkFile(f, n, whole.Sum(nil))
}

func (s *Store) fetchRange(ctx context.Context, file *os.File, f lifecycle.File, offset, length int64) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	for try := 1; ; try++ {
		n, err := s.copyRange(ctx, io.NewOffsetWriter(file, offset), f, offset, length)
		if err == nil && n != length {
			err = lifecycle.Errorf(lifecycle.Unavailable, "%d bytes of %d came", n, length)
		}
		if err == nil || ctx.Err() != nil || !lifecycle.Is(err, lifecycle.Unavailable) || try == rangeTries {
			return s.bytesGone(fault(ctx, err, "get bytes %d to %d of %s", offset, offset+length-1, f.Path), f)
		}
	}
}

func (s *Store) copyRange(ctx context.Context, w io.Writer, f lifecycle.File, offset, length int64) (int64, error) {
	var options minio.GetObjectOptions
	if err := options.SetRange(offset, offset+length-1); err != nil {
		return 0, err
	}
	body, _, _, err := s.client.GetObject(ctx, s.cfg.Bucket, s.blobKey(f.SHA256), options)
	if code(err) == "InvalidRange" {
		return 0, corrupt(f.Path, "it is shorter than %d bytes: %w", f.Size, err)
	}
	if err != nil {
		return 0, fault(ctx, err, "ask")
	}
	defer body.Close()
	n, err := io.Copy(w, io.LimitReader(body, length))
	return n, fault(ctx, err, "read")
}

// bytesGone tells a blob that a manifest names but the store lacks from an artifact that never was.
func (s *Store) bytesGone(err error, f lifecycle.File) error {
	if lifecycle.Is(err, lifecycle.NotFound) {
		return corrupt(f.Path, "its bytes are gone: %w", err)
	}
	return err
}

func checkFile(f lifecycle.File, size int64, sum []byte) error {
	if got := lifecycle.Digest(hex.EncodeToString(sum)); size != f.Size || got != f.SHA256 {
		return corrupt(f.Path, "%d bytes with digest %s instead of %d with %s", size, got, f.Size, f.SHA256)
	}
	return nil
}

// VerifyDir holds a folder against a manifest. A file that is missing, shorter, longer or different is
// Corrupt and named; a file or link that the manifest does not know is Conflict.
func VerifyDir(ctx context.Context, m lifecycle.Manifest, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer root.Close()
	known := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		known[f.Path] = true
		if err := verifyOne(ctx, root, f); err != nil {
			return err
		}
	}
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || known[path] {
			return err
		}
		return lifecycle.Errorf(lifecycle.Conflict, "%s is no part of the artifact", path)
	})
}

func verifyOne(ctx context.Context, root *os.Root, f lifecycle.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := root.Open(filepath.FromSlash(f.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return corrupt(f.Path, "it is missing")
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", f.Path, err)
	}
	defer file.Close()
	whole := sha256.New()
	n, err := io.Copy(whole, io.LimitReader(file, f.Size+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Path, err)
	}
	return checkFile(f, n, whole.Sum(nil))
}

func syncFolders(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return syncFolder(path)
	})
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
