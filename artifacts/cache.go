package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/refitml/refit/internal/lifecycle"
)

// Cache keeps artifacts in a folder on the local disk. Any number of processes may share the folder; of
// those that ask for one artifact at the same time, one downloads and the others wait. Callers must not write
// below the folders it gives. It serves what it has also while the store is away.
type Cache struct {
	store *Store
	root  string
	log   *slog.Logger
}

const lockPoll = 25 * time.Millisecond // between tries for a lock that another process holds

// NewCache makes a cache below root, which is created if it is not there.
func NewCache(store *Store, root string) (*Cache, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("artifact cache: %w", err)
	}
	for _, sub := range []string{"", "locks", "manifests", "trees"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
			return nil, fmt.Errorf("artifact cache: %w", err)
		}
	}
	return &Cache{store: store, root: root, log: store.log}, nil
}

// Dir gives the folder that holds an artifact, downloading it if need be. Every byte is verified on every
// call, so ask once per load and not per request. A damaged copy is never given out: it is logged with the
// file's name, removed, and brought anew; if that fails the error says so, and there is no folder.
func (c *Cache) Dir(ctx context.Context, ref lifecycle.ArtifactRef) (string, error) {
	if err := checkRef(ref); err != nil {
		return "", err
	}
	name := string(ref.Kind) + "-" + string(ref.Digest)
	unlock, err := lockFile(ctx, filepath.Join(c.root, "locks", name))
	if err != nil {
		return "", lifecycle.Wrap(err, "wait for the cache's lock on %s %s", ref.Kind, ref.Digest.Short())
	}
	defer unlock()
	dir := filepath.Join(c.root, "trees", name)
	m, err := c.manifest(ctx, ref, filepath.Join(c.root, "manifests", name+".json"))
	if err != nil {
		return "", err
	}
	switch err := VerifyDir(ctx, m, dir); {
	case err == nil:
		return dir, nil
	case ctx.Err() != nil:
		return "", err
	case errors.Is(err, fs.ErrNotExist):
	case lifecycle.Is(err, lifecycle.Corrupt), lifecycle.Is(err, lifecycle.Conflict):
		c.log.ErrorContext(ctx, "a cached artifact is damaged and is fetched again",
			"kind", ref.Kind, "digest", ref.Digest, "error", err)
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("remove the damaged copy of %s %s: %w", ref.Kind, ref.Digest.Short(), err)
		}
	default:
		return "", fmt.Errorf("verify the cached %s %s: %w", ref.Kind, ref.Digest.Short(), err)
	}
	if err := c.removePartial(name); err != nil {
		return "", err
	}
	if err := c.store.download(ctx, m, dir); err != nil {
		return "", lifecycle.Wrap(err, "bring %s %s to the cache", ref.Kind, ref.Digest.Short())
	}
	return dir, nil
}

// manifest gives the cached manifest if it is sound, else the store's, and keeps that.
func (c *Cache) manifest(ctx context.Context, ref lifecycle.ArtifactRef, path string) (lifecycle.Manifest, error) {
	if body, err := os.ReadFile(path); err == nil {
		m, err := parseManifest(ref, body)
		if err == nil {
			return m, c.signed(ctx, ref, m)
		}
		c.log.ErrorContext(ctx, "a cached manifest is damaged and is fetched again", "digest", ref.Digest, "error", err)
	}
	m, err := c.store.unsigned(ctx, ref)
	if err == nil {
		err = c.signed(ctx, ref, m)
	}
	if err != nil {
		return m, err
	}
	if err := writeAtomic(path, m.Canonical()); err != nil {
		return m, fmt.Errorf("keep the manifest of %s %s: %w", ref.Kind, ref.Digest.Short(), err)
	}
	return m, nil
}

// removePartial clears what a killed download of the artifact left. The caller holds its lock.
func (c *Cache) removePartial(name string) error {
	left, err := filepath.Glob(filepath.Join(c.root, "trees", "."+name+".partial-*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return fmt.Errorf("clear an interrupted download: %w", err)
	}
	return nil
}

// lockFile takes the one lock on a path, over all processes; the kernel frees it when the holder dies.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // closing frees the lock; nothing was written
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), file.Close())
		case <-ticker.C:
		}
	}
}

func writeAtomic(path string, body []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".writing-")
	if err != nil {
		return err
	}
	_, err = temp.Write(body)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return syncFolder(filepath.Dir(path))
}
