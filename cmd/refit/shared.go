package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// shared is what several roles of one process use. Nothing in it needs its server to be there when it is opened.
type shared struct {
	*process
	ready chan struct{} // closed when the registry is migrated, or somebody else does that
	once  sync.Once

	mu       sync.Mutex
	registry *registry.Registry
	captured *capture.Store
	temporal client.Client
}

func newShared(p *process) *shared { return &shared{process: p, ready: make(chan struct{})} }

func (s *shared) prepared() { s.once.Do(func() { close(s.ready) }) }

// prepare migrates the registry where the owner's address is given.
func (s *shared) prepare(ctx context.Context) error {
	if s.settings.Registry.OwnerURL == "" {
		s.log.Info("registry.owner_url is not given: the registry is not migrated here (refit migrate)")
		s.prepared()
		return nil
	}
	var did migrated
	err := s.await(ctx, "PostgreSQL, to migrate the registry", func(ctx context.Context) (err error) {
		did, err = migrate(ctx, s.settings.Registry.OwnerURL)
		return err
	})
	if err != nil {
		return err
	}
	s.log.Info(did.String())
	s.prepared()
	return nil
}

// record opens the registry and the store of interactions.
func (s *shared) record(ctx context.Context) (*registry.Registry, *capture.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.registry != nil {
		return s.registry, s.captured, nil
	}
	opened, err := registry.Open(ctx, registry.Config{
		URL: s.settings.Registry.URL, MaxConns: 16, Lazy: true, Signer: s.signing.signer, Trusted: s.signing.trusted,
	})
	if err != nil {
		return nil, nil, err
	}
	captured, err := capture.Open(ctx, capture.Config{URL: s.settings.Registry.URL})
	if err != nil {
		opened.Close()
		return nil, nil, err
	}
	s.registry, s.captured = opened, captured
	return opened, captured, nil
}

// awaitRecord waits until the registry answers and has its tables.
func (s *shared) awaitRecord(ctx context.Context, record *registry.Registry) error {
	return s.await(ctx, "the registry", func(ctx context.Context) error {
		_, err := record.Services(ctx)
		if lifecycle.Is(err, lifecycle.Internal) {
			return lifecycle.Errorf(lifecycle.Unavailable, "the registry seems not to be migrated; run `refit migrate`: %w", err)
		}
		return err
	})
}

// workflows gives a client of Temporal that connects when it is first used.
func (s *shared) workflows() (client.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.temporal != nil {
		return s.temporal, nil
	}
	options := client.Options{
		HostPort: s.settings.Temporal.Address, Namespace: s.settings.Temporal.Namespace,
		Logger: sdklog.NewStructuredLogger(s.log), MetricsHandler: sdkMetrics{registerer: s.metrics},
	}
	if err := secure(&options, s.settings.Temporal); err != nil {
		return nil, err
	}
	c, err := client.NewLazyClient(options)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "temporal.address: %w", err)
	}
	s.temporal = c
	return c, nil
}

// secure sets up TLS and the key of an API, where the settings ask for them.
func secure(options *client.Options, t configs.Temporal) error {
	if t.APIKey != "" {
		key, err := configs.Secret(t.APIKey)
		if err != nil {
			return lifecycle.Wrap(err, "temporal.api_key")
		}
		options.Credentials = client.NewAPIKeyStaticCredentials(key)
	}
	if !t.TLS && t.CAFile == "" && t.CertFile == "" && t.KeyFile == "" {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		raw, err := os.ReadFile(t.CAFile)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(raw) {
			return lifecycle.Errorf(lifecycle.Invalid, "temporal.ca_file: %s holds no certificate that can be read", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return lifecycle.Errorf(lifecycle.Invalid, "temporal.cert_file, temporal.key_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	options.ConnectionOptions.TLS = config
	return nil
}

func (s *shared) awaitTemporal(ctx context.Context, c client.Client) error {
	return s.await(ctx, "Temporal at "+s.settings.Temporal.Address, func(ctx context.Context) error {
		return control.CheckNamespace(ctx, c, s.settings.Temporal.Namespace)
	})
}

// sayWhatIsMissing tells on behalf of roles that go on without their servers.
func (s *shared) sayWhatIsMissing(ctx context.Context) {
	record, _, err := s.record(ctx)
	if err == nil {
		err = s.awaitRecord(ctx, record)
	}
	if err == nil && s.has(consoleRole) {
		var c client.Client
		if c, err = s.workflows(); err == nil {
			err = s.awaitTemporal(ctx, c)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Error("goes on without one of its servers", "because", err)
	}
}

func openStore(s3 configs.S3, keys signing, log *slog.Logger) (*artifacts.Store, error) {
	return artifacts.Open(artifacts.Config{
		Endpoint: s3.Endpoint, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey,
		Bucket: s3.Bucket, Region: s3.Region, TLS: s3.TLS, Logger: log, Signer: keys.signer, Trusted: keys.trusted,
	})
}

// artifacts opens S3 and the cache of this machine.
func (s *shared) artifacts() (*artifacts.Store, *artifacts.Cache, error) {
	store, err := openStore(s.settings.S3, s.signing, s.log)
	if err != nil {
		return nil, nil, err
	}
	cache, err := artifacts.NewCache(store, s.path("cache"))
	return store, cache, err
}

// close gives connections back. A pool waits for its connections, so it is given a moment only: the process ends.
func (s *shared) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if s.registry != nil {
			s.registry.Close()
			s.captured.Close()
		}
		if s.temporal != nil {
			s.temporal.Close()
		}
	}()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		s.log.Warn("connections were still in use at the end")
	}
}

// await tries until it works or trying again cannot help, and says what it waits for.
func (p *process) await(ctx context.Context, what string, try func(context.Context) error) error {
	again := time.NewTicker(time.Second)
	defer again.Stop()
	var said time.Time
	for {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := try(limited)
		cancel()
		switch {
		case err == nil:
			if !said.IsZero() {
				p.log.Info("waits no longer", "for", what)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !lifecycle.Is(err, lifecycle.Unavailable) && !errors.Is(err, context.DeadlineExceeded):
			return err
		case time.Since(said) > 10*time.Second:
			said = time.Now()
			p.log.Warn("waits", "for", what, "because", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
