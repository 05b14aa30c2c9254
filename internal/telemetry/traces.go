package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	traceapi "go.opentelemetry.io/otel/trace"
)

// TraceConfig says where a process sends its spans.
type TraceConfig struct {
	Endpoint string            // of an OTLP/HTTP receiver, for example http://127.0.0.1:4318; empty: no spans are made
	Headers  map[string]string // sent along, for example a receiver's key
	Ratio    float64           // of traces that are sampled, 0 to 1
	Parents  bool              // a trace that the caller's traceparent says is sampled is sampled, too
	Process  string            // service.name
	Version  string            // service.version
	Instance string            // service.instance.id
	Log      *slog.Logger      // default slog.Default()
}

// exportTime bounds one delivery of spans.
const exportTime = 10 * time.Second

// Traces makes spans and sends them in the background. What the receiver does not take in time is dropped: spans
// never hold up what they tell of.
type Traces struct{ provider *trace.TracerProvider }

// NewTraces checks the configuration and reaches nobody yet. Without an endpoint it is nil, which makes no spans.
func NewTraces(config TraceConfig) (*Traces, error) {
	if config.Endpoint == "" {
		return nil, nil
	}
	at, err := url.Parse(config.Endpoint)
	if err != nil || (at.Scheme != "http" && at.Scheme != "https") || at.Host == "" || at.User != nil {
		return nil, fmt.Errorf("endpoint of traces: give http:// or https:// and a host, without credentials")
	}
	if config.Ratio < 0 || config.Ratio > 1 {
		return nil, fmt.Errorf("ratio of traces: %v; give 0 to 1", config.Ratio)
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if at.Path == "" || at.Path == "/" {
		at.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(at.String()),
		otlptracehttp.WithHeaders(config.Headers), otlptracehttp.WithTimeout(exportTime),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	if err != nil {
		return nil, fmt.Errorf("prepare to send traces: %w", err)
	}
	sampler := trace.TraceIDRatioBased(config.Ratio)
	if config.Parents {
		sampler = trace.ParentBased(sampler, trace.WithRemoteParentNotSampled(sampler))
	}
	return &Traces{trace.NewTracerProvider(
		trace.WithSampler(sampler),
		trace.WithBatcher(&sayingExporter{SpanExporter: exporter, log: config.Log}, trace.WithExportTimeout(2*exportTime)),
		trace.WithResource(resource.NewWithAttributes(semconv.SchemaURL, semconv.ServiceName(config.Process),
			semconv.ServiceVersion(config.Version), semconv.ServiceInstanceID(config.Instance))),
	)}, nil
}

// Provider is what rooms make spans with; nil where none are made.
func (t *Traces) Provider() traceapi.TracerProvider {
	if t == nil {
		return nil
	}
	return t.provider
}

// Close sends what is left, for as long as ctx lets it.
func (t *Traces) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// sayingExporter says once per outage that spans are lost. The library would tell a global handler.
type sayingExporter struct {
	trace.SpanExporter
	log *slog.Logger

	mu   sync.Mutex
	away bool
}

func (e *sayingExporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && !e.away:
		e.log.Warn("spans are lost: the receiver of traces does not take them", "error", err)
	case err == nil && e.away:
		e.log.Info("the receiver of traces takes spans again")
	}
	e.away = err != nil
	return nil
}
