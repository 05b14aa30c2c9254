package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// sink hands an answer to the client. Nothing is sent before start, so another release may still
// answer. Headers of a model server that could be taken for the gateway's own do not pass.
//
// What may be the end of an answer is held until release: the whole of one that is no stream, and the piece of a
// stream that says [DONE]. So nobody sees an answer complete before its record is kept. A held piece that was not
// the end goes out with the next one.
type sink struct {
	patience
	own     [3]field // the gateway's, of the release that answers
	started bool
	begun   func() // told when the answer begins at the client; nil: nobody is
	place   *place // on the server that is asked
	status  int
	stream  bool
	headed  bool // the head of a stream is out
	held    []byte
}

// field is one of a header.
type field struct {
	name   string
	values []string
}

// streamEnd is in every piece that ends a stream, and hardly in another.
var streamEnd = []byte("[DONE]")

// passing are the only headers of a model server's answer that reach the client.
var passing = []string{"Content-Type", "Cache-Control"}

func (s *sink) Start(status int, header http.Header) {
	s.started = true
	if s.begun != nil {
		s.begun()
	}
	if s.place != nil {
		s.place.began()
	}
	out := s.w.Header()
	for _, name := range passing {
		if values := header[name]; len(values) == 1 {
			out[name] = values
		}
	}
	for _, f := range s.own {
		if f.name != "" {
			out[f.name] = f.values
		}
	}
	if s.stream = strings.HasPrefix(header.Get("Content-Type"), "text/event-stream"); s.stream {
		out.Set("X-Accel-Buffering", "no") // proxies that buffer would hold back the stream
		s.w.WriteHeader(status)
	}
	s.status = status
}

func (s *sink) Write(p []byte) (int, error) {
	if !s.stream {
		if s.held == nil {
			s.held = p
		} else {
			s.held = slices.Concat(s.held, p)
		}
		return len(p), nil
	}
	if len(s.held) > 0 {
		held := s.held
		s.held = nil
		if _, err := s.send(held); err != nil {
			return 0, err
		}
	}
	if bytes.Contains(p, streamEnd) {
		s.held = bytes.Clone(p)
		return len(p), nil
	}
	return s.send(p)
}

// Flush sends what is not held.
func (s *sink) Flush() error {
	if len(s.held) > 0 {
		return nil
	}
	return s.flush()
}

func (s *sink) flush() error {
	if s.stream && !s.headed {
		s.headed = true
		return s.flushHead()
	}
	err := http.NewResponseController(s.w).Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil // a writer without streaming gets the answer when it is whole
	}
	return err
}

// flushHead flushes in a goroutine of its own: net/http needs 3 KiB of stack to write a head, and the one that waits here
// would keep a stack of twice the size for as long as its stream lasts.
func (s *sink) flushHead() error {
	flushed := make(chan error)
	go func() { flushed <- s.flush() }()
	return <-flushed
}

// release sends the end of an answer, whose record is kept now. A client that has gone meanwhile is told nothing.
func (s *sink) release() {
	if !s.stream {
		s.w.Header()["Content-Length"] = []string{strconv.Itoa(len(s.held))}
		s.w.WriteHeader(s.status)
	}
	_, _ = s.send(s.held)
	s.held = nil
	if s.stream {
		_ = s.flush()
	}
}
