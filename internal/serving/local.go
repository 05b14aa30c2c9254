package serving

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// LocalConfig sets up the local engine. Only StateDir must be given.
type LocalConfig struct {
	StateDir     string        // state, log, lock and access log of every server; made if it is not there
	Command      []string      // default refit-runtime serve
	Env          []string      // added to PATH, HOME and TMPDIR, which is all that a server gets
	StartTimeout time.Duration // from start to the first model list; default 60s
	Grace        time.Duration // from SIGTERM to SIGKILL; default 10s
	WarmUp       int           // requests before a server counts as ready; default 3, negative for none
	Client       *http.Client  // default: one of its own without a proxy
	Log          *slog.Logger  // default slog.Default()
	Now          func() time.Time
}

// Local starts reference runtimes on this machine. Several Locals, also in several processes, may share a
// state folder.
type Local struct{ config LocalConfig }

// NewLocal makes a local engine. It starts nothing.
func NewLocal(config LocalConfig) (*Local, error) {
	if config.StateDir == "" {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "the local serving engine needs a state folder")
	}
	dir, err := filepath.Abs(config.StateDir)
	if err != nil {
		return nil, lifecycle.Wrap(err, "find the state folder")
	}
	config.StateDir = dir
	if len(config.Command) == 0 {
		config.Command = []string{"refit-runtime", "serve"}
	}
	if config.StartTimeout <= 0 {
		config.StartTimeout = time.Minute
	}
	if config.Grace <= 0 {
		config.Grace = 10 * time.Second
	}
	if config.WarmUp == 0 {
		config.WarmUp = 3
	}
	if config.Client == nil {
		config.Client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second}}
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Local{config: config}, nil
}

// Load ensures that one healthy server process serves the placement.
func (l *Local) Load(ctx context.Context, p Placement) ([]lifecycle.Endpoint, error) {
	if err := checkLocal(p); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.config.StateDir, 0o700); err != nil {
		return nil, lifecycle.Wrap(err, "make the state folder")
	}
	name := ServerName(p.Release)
	unlock, err := lock(ctx, l.path(name, "lock"))
	if err != nil {
		return nil, lifecycle.Wrap(err, "load %s", name)
	}
	defer unlock()

	s := l.find(name)
	if s.alive() {
		if l.awaitNames(ctx, s, l.config.StartTimeout) == nil {
			if err := s.write(l.path(name, "json")); err != nil { // it may have been found by its mark
				return nil, lifecycle.Wrap(err, "load %s", name)
			}
			return l.endpoints(ctx, p, s)
		}
		if err := ctx.Err(); err != nil {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "load %s: %w", name, err)
		}
		l.config.Log.WarnContext(ctx, "a model server lives but does not answer; it is replaced", "server", name, "pid", s.PID)
		if err := s.stop(ctx, l.config.Grace); err != nil {
			return nil, lifecycle.Wrap(err, "replace %s", name)
		}
	}
	s, err = l.start(ctx, name, p)
	if err != nil {
		return nil, lifecycle.Wrap(err, "load %s", name)
	}
	return l.endpoints(ctx, p, s)
}

// Unload ends the servers of that name and forgets them; their logs stay.
func (l *Local) Unload(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	servers, err := l.List(ctx)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.Name != name && s.Model != name {
			continue
		}
		if err := l.unload(ctx, s.Name); err != nil {
			return lifecycle.Wrap(err, "unload %s", s.Name)
		}
	}
	return nil
}

func (l *Local) unload(ctx context.Context, name string) error {
	unlock, err := lock(ctx, l.path(name, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if s := l.find(name); s.alive() {
		if err := s.stop(ctx, l.config.Grace); err != nil {
			return err
		}
		l.config.Log.InfoContext(ctx, "model server stopped", "server", name, "pid", s.PID)
	}
	for _, kind := range []string{"address", "json"} {
		if err := os.Remove(l.path(name, kind)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return lifecycle.Wrap(err, "forget the server")
		}
	}
	return nil
}

// List gives every server that was loaded and not unloaded, by name.
func (l *Local) List(ctx context.Context) ([]Server, error) {
	// Lock files stay for ever and come before anything else, so no server is missed.
	files, err := filepath.Glob(filepath.Join(l.config.StateDir, "*.lock"))
	if err != nil {
		return nil, lifecycle.Wrap(err, "list servers")
	}
	var servers []Server
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(file), ".lock")
		s := l.find(name)
		if s.PID == 0 {
			continue
		}
		servers = append(servers, Server{
			Name: name, Model: s.Model, Embedder: s.Embedder, URL: s.url(), PID: s.PID, Alive: s.alive(),
			StartedAt: s.StartedAt, Log: l.path(name, "log"), AccessLog: l.path(name, "access.jsonl"),
		})
	}
	return servers, nil
}

// start runs a server process and waits until it serves its names and answered the warm-up.
func (l *Local) start(ctx context.Context, name string, p Placement) (server, error) {
	if err := os.Remove(l.path(name, "address")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return server{}, lifecycle.Wrap(err, "remove the old address")
	}
	s := server{
		Model: modelName(p.Release), Embedder: EmbedderName(p.Release.Embedder),
		AddressFile: l.path(name, "address"), StartedAt: l.config.Now(),
	}
	command, err := l.command(name, s, p)
	if err != nil {
		return server{}, err
	}
	log, err := os.OpenFile(l.path(name, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return server{}, lifecycle.Wrap(err, "open the log")
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return server{}, lifecycle.Errorf(lifecycle.Refused, "start %s: %w", command.Path, err)
	}
	ended := make(chan struct{})
	go func() { // reaps the child if it ends before this process does
		_ = command.Wait()
		close(ended)
	}()
	if s.identity, err = identify(command.Process.Pid); err == nil {
		err = s.write(l.path(name, "json"))
	}
	if err == nil {
		err = l.awaitReady(ctx, s, ended)
	}
	if err != nil {
		// A server that never became ready is worth nothing to the next try.
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.config.Grace+killTime)
		defer cancel()
		_ = s.stop(stopCtx, l.config.Grace)
		return server{}, lifecycle.Errorf(lifecycle.Unavailable, "%w; the server's log is %s", err, l.path(name, "log"))
	}
	l.config.Log.InfoContext(ctx, "model server ready", "server", name, "pid", s.PID, "address", s.address())
	return s, nil
}

func (l *Local) command(name string, s server, p Placement) (*exec.Cmd, error) {
	program, err := exec.LookPath(l.config.Command[0])
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Refused, "the model server's program: %w", err)
	}
	arguments := append([]string{}, l.config.Command[1:]...)
	if s.Model != "" {
		arguments = append(arguments, "--model", s.Model+"="+p.ModelDir)
	}
	if s.Embedder != "" {
		arguments = append(arguments, "--embedder", s.Embedder+"="+p.EmbedderDir)
	}
	arguments = append(arguments,
		"--listen", "127.0.0.1:0", "--address-file", s.AddressFile, "--access-log", l.path(name, "access.jsonl"))
	command := exec.Command(program, arguments...) // without a context: it outlives this process
	command.Dir = l.config.StateDir
	for _, variable := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(variable); ok {
			command.Env = append(command.Env, variable+"="+value)
		}
	}
	command.Env = append(command.Env, l.config.Env...)
	command.Env = append(command.Env, markVariable+"="+l.path(name, "json"))
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return command, nil
}

func (l *Local) endpoints(ctx context.Context, p Placement, s server) ([]lifecycle.Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	capacity := p.Service.Serving.Capacity
	if capacity <= 0 {
		capacity = 4
	}
	return []lifecycle.Endpoint{{
		Release: p.ID, URL: s.url(), Model: s.Model, Embedder: s.Embedder, Capacity: capacity,
		Ready: true, Attribution: Verified, SeenAt: l.config.Now(),
	}}, nil
}

func (l *Local) path(name, kind string) string {
	return filepath.Join(l.config.StateDir, name+"."+kind)
}

func checkLocal(p Placement) error {
	var faults lifecycle.Problems
	alone := p.Release.Model == "" && p.Release.Embedder.Valid()
	if !alone && !p.Release.Model.Valid() {
		faults.Add("release.model", "not a digest", "give a release that was stored")
	}
	if p.Release.Adapter != "" {
		faults.Add("release.adapter", p.Release.Adapter.Short(), "the local engine serves no adapters; merge it into the model")
	}
	if !alone && p.ModelDir == "" {
		faults.Add("model folder", "none", "fetch the model artifact first")
	}
	if p.Release.Embedder != "" && p.EmbedderDir == "" {
		faults.Add("embedder folder", "none", "fetch the embedder artifact first")
	}
	return faults.Err("placement")
}

// checkName keeps names inside the state folder.
func checkName(name string) error {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return lifecycle.Errorf(lifecycle.Invalid, "server name %q; give a name as List prints it", name)
	}
	return nil
}
