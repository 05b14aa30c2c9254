package artifacts

import (
	"context"
	"io"
	"slices"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/refitml/refit/internal/lifecycle"
)

// putParts uploads a large file in parts, going on with an unfinished upload of the same name if there is
// one. Another writer may finish, abort or overwrite that upload at any moment; then the blob is there, or it
// is tried again with an upload of its own.
func (s *Store) putParts(ctx context.Context, key string, c content, h hashed) error {
	uploadID, have, err := s.unfinished(ctx, key, h)
	if err != nil {
		return err
	}
	if uploadID != "" {
		s.log.InfoContext(ctx, "going on with an unfinished upload", "key", key, "parts_there", len(have), "parts", len(h.parts))
	}
	for try := 1; ; try++ {
		err = s.upload(ctx, key, uploadID, have, c, h)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if there, lookErr := s.blobThere(ctx, h.File); lookErr != nil || there {
			return lookErr
		}
		lost := slices.Contains([]string{"NoSuchUpload", "InvalidPart", "InvalidPartOrder"}, code(err))
		if !lost || try == 3 {
			return err
		}
		uploadID, have = "", nil
	}
}

func (s *Store) upload(ctx context.Context, key, uploadID string, have map[int]string, c content, h hashed) error {
	if uploadID == "" {
		var err error
		uploadID, err = s.client.NewMultipartUpload(ctx, s.cfg.Bucket, key, minio.PutObjectOptions{ContentType: "application/octet-stream"})
		if err != nil {
			return fault(ctx, err, "begin an upload")
		}
	}
	done := make([]minio.CompletePart, len(h.parts))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Concurrency)
	for i, part := range h.parts {
		number := i + 1
		if etag, ok := have[number]; ok {
			done[i] = minio.CompletePart{PartNumber: number, ETag: etag}
			continue
		}
		group.Go(func() error {
			if err := s.enter(groupCtx); err != nil {
				return err
			}
			defer s.leave()
			body := io.NewSectionReader(c, int64(i)*h.partSize, part.size)
			sent, err := s.client.PutObjectPart(groupCtx, s.cfg.Bucket, key, uploadID, number, body, part.size,
				minio.PutObjectPartOptions{Md5Base64: part.md5InRequests, Sha256Hex: part.sha256, DisableContentSha256: true})
			done[i] = minio.CompletePart{PartNumber: number, ETag: sent.ETag}
			return fault(groupCtx, err, "send part %d of %d", number, len(h.parts))
		})
	}
	if err := group.Wait(); err != nil {
		return err // the parts that arrived stay for the next try
	}
	var options minio.PutObjectOptions
	options.SetMatchETagExcept("*")
	_, err := s.client.CompleteMultipartUpload(ctx, s.cfg.Bucket, key, uploadID, done, options)
	err = fault(ctx, err, "complete an upload of %d parts", len(done))
	if lifecycle.Is(err, lifecycle.Conflict) {
		// Another writer of the same bytes was faster; ours is not needed, and failing to say so harms nobody.
		if abortErr := s.client.AbortMultipartUpload(ctx, s.cfg.Bucket, key, uploadID); abortErr != nil {
			s.log.WarnContext(ctx, "an upload that is not needed could not be aborted", "key", key, "error", abortErr)
		}
		return nil
	}
	return err
}

// unfinished finds the upload of a name that has most of the parts we would send, with the ETag of each.
// None gives "".
func (s *Store) unfinished(ctx context.Context, key string, h hashed) (string, map[int]string, error) {
	var best string
	var have map[int]string
	keyMarker, idMarker := "", ""
	for {
		page, err := s.client.ListMultipartUploads(ctx, s.cfg.Bucket, key, keyMarker, idMarker, "", 1000)
		if err != nil {
			return "", nil, fault(ctx, err, "list unfinished uploads")
		}
		for _, candidate := range page.Uploads {
			if candidate.Key != key {
				continue
			}
			parts, err := s.partsThere(ctx, key, candidate.UploadID, h)
			if err != nil {
				return "", nil, err
			}
			if best == "" || len(parts) > len(have) {
				best, have = candidate.UploadID, parts
			}
		}
		if !page.IsTruncated {
			return best, have, nil
		}
		keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

// partsThere gives the ETags of an upload's parts whose number, size and MD5 are those of our parts.
func (s *Store) partsThere(ctx context.Context, key, uploadID string, h hashed) (map[int]string, error) {
	have := map[int]string{}
	marker := 0
	for {
		page, err := s.client.ListObjectParts(ctx, s.cfg.Bucket, key, uploadID, marker, 1000)
		if code(err) == "NoSuchUpload" {
			return nil, nil // ended between the two questions
		}
		if err != nil {
			return nil, fault(ctx, err, "list the parts of an unfinished upload")
		}
		for _, part := range page.ObjectParts {
			if i := part.PartNumber - 1; i >= 0 && i < len(h.parts) && part.Size == h.parts[i].size && trimQuotes(part.ETag) == h.parts[i].md5 {
				have[part.PartNumber] = part.ETag
			}
		}
		if !page.IsTruncated {
			return have, nil
		}
		marker = page.NextPartNumberMarker
	}
}

func trimQuotes(etag string) string {
	if len(etag) > 1 && etag[0] == '"' && etag[len(etag)-1] == '"' {
		return etag[1 : len(etag)-1]
	}
	return etag
}
