package main

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/gateway"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/telemetry"
)

// lastLoad is how long a gateway that stops still brings captured interactions to the registry; the rest
// waits in the spool.
const lastLoad = 5 * time.Second

// runGateway needs neither Temporal nor the right to write to S3, and starts without any of its servers.
func (p *process) runGateway(ctx context.Context, s *shared) (err error) {
	defer gateway.HeapRoom()()
	record, captured, err := s.record(ctx)
	if err != nil {
		return err
	}
	var cache *artifacts.Cache
	if p.settings.S3.Endpoint != "" {
		if _, cache, err = s.artifacts(); err != nil {
			return err
		}
	}
	key, err := p.gatewayKey()
	if err != nil {
		return err
	}
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: p.path("spool"), Log: p.log})
	if err != nil {
		return err
	}
	gateway.MeterSpool(p.metrics, spool)
	listener := p.listeners[gatewayRole]
	p.warnOfPlain(gatewayRole, "gateway")
	traces, err := p.traces(p.gatewayID(listener))
	if err != nil {
		return errors.Join(err, spool.Close())
	}
	defer closeTraces(ctx, traces)
	g, err := gateway.New(gateway.Config{
		ID: p.gatewayID(listener), Services: p.settings.Gateway.Services, StateDir: p.path("gateway"),
		Keys:  p.keyPolicy(listener),
		Store: gateway.Record{Registry: record}, Indexes: gateway.CachedIndexes{Cache: cache}, Capture: spool,
		Secret: configs.Secret, Key: key, ClientHeader: p.settings.Gateway.ClientHeader, Drain: p.settings.Gateway.Drain,
		ConversationHeader: p.settings.Gateway.ConversationHeader, ConversationClaim: p.settings.Gateway.ConversationClaim,
		Traces: traces.Provider(), Metrics: p.metrics, MetricsHandler: telemetry.Handler(p.metrics), Log: p.log,
	})
	if err != nil {
		return errors.Join(err, spool.Close())
	}
	loading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		_ = capture.NewLoader(spool, captured, capture.LoaderConfig{Log: p.log}).Run(loading) // ends with the spool
	}()
	err = errors.Join(g.Serve(ctx, listener), spool.Close())
	select {
	case <-loaded:
	case <-time.After(lastLoad):
		p.log.Warn("captured interactions stay in the spool until the next start", "folder", p.path("spool"))
		stop()
		<-loaded
	}
	return err
}

// gatewayID keeps gateways of one machine apart in reports.
func (p *process) gatewayID(listener net.Listener) string {
	if p.settings.Gateway.ID != "" {
		return p.settings.Gateway.ID
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return hostName()
	}
	return hostName() + ":" + port
}

// traces makes the spans' way to their receiver, where the settings name one.
func (p *process) traces(instance string) (*telemetry.Traces, error) {
	t := p.settings.Traces
	headers := map[string]string{}
	for name, reference := range t.Headers {
		value, err := configs.Secret(reference)
		if err != nil {
			return nil, lifecycle.Wrap(err, "traces.headers: %s", name)
		}
		headers[name] = value
	}
	traces, err := telemetry.NewTraces(telemetry.TraceConfig{
		Endpoint: t.Endpoint, Headers: headers, Ratio: t.Ratio, Parents: t.Parents,
		Process: "refit-gateway", Version: commitOfBuild(), Instance: instance, Log: p.log,
	})
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "traces: %w", err)
	}
	return traces, nil
}

// closeTraces gives the last spans a moment to leave.
func closeTraces(ctx context.Context, traces *telemetry.Traces) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLoad)
	defer cancel()
	_ = traces.Close(ctx) // what does not leave in time is lost, as spans may be
}

// keyPolicy is what the settings say. Left out, everybody needs an API key where others than this machine can reach
// the gateway.
func (p *process) keyPolicy(listener net.Listener) string {
	if policy := p.settings.Gateway.Keys; policy != "" {
		return policy
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		return gateway.KeysOptional
	}
	return gateway.KeysRequired
}

// gatewayKey is empty where the gateway works alone and keeps its own.
func (p *process) gatewayKey() ([]byte, error) {
	if p.settings.Gateway.KeyFile == "" {
		return nil, nil
	}
	key, err := os.ReadFile(p.settings.Gateway.KeyFile)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "gateway.key_file: %w", err)
	}
	return key, nil
}
