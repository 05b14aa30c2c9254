package subject

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/gateway"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/telemetry"
)

// ServeUncaptured serves as `refit gateway` does, and keeps nothing of what it serves: the difference is what capture
// costs.
func ServeUncaptured(ctx context.Context, listener net.Listener, spans string) error {
	settings, err := configs.Load("")
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	record, err := registry.Open(ctx, registry.Config{URL: settings.Registry.URL})
	if err != nil {
		return err
	}
	defer record.Close()
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	traces, err := telemetry.NewTraces(telemetry.TraceConfig{
		Endpoint: "http://" + spans, Ratio: settings.Traces.Ratio, Process: "refit-gateway", Instance: listener.Addr().String(), Log: quiet,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(settings.Data, 0o700); err != nil {
		return fmt.Errorf("make the gateway's folder: %w", err)
	}
	g, err := gateway.New(gateway.Config{
		ID: "uncaptured", Services: settings.Gateway.Services, StateDir: settings.Data, Keys: settings.Gateway.Keys,
		Store: gateway.Record{Registry: record}, Indexes: gateway.CachedIndexes{}, Capture: nothing{}, Traces: traces.Provider(), Log: quiet,
	})
	if err != nil {
		return err
	}
	return g.Serve(ctx, listener)
}

// nothing keeps nothing.
type nothing struct{}

func (nothing) Arrived(string)                                     {}
func (nothing) Shed(string)                                        {}
func (nothing) Interaction(lifecycle.Interaction)                  {}
func (nothing) Mark() (capture.Mark, bool)                         { return capture.Mark{}, true }
func (nothing) Loaded(capture.Mark) bool                           { return true }
func (nothing) Feedback(context.Context, lifecycle.Feedback) error { return nil }
