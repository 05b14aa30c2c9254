package artifacts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/refitml/refit/internal/lifecycle"
)

// Manifest reads and verifies the manifest of an artifact: its digest, form and kind, and, where keys are trusted, its
// signature. An artifact that is not there is NotFound; a manifest that is not what its name says is Corrupt; one that
// nobody signed whom this store trusts is Refused.
func (s *Store) Manifest(ctx context.Context, ref lifecycle.ArtifactRef) (lifecycle.Manifest, error) {
	m, err := s.unsigned(ctx, ref)
	if err != nil {
		return lifecycle.Manifest{}, err
	}
	if err := s.signed(ctx, ref, m); err != nil {
		return lifecycle.Manifest{}, err
	}
	return m, nil
}

// unsigned is Manifest without a look at the signature.
func (s *Store) unsigned(ctx context.Context, ref lifecycle.ArtifactRef) (lifecycle.Manifest, error) {
	if err := checkRef(ref); err != nil {
		return lifecycle.Manifest{}, err
	}
	body, err := s.readObject(ctx, s.manifestKey(ref), maxManifestBytes)
	if err != nil {
		return lifecycle.Manifest{}, lifecycle.Wrap(err, "read the manifest of %s %s", ref.Kind, ref.Digest.Short())
	}
	return parseManifest(ref, body)
}

// parseManifest trusts nothing: the bytes must have the reference's digest and mean a manifest of its kind.
func parseManifest(ref lifecycle.ArtifactRef, body []byte) (lifecycle.Manifest, error) {
	name := "manifest of " + string(ref.Kind) + " " + ref.Digest.Short()
	if got := lifecycle.DigestOf(body); got != ref.Digest {
		return lifecycle.Manifest{}, corrupt(name, "its digest is %s", got)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var m lifecycle.Manifest
	if err := decoder.Decode(&m); err != nil {
		return lifecycle.Manifest{}, corrupt(name, "decode: %w", err)
	}
	if err := m.Check(); err != nil {
		return lifecycle.Manifest{}, corrupt(name, "%w", err)
	}
	if m.Kind != ref.Kind {
		return lifecycle.Manifest{}, corrupt(name, "it is of kind %s", m.Kind)
	}
	return m, nil
}

// Exists says whether an artifact's manifest is there. It reads no file.
func (s *Store) Exists(ctx context.Context, ref lifecycle.ArtifactRef) (bool, error) {
	if err := checkRef(ref); err != nil {
		return false, err
	}
	_, err := s.client.StatObject(ctx, s.cfg.Bucket, s.manifestKey(ref), minio.StatObjectOptions{})
	err = fault(ctx, err, "look for %s %s", ref.Kind, ref.Digest.Short())
	if lifecycle.Is(err, lifecycle.NotFound) && code(err) != minio.NoSuchBucket {
		return false, nil
	}
	return err == nil, err
}

// List gives every artifact of a kind, ordered by digest. It ends after the first error.
func (s *Store) List(ctx context.Context, kind lifecycle.ArtifactKind) iter.Seq2[lifecycle.ArtifactRef, error] {
	return func(yield func(lifecycle.ArtifactRef, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		prefix := s.kindPrefix(kind)
		for object := range s.client.ListObjectsIter(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if object.Err != nil {
				yield(lifecycle.ArtifactRef{}, fault(ctx, object.Err, "list artifacts of kind %s", kind))
				return
			}
			digest := lifecycle.Digest(strings.TrimSuffix(strings.TrimPrefix(object.Key, prefix), ".json"))
			if digest.Valid() && !yield(lifecycle.ArtifactRef{Kind: kind, Digest: digest}, nil) {
				return
			}
		}
	}
}

// ReadFile gives one verified file of an artifact, at most limit bytes: for reports and cards. A path that
// the artifact does not hold is NotFound; a larger file is Invalid and not read.
func (s *Store) ReadFile(ctx context.Context, ref lifecycle.ArtifactRef, path string, limit int64) ([]byte, error) {
	m, err := s.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if f.Path != path {
			continue
		}
		if f.Size > limit {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "%s of %s %s has %d bytes, more than the %d allowed here",
				path, ref.Kind, ref.Digest.Short(), f.Size, limit)
		}
		body, err := s.readObject(ctx, s.blobKey(f.SHA256), f.Size)
		if lifecycle.Is(err, lifecycle.NotFound) {
			return nil, corrupt(path, "its bytes are gone: %w", err)
		}
		if err != nil {
			return nil, lifecycle.Wrap(err, "read %s of %s %s", path, ref.Kind, ref.Digest.Short())
		}
		if got := lifecycle.DigestOf(body); got != f.SHA256 {
			return nil, corrupt(path, "%d bytes with digest %s instead of %s", len(body), got, f.SHA256)
		}
		return body, nil
	}
	return nil, lifecycle.Errorf(lifecycle.NotFound, "%s %s holds no file %q", ref.Kind, ref.Digest.Short(), path)
}

// Verify reads every byte of an artifact from the store and names the first damaged file as Corrupt.
func (s *Store) Verify(ctx context.Context, ref lifecycle.ArtifactRef) error {
	m, err := s.Manifest(ctx, ref)
	if err != nil {
		return err
	}
	return s.eachFile(ctx, m, func(ctx context.Context, f lifecycle.File) error {
		return s.stream(ctx, f, io.Discard)
	})
}

// readObject reads a whole object of at most limit bytes; more is Corrupt.
func (s *Store) readObject(ctx context.Context, key string, limit int64) ([]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	body, _, _, err := s.client.GetObject(ctx, s.cfg.Bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, fault(ctx, err, "get %s", key)
	}
	all, err := io.ReadAll(io.LimitReader(body, limit+1))
	err = errors.Join(err, body.Close())
	if err != nil {
		return nil, fault(ctx, err, "read %s", key)
	}
	if int64(len(all)) > limit {
		return nil, corrupt(key, "more than %d bytes", limit)
	}
	return all, nil
}

func checkRef(ref lifecycle.ArtifactRef) error {
	for _, kind := range lifecycle.ArtifactKinds() {
		if kind == ref.Kind && ref.Digest.Valid() {
			return nil
		}
	}
	return lifecycle.Errorf(lifecycle.Invalid, "artifact reference %q %q: give a kind of %v and a SHA-256 in hexadecimal",
		ref.Kind, ref.Digest, lifecycle.ArtifactKinds())
}
