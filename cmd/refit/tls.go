package main

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/lifecycle"
)

// lookEvery is how often the files of a certificate are looked at, at most.
const lookEvery = time.Second

// certificate is a pair of files that is read again when one of them changed. A pair that cannot be read leaves the
// last good one in use: whoever renews certificates writes two files, one after the other.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	seen   [2]fileState
	looked time.Time
	fault  string // said last
}

type fileState struct {
	changed time.Time
	size    int64
}

// serverTLS is how a listener of ours speaks TLS; nil without a certificate. Both files must be given, and be
// good at the start.
func serverTLS(setting string, t configs.TLS, log *slog.Logger) (*tls.Config, error) {
	if t.CertFile == "" && t.KeyFile == "" {
		return nil, nil
	}
	c := &certificate{certFile: t.CertFile, keyFile: t.KeyFile, log: log}
	if err := c.read(); err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%s.cert_file, %s.key_file: %w", setting, setting, err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(time.Now()), nil },
	}, nil
}

// current gives the newest good pair.
func (c *certificate) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < lookEvery {
		return c.pair
	}
	c.looked = now
	before := c.pair
	err := c.read()
	switch {
	case err != nil && err.Error() != c.fault:
		c.fault = err.Error()
		c.log.Error("the changed certificate cannot be used; going on with the last one", "cert_file", c.certFile, "error", err)
	case err == nil && c.pair != before:
		c.fault = ""
		c.log.Info("the certificate was read again", "cert_file", c.certFile)
	}
	return c.pair
}

// read takes the pair from disk where a file differs from what was read last.
func (c *certificate) read() error {
	var seen [2]fileState
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		seen[i] = fileState{info.ModTime(), info.Size()}
	}
	if c.pair != nil && seen == c.seen {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair, c.seen = &pair, seen
	return nil
}

// trusting gives a client that believes the authorities of a file, beside none else; without a file it is nil.
func trusting(setting, caFile string) (*http.Client, error) {
	if caFile == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(caFile)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(raw) {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%s: %s holds no certificate that can be read", setting, caFile)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return &http.Client{Transport: transport}, nil
}
