package artifacts

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/refitml/refit/internal/lifecycle"
)

// Put stores the tree below dir and gives its reference. Empty folders, modes and times are no part of an
// artifact. Storing equal content again gives the same reference and sends nothing but questions. Links and
// special files are Invalid, as is a tree without a file. After an error nothing new is visible; putting again
// goes on from what was sent.
func (s *Store) Put(ctx context.Context, kind lifecycle.ArtifactKind, dir string) (lifecycle.ArtifactRef, lifecycle.Manifest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return lifecycle.ArtifactRef{}, lifecycle.Manifest{}, lifecycle.Errorf(lifecycle.Invalid, "put %s: %w", kind, err)
	}
	defer root.Close()
	return s.put(ctx, kind, folder{root})
}

// PutFiles stores a small tree held in memory, by path; otherwise it is Put.
func (s *Store) PutFiles(ctx context.Context, kind lifecycle.ArtifactKind, files map[string][]byte) (lifecycle.ArtifactRef, lifecycle.Manifest, error) {
	return s.put(ctx, kind, inMemory(files))
}

func (s *Store) put(ctx context.Context, kind lifecycle.ArtifactKind, from source) (lifecycle.ArtifactRef, lifecycle.Manifest, error) {
	ref := lifecycle.ArtifactRef{Kind: kind}
	paths, err := from.paths()
	if err != nil {
		return ref, lifecycle.Manifest{}, lifecycle.Wrap(err, "list the files of a %s", kind)
	}
	files := make([]lifecycle.File, len(paths))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Concurrency)
	for i, path := range paths {
		group.Go(func() error {
			var err error
			files[i], err = s.putFile(groupCtx, from, path)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return ref, lifecycle.Manifest{}, lifecycle.Wrap(err, "put %s", kind)
	}
	manifest, err := lifecycle.NewManifest(kind, files)
	if err != nil {
		return ref, lifecycle.Manifest{}, err
	}
	ref.Digest = manifest.Digest()
	if err := s.sign(ctx, ref, manifest); err != nil { // before anybody can see the artifact
		return ref, manifest, err
	}
	return ref, manifest, s.putManifest(ctx, ref, manifest)
}

// putManifest makes the artifact visible.
func (s *Store) putManifest(ctx context.Context, ref lifecycle.ArtifactRef, manifest lifecycle.Manifest) error {
	body := manifest.Canonical()
	err := s.create(ctx, s.manifestKey(ref), bytes.NewReader(body), digestsOf(body), "application/json")
	if lifecycle.Is(err, lifecycle.Conflict) {
		// The same artifact is there already; reading it tells a twin from damage.
		_, err = s.Manifest(ctx, ref)
	}
	return lifecycle.Wrap(err, "write the manifest of %s %s", ref.Kind, ref.Digest.Short())
}

func (s *Store) putFile(ctx context.Context, from source, path string) (lifecycle.File, error) {
	c, err := from.open(path)
	if err != nil {
		return lifecycle.File{}, fmt.Errorf("open %s: %w", path, err)
	}
	defer c.Close()
	h, err := hashParts(path, c, s.cfg.PartSize)
	if err != nil {
		return lifecycle.File{}, err
	}
	key := s.blobKey(h.SHA256)
	there, err := s.blobThere(ctx, h.File)
	switch {
	case err != nil || there:
		return h.File, err
	case len(h.parts) == 1:
		err = s.create(ctx, key, io.NewSectionReader(c, 0, h.Size), h.parts[0], "application/octet-stream")
		if lifecycle.Is(err, lifecycle.Conflict) {
			err = nil // another writer of the same bytes was faster
		}
	default:
		err = s.putParts(ctx, key, c, h)
	}
	return h.File, lifecycle.Wrap(err, "store %s", path)
}

// blobThere says whether a file's bytes are stored already. Another size under its name is damage.
func (s *Store) blobThere(ctx context.Context, f lifecycle.File) (bool, error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave()
	info, err := s.client.StatObject(ctx, s.cfg.Bucket, s.blobKey(f.SHA256), minio.StatObjectOptions{})
	if err != nil {
		err = fault(ctx, err, "look for the bytes of %s", f.Path)
		if lifecycle.Is(err, lifecycle.NotFound) && code(err) != minio.NoSuchBucket {
			return false, nil
		}
		return false, err
	}
	if info.Size != f.Size {
		return false, corrupt(f.Path, "%d bytes are stored under its digest instead of %d", info.Size, f.Size)
	}
	return true, nil
}

// create writes one object unless its name is taken: then the error is Conflict.
func (s *Store) create(ctx context.Context, key string, body io.Reader, sum sums, contentType string) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	// With the digest of the whole body in the signed header, the server itself refuses other bytes.
	options := minio.PutObjectOptions{ContentType: contentType, DisableContentSha256: true}
	options.SetMatchETagExcept("*")
	_, err := s.client.PutObject(ctx, s.cfg.Bucket, key, body, sum.size, sum.md5InRequests, sum.sha256, options)
	return fault(ctx, err, "create %s", key)
}

// enter waits for one of the store's transfers to be free; leave frees it.
func (s *Store) enter(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Store) leave() { <-s.slots }

func digestsOf(b []byte) sums {
	m, d := md5.New(), sha256.New()
	m.Write(b)
	d.Write(b)
	return sumsOf(int64(len(b)), m, d)
}
