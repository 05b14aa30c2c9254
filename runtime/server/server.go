package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"time"
)

// Config sets up a server. The zero value works.
type Config struct {
	Slots     int           // requests computed at once; default 2 a core
	Queue     int           // requests that may wait for a slot; more are refused; default 256
	MaxBody   int64         // bytes of a request; default 4 MiB
	MaxScored int           // tokens that one request may have scored; default 8192
	Slow      time.Duration // how long a client may take to send its request or to accept a piece of its answer; default 30s
	AccessLog io.Writer     // gets a line a request with one write; nil: nobody looks
	Log       *slog.Logger  // default slog.Default()
	Now       func() time.Time
}

// Embedder gives vectors of length 1 for texts. It is safe for concurrent use.
type Embedder interface {
	// Embed gives the vector of a text, and the number of tokens that it read.
	Embed(text string) (vector []float32, tokens int)
	Dimension() int
}

// Server serves models and embedders by name. Add all before it serves.
type Server struct {
	config    Config
	models    map[string]*Model
	embedders map[string]Embedder
	slots     *slots
	metrics   *metrics
	access    accessLog
	started   time.Time
}

// New makes a server that serves nothing yet.
func New(config Config) *Server {
	config.Slots = cmp.Or(max(0, config.Slots), 2*runtime.GOMAXPROCS(0))
	config.Queue = cmp.Or(max(0, config.Queue), 256)
	config.MaxBody = cmp.Or(max(0, config.MaxBody), 4<<20)
	config.MaxScored = cmp.Or(max(0, config.MaxScored), 8192)
	config.Slow = cmp.Or(max(0, config.Slow), 30*time.Second)
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Server{
		config: config, models: map[string]*Model{}, embedders: map[string]Embedder{},
		slots: newSlots(config.Slots, config.Queue), metrics: newMetrics(),
		access: accessLog{out: config.AccessLog}, started: config.Now(),
	}
}

var servedName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)

// AddModel serves a model under a name.
func (s *Server) AddModel(name string, m *Model) error {
	if err := s.free(name); err != nil {
		return err
	}
	s.models[name] = m
	return nil
}

// AddEmbedder serves an embedder under a name.
func (s *Server) AddEmbedder(name string, e Embedder) error {
	if err := s.free(name); err != nil {
		return err
	}
	s.embedders[name] = e
	return nil
}

func (s *Server) free(name string) error {
	if !servedName.MatchString(name) {
		return fmt.Errorf("served name %q: give letters, digits and . _ : / -", name)
	}
	if s.models[name] != nil || s.embedders[name] != nil {
		return fmt.Errorf("served name %q is given twice", name)
	}
	return nil
}

// Handler answers all addresses of the server.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.serve(chat, s.chat))
	mux.HandleFunc("POST /v1/completions", s.serve(completions, s.completions))
	mux.HandleFunc("POST /v1/embeddings", s.serve(embeddings, s.embeddings))
	mux.HandleFunc("GET /v1/models", s.listModels)
	mux.HandleFunc("GET /v1/models/{name...}", s.oneModel)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = s.metrics.write(w) // a reader that is gone misses nothing
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		newProblem(http.StatusNotFound, "invalid_request_error", "", "unknown_url", "Unknown address or method: "+r.Method+" "+bounded(r.URL.Path)).write(w)
	})
	return mux
}

// Serve answers on a listener until ctx is done. Then it takes no new requests, lets those that run end, and breaks
// off after drain what still runs; that it had to is an error.
func (s *Server) Serve(ctx context.Context, listener net.Listener, drain time.Duration) error {
	requests, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	defer breakOff()
	server := &http.Server{
		Handler: s.Handler(), BaseContext: func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.config.Log.Info("draining", "limit", drain)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := server.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		breakOff()
		return fmt.Errorf("requests still ran after %s and were broken off: %w", drain, errors.Join(err, server.Close()))
	}
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

type modelEntry struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"`
	OwnedBy     string `json:"owned_by"`
	MaxModelLen int    `json:"max_model_len,omitempty"` // context in tokens, of a model
	Dimension   int    `json:"dimension,omitempty"`     // of an embedder
}

func (s *Server) entries() []modelEntry {
	list := []modelEntry{}
	for name, m := range s.models {
		list = append(list, modelEntry{ID: name, MaxModelLen: m.context()})
	}
	for name, e := range s.embedders {
		list = append(list, modelEntry{ID: name, Dimension: e.Dimension()})
	}
	for i := range list {
		list[i].Object, list[i].Created, list[i].OwnedBy = "model", s.started.Unix(), "refit"
	}
	slices.SortFunc(list, func(a, b modelEntry) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, struct {
		Object string       `json:"object"`
		Data   []modelEntry `json:"data"`
	}{"list", s.entries()})
}

func (s *Server) oneModel(w http.ResponseWriter, r *http.Request) {
	for _, e := range s.entries() {
		if e.ID == r.PathValue("name") {
			writeJSON(w, e)
			return
		}
	}
	unknownModel(r.PathValue("name"), "anything").write(w)
}
