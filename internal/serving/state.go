package serving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// server is what the state file of a local server holds.
type server struct {
	identity
	Model       string    `json:"model"`
	Embedder    string    `json:"embedder,omitempty"`
	AddressFile string    `json:"address_file"` // the server writes it, so it is read anew each time
	StartedAt   time.Time `json:"started_at"`
}

// find gives what is known of a server. A state file that is missing, torn or of a dead process is backed by
// a search for the mark; the zero server is not alive.
func (l *Local) find(name string) server {
	var s server
	raw, err := os.ReadFile(l.path(name, "json"))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.alive() {
		return s
	}
	found, ok := findMarked(l.path(name, "json"))
	if !ok {
		return s
	}
	s.identity = found
	if s.AddressFile == "" {
		s.AddressFile = l.path(name, "address")
		s.Model, s.Embedder = namesOf(name)
	}
	return s
}

// namesOf takes a server name (see ServerName) apart into the names that its server lists.
func namesOf(name string) (model, embedder string) {
	if alone, ok := strings.CutPrefix(name, aloneName); ok {
		return "", EmbedderName(lifecycle.Digest(alone))
	}
	short, ok := strings.CutPrefix(name, "refit-")
	if !ok {
		return name, ""
	}
	weights, rest, _ := strings.Cut(short, "-")
	return "refit-" + weights, EmbedderName(lifecycle.Digest(rest))
}

// write replaces the state file in one step.
func (s server) write(path string) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	defer os.Remove(file.Name()) // fails once it was renamed, which is meant
	_, err = file.Write(raw)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return nil
}

// address gives host:port, or "" as long as the server has not written one.
func (s server) address() string {
	raw, err := os.ReadFile(s.AddressFile)
	if err != nil {
		return ""
	}
	address := strings.TrimSpace(string(raw))
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return ""
	}
	return address
}

func (s server) url() string {
	if address := s.address(); address != "" {
		return "http://" + address
	}
	return ""
}

// awaitReady waits for the names and then warms the server up. It gives up when the process ends.
func (l *Local) awaitReady(ctx context.Context, s server, ended <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ended:
			cancel(errors.New("the model server ended before it was ready"))
		case <-ctx.Done():
		}
	}()
	if err := l.awaitNames(ctx, s, l.config.StartTimeout); err != nil {
		return err
	}
	return l.warmUp(ctx, s)
}

// awaitNames returns when the server lists its names, at latest after limit.
func (l *Local) awaitNames(ctx context.Context, s server, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not ready within %s", limit))
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	last := errors.New("it wrote no address")
	for {
		if url := s.url(); url != "" {
			err := l.checkNames(ctx, s, url)
			if err == nil {
				return nil
			}
			if ctx.Err() == nil { // else it says no more than that time is over
				last = err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-ticker.C:
			if !s.alive() {
				return fmt.Errorf("the model server ended: %w", last)
			}
		}
	}
}

func (l *Local) checkNames(ctx context.Context, s server, url string) error {
	names, err := listModels(ctx, l.config.Client, url, "")
	if err != nil {
		return err
	}
	for _, name := range []string{s.Model, s.Embedder} {
		if name != "" && !names[name] {
			return fmt.Errorf("the server at %s does not list %s", url, name)
		}
	}
	return nil
}

// WarmUpRequest is the x-request-id of warm-up requests, by which who counts in access logs leaves them out.
const WarmUpRequest = "refit-warm-up"

// warmUp sends a few real requests, so that no user waits for the first one.
func (l *Local) warmUp(ctx context.Context, s server) error {
	header := http.Header{"X-Request-Id": {WarmUpRequest}}
	for range l.config.WarmUp {
		for _, one := range []struct {
			name, path string
			body       map[string]any
		}{
			{s.Model, "/v1/completions", map[string]any{"model": s.Model, "prompt": "Package", "max_tokens": 8}},
			{s.Embedder, "/v1/embeddings", map[string]any{"model": s.Embedder, "input": "Package"}},
		} {
			if one.name == "" {
				continue
			}
			if err := post(ctx, l.config.Client, s.url()+one.path, one.body, header); err != nil {
				return fmt.Errorf("warm up %s: %w", one.name, err)
			}
		}
	}
	return nil
}
