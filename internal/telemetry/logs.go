package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
)

// LogConfig says how a process logs. The zero value logs text from level info to standard error.
type LogConfig struct {
	Level  string    // "debug", "info" (default), "warn" or "error"
	Format string    // "text" (default) or "json"
	Out    io.Writer // default os.Stderr
}

// NewLogger makes a logger. An unknown level or format is an error that names what there is.
func NewLogger(config LogConfig) (*slog.Logger, error) {
	level := slog.LevelInfo
	if config.Level != "" {
		if err := level.UnmarshalText([]byte(config.Level)); err != nil {
			return nil, fmt.Errorf("log level %q: give debug, info, warn or error", config.Level)
		}
	}
	out := config.Out
	if out == nil {
		out = os.Stderr
	}
	options := &slog.HandlerOptions{Level: level}
	switch config.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(out, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, options)), nil
	default:
		return nil, fmt.Errorf("log format %q: give text or json", config.Format)
	}
}
