package gateway

import (
	"errors"
	"net/http"
	"strings"
)

// sink hands an answer to the client. Nothing is sent before start, so another release may still
// answer. Headers of a model server that could be taken for the gateway's own do not pass.
type sink struct {
	w       http.ResponseWriter
	own     http.Header // the gateway's, of the release that answers
	started bool
}

// passing are the only headers of a model server's answer that reach the client.
var passing = []string{"Content-Type", "Cache-Control"}

func (s *sink) Start(status int, header http.Header) {
	s.started = true
	out := s.w.Header()
	for _, name := range passing {
		if value := header.Get(name); value != "" {
			out.Set(name, value)
		}
	}
	for name, values := range s.own {
		out[name] = values
	}
	if strings.HasPrefix(out.Get("Content-Type"), "text/event-stream") {
		out.Set("X-Accel-Buffering", "no") // proxies that buffer would hold back the stream
	}
	s.w.WriteHeader(status)
}

func (s *sink) Write(p []byte) (int, error) { return s.w.Write(p) }

func (s *sink) Flush() error {
	err := http.NewResponseController(s.w).Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil // a writer without streaming gets the answer when it is whole
	}
	return err
}
