package artifacts

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/refitml/refit/internal/lifecycle"
)

// Bounds of S3 and of this package.
const (
	minPartSize      = 5 << 20  // what S3 asks of every part but the last
	maxParts         = 10_000   // of one upload
	maxManifestBytes = 64 << 20 // a manifest larger than this is refused unread
	maxFiles         = 200_000  // of one artifact
)

// Config says where the artifacts are. Endpoint and Bucket must be given; the rest works as zero.
type Config struct {
	Endpoint  string // host:port, without a scheme
	AccessKey string // with SecretKey; both empty means the usual environment, file and instance credentials
	SecretKey string
	Bucket    string
	Prefix    string // put before every name, for example "refit/"; default none
	Region    string // default: asked from the server
	TLS       bool   // speak HTTPS

	Signer  ed25519.PrivateKey  // signs what is put; nil: nothing is signed
	Trusted []ed25519.PublicKey // of whom one must have signed what is read; none: nothing need be signed. Signer's own is trusted, too

	PartSize    int64             // bytes of one part of a large file, at least 5 MiB; default 16 MiB
	Concurrency int               // files or parts in flight at once, for the whole store; default 4
	Attempts    int               // tries of one request on network faults and 5xx, with growing pauses; default 4
	Transport   http.RoundTripper // default: minio-go's transport with its time-outs
	Logger      *slog.Logger      // default: nothing is logged
}

// Store is a place for artifacts in one bucket. It is safe for concurrent use.
type Store struct {
	client *minio.Core
	cfg    Config
	slots  chan struct{}
	log    *slog.Logger
}

// Open checks the settings and makes a store. It sends nothing: a server that is not there shows at the
// first use, as Unavailable.
func Open(cfg Config) (*Store, error) {
	if cfg.PartSize == 0 {
		cfg.PartSize = 16 << 20
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 4
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = 4
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Signer != nil && len(cfg.Trusted) > 0 {
		cfg.Trusted = append(slices.Clone(cfg.Trusted), cfg.Signer.Public().(ed25519.PublicKey))
	}
	if cfg.Prefix != "" && !strings.HasSuffix(cfg.Prefix, "/") {
		cfg.Prefix += "/"
	}
	var faults lifecycle.Problems
	if cfg.Endpoint == "" || strings.Contains(cfg.Endpoint, "://") {
		faults.Add("endpoint", fmt.Sprintf("%q", cfg.Endpoint), "give host:port without a scheme")
	}
	if cfg.Bucket == "" {
		faults.Add("bucket", "none", "name the bucket")
	}
	if strings.HasPrefix(cfg.Prefix, "/") {
		faults.Add("prefix", fmt.Sprintf("%q", cfg.Prefix), "begin without a slash")
	}
	if cfg.PartSize < minPartSize {
		faults.Add("part_size", fmt.Sprint(cfg.PartSize), "give at least %d bytes", minPartSize)
	}
	if cfg.Concurrency < 1 || cfg.Attempts < 1 {
		faults.Add("concurrency, attempts", fmt.Sprint(cfg.Concurrency, ", ", cfg.Attempts), "give at least 1")
	}
	if err := faults.Err("artifact store"); err != nil {
		return nil, err
	}
	options := &minio.Options{
		Creds:  credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""),
		Secure: cfg.TLS, Region: cfg.Region, Transport: cfg.Transport, MaxRetries: cfg.Attempts,
	}
	if cfg.AccessKey == "" && cfg.SecretKey == "" {
		options.Creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	client, err := minio.NewCore(cfg.Endpoint, options)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "artifact store at %s: %w", cfg.Endpoint, err)
	}
	return &Store{client: client, cfg: cfg, slots: make(chan struct{}, cfg.Concurrency), log: cfg.Logger}, nil
}

func (s *Store) blobKey(d lifecycle.Digest) string {
	return s.cfg.Prefix + "blobs/sha256/" + string(d[:2]) + "/" + string(d)
}

func (s *Store) kindPrefix(kind lifecycle.ArtifactKind) string {
	return s.cfg.Prefix + "artifacts/" + string(kind) + "/"
}

func (s *Store) manifestKey(ref lifecycle.ArtifactRef) string {
	return s.kindPrefix(ref.Kind) + string(ref.Digest) + ".json"
}

// EnsureBucket makes the bucket if it is not there. A person who may not make buckets makes it beforehand.
func (s *Store) EnsureBucket(ctx context.Context) error {
	there, err := s.client.BucketExists(ctx, s.cfg.Bucket)
	if err == nil && !there {
		// With object lock, so that anchors of ledgers cannot be deleted; a server without it makes a plain one.
		err = s.client.MakeBucket(ctx, s.cfg.Bucket, minio.MakeBucketOptions{Region: s.cfg.Region, ObjectLocking: true})
		if c := code(err); c == "NotImplemented" || c == "InvalidRequest" {
			err = s.client.MakeBucket(ctx, s.cfg.Bucket, minio.MakeBucketOptions{Region: s.cfg.Region})
		}
		if c := code(err); c == "BucketAlreadyOwnedByYou" {
			err = nil
		}
	}
	return fault(ctx, err, "make sure that bucket %s exists", s.cfg.Bucket)
}
