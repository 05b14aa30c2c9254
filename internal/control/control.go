package control

import (
	"log/slog"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/registry"
)

// Config is what the use cases work with. Registry is required; without Temporal those that start or
// ask workflows are Unavailable.
type Config struct {
	Registry   *registry.Registry
	Captured   *capture.Store
	Reports    Reports // where gates' reports are read; nil: they are Unavailable
	Temporal   client.Client
	Namespace  string
	TemporalUI string        // base address of the Temporal UI, for links; empty: none are given
	GrantKey   []byte        // ed25519 private key that signs approvals; empty: this place cannot approve
	Signing    string        // whose signature this place asks for, in words; shown with the status
	GrantTime  time.Duration // how long an approval may wait to be used; default 10 min
	Anchors    Anchors       // of ledgers, in S3; nil: there are none to compare with
	Servers    *http.Client  // that model servers are asked with whether they answer; default one of its own
	Log        *slog.Logger
	Now        func() time.Time
}

// Control does the use cases.
type Control struct {
	cfg Config
}

// New starts nothing.
func New(cfg Config) *Control {
	if cfg.GrantTime == 0 {
		cfg.GrantTime = 10 * time.Minute
	}
	if cfg.Servers == nil {
		cfg.Servers = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second}}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Control{cfg: cfg}
}
