package objects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// Config describes the server.
type Config struct {
	Dir       string // objects; absolute, made if missing
	Versions  string // their older versions; absolute, not below Dir
	Address   string // host:port
	AccessKey string
	SecretKey string
	Bucket    string // made if missing, with versioning and object lock
}

// Server is a running S3 server.
type Server struct {
	stop context.CancelFunc
	done chan error
}

// Start starts the server and waits until it answers and the bucket is there.
func Start(ctx context.Context, c Config) (*Server, error) {
	for _, dir := range []string{c.Dir, c.Versions} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create folder of objects: %w", err)
		}
	}
	var attributes meta.XattrMeta
	if err := attributes.Test(c.Dir); err != nil {
		return nil, fmt.Errorf("the file system under %s has no extended attributes, which objects need: give another folder: %w", c.Dir, err)
	}
	backend, err := posix.New(c.Dir, attributes, posix.PosixOpts{VersioningDir: c.Versions})
	if err != nil {
		return nil, fmt.Errorf("open folder of objects: %w", err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{stop: stop, done: make(chan error, 1)}
	go func() {
		s.done <- embedgw.RunVersityGW(life, backend, &embedgw.Config{
			RootUserAccess: c.AccessKey, RootUserSecret: c.SecretKey, Ports: []string{c.Address},
			MaxConnections: 1024, MaxRequests: 512, MultipartMaxParts: 10000, KeepAlive: true, Quiet: true,
		})
	}()
	if err := s.awaitBucket(ctx, c); err != nil {
		stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) awaitBucket(ctx context.Context, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := minio.New(c.Address, &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")})
	if err != nil {
		return fmt.Errorf("make S3 client: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		there, err := client.BucketExists(ctx, c.Bucket)
		if err == nil && !there {
			err = client.MakeBucket(ctx, c.Bucket, minio.MakeBucketOptions{ObjectLocking: true})
		}
		if err == nil {
			return nil
		}
		select {
		case ended := <-s.done:
			s.done <- ended
			return fmt.Errorf("S3 server ended: %w", ended)
		case <-ctx.Done():
			return fmt.Errorf("wait for S3: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// Done yields once, when the server ended by itself or was stopped.
func (s *Server) Done() <-chan error { return s.done }

// Stop ends the server and waits until requests in flight are done.
func (s *Server) Stop() error {
	s.stop()
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(20 * time.Second):
		return errors.New("S3 server did not end within 20 s")
	}
}
