package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/gateway"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/telemetry"
)

// metricsListener names the address that only metrics are served on.
const metricsListener = "metrics"

// stopMargin is how long a stop may take beyond what was asked to drain.
const stopMargin = 15 * time.Second

// process is one running refit: its roles and what they share. open takes everything that two processes could
// fight over, before anything is started.
type process struct {
	settings configs.Settings
	roles    []string
	log      *slog.Logger
	metrics  *prometheus.Registry

	locks     []*os.File
	listeners map[string]net.Listener
	secured   map[string]bool // listeners that speak TLS
	signing   signing
}

func (p *process) has(role string) bool { return slices.Contains(p.roles, role) }

func (p *process) path(elements ...string) string {
	return filepath.Join(append([]string{p.settings.Data}, elements...)...)
}

// open checks the settings, then takes the locks and the addresses.
func (p *process) open() error {
	if err := p.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(p.settings.Data, 0o700); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "data: %w", err)
	}
	err := p.lock()
	if err == nil {
		p.signing, err = openSigning(p.settings)
	}
	if err == nil {
		err = p.listen()
	}
	if err != nil {
		p.close()
	}
	return err
}

func (p *process) close() {
	for _, l := range p.listeners {
		_ = l.Close() // most are closed by who served on them
	}
	for _, f := range p.locks {
		_ = f.Close()
	}
}

// check gives all faults of the settings at once.
func (p *process) check() error {
	var faults lifecycle.Problems
	s := p.settings
	if s.Registry.URL == "" {
		faults.Add("registry.url", "missing", "give the address of the application's role, or name the one-machine stack's file in REFIT_STACK")
	}
	if (p.has(workerRole) || p.has(consoleRole)) && (s.Temporal.Address == "" || s.Temporal.Namespace == "") {
		faults.Add("temporal", "incomplete", "give temporal.address and temporal.namespace")
	}
	if p.has(workerRole) && s.S3.Endpoint == "" {
		faults.Add("s3.endpoint", "missing", "give host:port of the S3 server")
	}
	if p.has(workerRole) && s.Worker.Slots < 1 {
		faults.Add("worker.slots", fmt.Sprint(s.Worker.Slots), "give at least 1")
	}
	if k := s.Gateway.Keys; p.has(gatewayRole) && k != "" && k != gateway.KeysRequired && k != gateway.KeysOptional {
		faults.Add("gateway.keys", fmt.Sprintf("%q", k), "give required or optional, or leave it out")
	}
	if len(p.roles) == 1 || !s.Signing.ByItself() {
		asks(s.Signing, p.has(workerRole) || p.has(consoleRole), &faults)
	}
	for _, root := range s.Worker.DataRoots {
		if !filepath.IsAbs(root) {
			faults.Add("worker.data_roots", fmt.Sprintf("%q", root), "give absolute paths")
		}
	}
	return faults.Err("settings")
}

// lock keeps a second process of the same role away from the data folder. The kernel frees the lock
// however this process ends.
func (p *process) lock() error {
	for _, role := range p.roles {
		path := p.path(role + ".lock")
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return lifecycle.Errorf(lifecycle.Invalid, "data: %w", err)
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			holder, _ := io.ReadAll(io.LimitReader(file, 32)) // only to name it
			file.Close()
			return lifecycle.Errorf(lifecycle.Busy, "a %s with this data folder runs already (process %s, lock %s); stop it or set data",
				role, strings.TrimSpace(string(holder)), path)
		}
		p.locks = append(p.locks, file)
		if err := file.Truncate(0); err == nil {
			_, _ = fmt.Fprintln(file, os.Getpid()) // the lock counts, not what is in it
		}
	}
	return nil
}

// listen opens every address before anything is started, and names all that are not free.
func (p *process) listen() error {
	var faults lifecycle.Problems
	p.listeners, p.secured = map[string]net.Listener{}, map[string]bool{}
	take := func(name, setting, address string, secure *tls.Config) {
		l, err := net.Listen("tcp", address)
		switch {
		case err == nil && secure != nil:
			p.listeners[name], p.secured[name] = tls.NewListener(l, secure), true
		case err == nil:
			p.listeners[name] = l
		case errors.Is(err, syscall.EADDRINUSE):
			faults.Add(setting, address+" is in use", "stop what listens there, or set %s (%s)", setting, environmentOf(setting))
		default:
			faults.Add(setting, err.Error(), "give host:port to listen on (%s)", environmentOf(setting))
		}
	}
	for _, l := range []struct {
		role, setting, address string
		tls                    configs.TLS
	}{
		{gatewayRole, "gateway", p.settings.Gateway.Listen, p.settings.Gateway.TLS},
		{consoleRole, "control", p.settings.Control.Listen, p.settings.Control.TLS},
	} {
		if !p.has(l.role) {
			continue
		}
		secure, err := serverTLS(l.setting+".tls", l.tls, p.log)
		if err != nil {
			return err
		}
		take(l.role, l.setting+".listen", l.address, secure)
	}
	if p.has(workerRole) && p.settings.Worker.Metrics != "" {
		take(metricsListener, "worker.metrics", p.settings.Worker.Metrics, nil)
	}
	if err := faults.Err("addresses to listen on"); err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "%w", err)
	}
	return nil
}

func environmentOf(setting string) string {
	return "REFIT_" + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
}

func (p *process) addresses() map[string]string {
	out := map[string]string{}
	for name, l := range p.listeners {
		out[name] = "http://" + l.Addr().String()
		if p.secured[name] {
			out[name] = "https://" + l.Addr().String()
		}
		if name == metricsListener {
			out[name] += "/metrics"
		}
	}
	return out
}

// run runs the roles until ctx ends or one of them fails, and stops them within a bound.
func (p *process) run(ctx context.Context) error {
	p.log.Info("signatures", "are", p.signing)
	group, ctx := errgroup.WithContext(ctx)
	use := newShared(p)
	defer use.close()
	for role, do := range map[string]func(context.Context, *shared) error{
		gatewayRole: p.runGateway, workerRole: p.runWorker, consoleRole: p.runConsole,
	} {
		if p.has(role) {
			group.Go(func() error { return p.ended(ctx, role, do(ctx, use)) })
		}
	}
	if !p.has(workerRole) { // which waits for them itself
		group.Go(func() error { use.sayWhatIsMissing(ctx); return nil })
	}
	if len(p.roles) > 1 {
		group.Go(func() error {
			if err := use.prepare(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		})
	} else {
		use.prepared()
	}
	if l := p.listeners[metricsListener]; l != nil {
		group.Go(func() error { return p.ended(ctx, metricsListener, serveHTTP(ctx, l, p.metricsPage())) })
	}
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	p.log.Info("stops", "roles", p.roles)
	bound := max(p.settings.Gateway.Drain, p.settings.Worker.Drain) + stopMargin
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return lifecycle.Errorf(lifecycle.Internal, "not everything stopped within %s", bound)
	}
}

func (p *process) metricsPage() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", telemetry.Handler(p.metrics))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	return mux
}

// ended names the role in its error. A role that ends by itself has failed, whatever it says: the others would
// go on without it unnoticed.
func (p *process) ended(ctx context.Context, role string, err error) error {
	switch {
	case ctx.Err() == nil && err == nil:
		return lifecycle.Errorf(lifecycle.Internal, "%s ended by itself", role)
	case err == nil, ctx.Err() != nil && errors.Is(err, context.Canceled):
		p.log.Info("stopped", "role", role)
		return nil
	default:
		return lifecycle.Wrap(err, "%s", role)
	}
}

// serveHTTP serves until ctx ends, then lets requests end for a moment.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, MaxHeaderBytes: 32 << 10, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute, // every answer here is ready within seconds
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return lifecycle.Errorf(lifecycle.Unavailable, "serve on %s: %w", listener.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-groupCtx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			return server.Close()
		}
		return nil
	})
	return group.Wait()
}

func commitOfBuild() string {
	const unknown = "devel"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	commit := unknown
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			commit = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			return unknown
		}
	}
	return commit
}
