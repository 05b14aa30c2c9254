package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// usage counts the tokens of an answer.
type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// exchange is one request with its answer.
type exchange struct {
	server   *Server
	w        http.ResponseWriter
	r        *http.Request
	control  *http.ResponseController
	endpoint string
	name     string // of the answer, without its prefix
	began    time.Time
	took     time.Time // when its turn came

	model    string // served name; "" until it is known
	stream   bool
	usage    usage
	cut      int  // tokens of the prompt that did not fit
	admitted bool // the request counts as one of the model
	settled  bool // it was counted
	started  bool // bytes of an answer were sent
}

// serve makes a handler of what answers one endpoint.
func (s *Server) serve(endpoint string, answer func(*exchange) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{server: s, w: w, r: r, control: http.NewResponseController(w), endpoint: endpoint, name: rand.Text(), began: s.config.Now()}
		id := r.Header.Get("X-Request-Id")
		if id == "" || len(id) > 128 {
			id = x.name
			r.Header.Set("X-Request-Id", id)
		}
		w.Header().Set("X-Request-Id", id)
		if err := answer(x); err != nil {
			x.fail(err)
		}
	}
}

// fail ends an exchange that was not answered to its end.
func (x *exchange) fail(err error) {
	if x.r.Context().Err() != nil || errors.Is(err, errClient) {
		x.settle(outcomeCanceled)
		return
	}
	p := asProblem(err)
	x.settle(p.outcome())
	if p.status >= http.StatusInternalServerError && p.status != http.StatusServiceUnavailable {
		x.server.config.Log.Error("a request failed", "request_id", x.id(), "model", x.model, "endpoint", x.endpoint, "error", err)
	}
	if !x.started {
		x.deadline()
		p.write(x.w)
		return
	}
	if x.stream { // without [DONE] after it, nobody takes it for an end
		_ = x.event(p.body())
	}
}

// settle counts the request and writes its line, once.
func (x *exchange) settle(outcome string) {
	if x.settled {
		return
	}
	x.settled = true
	s := series{x.model, x.endpoint, outcome}
	if !x.admitted {
		x.server.metrics.refuse(s)
		return
	}
	now := x.server.config.Now()
	x.server.metrics.end(s, x.usage, now.Sub(x.began).Seconds())
	err := x.server.access.add(access{
		Time: x.began.UTC(), RequestID: x.id(), ConversationHash: bounded(x.r.Header.Get("X-Refit-Conversation-Hash")),
		Model: x.model, Endpoint: x.endpoint, Stream: x.stream, Outcome: outcome,
		PromptTokens: x.usage.PromptTokens, CutTokens: x.cut, CompletionTokens: x.usage.CompletionTokens,
		WaitedSeconds: x.took.Sub(x.began).Seconds(), Seconds: now.Sub(x.began).Seconds(),
	})
	if err != nil {
		x.server.config.Log.Error("a request is missing in the access log", "request_id", x.id(), "error", err)
	}
}

func (x *exchange) id() string { return x.r.Header.Get("X-Request-Id") }

// read decodes the body into a request.
func (x *exchange) read(into any) error {
	_ = x.control.SetReadDeadline(time.Now().Add(x.server.config.Slow)) // not every writer of a test has one
	raw, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, x.server.config.MaxBody))
	_ = x.control.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return newProblem(http.StatusRequestEntityTooLarge, "invalid_request_error", "", "body_too_large",
			fmt.Sprintf("The request is larger than %d bytes.", large.Limit))
	case err != nil:
		return invalid("", "The request could not be read to its end.")
	}
	err = json.Unmarshal(raw, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return invalid(parameter(wrong.Field), "a JSON %s is not of the right type", wrong.Value)
	case err != nil && asProblem(err).status == http.StatusBadRequest:
		return err
	case err != nil:
		return invalid("", "The request is not a JSON object.")
	}
	return nil
}

// parameter gives a field's path as clients know it, without the embedded structs that hold it.
func parameter(path string) string {
	parts := slices.DeleteFunc(strings.Split(path, "."), func(p string) bool { return p == "asked" || p == "foreign" })
	return strings.Join(parts, ".")
}

// admit waits for the request's turn and makes it one of the model's. release is never nil without an error.
func (x *exchange) admit() (release func(), err error) {
	release, err = x.server.slots.take(x.r.Context())
	var full *problem
	if errors.As(err, &full) {
		return nil, err
	}
	x.took, x.admitted = x.server.config.Now(), true
	x.server.metrics.begin(x.model)
	return release, err
}

// deadline gives the client time for what is sent next.
func (x *exchange) deadline() {
	_ = x.control.SetWriteDeadline(time.Now().Add(x.server.config.Slow)) // not every writer of a test has one
}

// whole sends an answer in one piece. It is counted before it leaves.
func (x *exchange) whole(answer any) error {
	raw, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	x.settle(outcomeOK)
	x.started = true
	x.deadline()
	x.w.Header().Set("Content-Type", "application/json")
	_, err = x.w.Write(raw)
	return err
}

// send sends one event of a stream.
func (x *exchange) send(chunk any) error {
	raw, err := json.Marshal(chunk)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	return x.event(raw)
}

// done ends a stream well. It is counted before the end leaves.
func (x *exchange) done() error {
	x.settle(outcomeOK)
	return x.event([]byte("[DONE]"))
}

func (x *exchange) event(data []byte) error {
	if !x.started {
		x.started = true
		x.w.Header().Set("Content-Type", "text/event-stream")
		x.w.Header().Set("Cache-Control", "no-cache")
	}
	x.deadline()
	if _, err := x.w.Write(append(append([]byte("data: "), data...), "\n\n"...)); err != nil {
		return fmt.Errorf("%w: %w", errClient, err)
	}
	if err := x.control.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errClient, err)
	}
	return nil
}

// errClient marks a failure to reach the client.
var errClient = errors.New("the client went away")

func writeJSON(w http.ResponseWriter, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("encode a list of names: " + err.Error()) // strings and numbers always encode
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw) // a client that is gone misses nothing
}
