package answer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// maxErrorBody bounds what of a model server's refusal is kept.
const maxErrorBody = 16 << 10

// crossing are the only headers of a request that reach a model server.
var crossing = []string{"Traceparent", "Tracestate", "X-Request-Id", "X-Refit-Conversation-Hash"}

// HeaderTimeLeft tells a model server, or a proxy before it, how many milliseconds are left for the answer as a whole.
// It is sent where the context has a deadline.
const HeaderTimeLeft = "X-Envoy-Expected-Rq-Timeout-Ms"

// UpstreamError is a model server's own refusal. Body is what it said, bounded; it may be shown to the
// client where Status blames the request (400, 413, 422), and is never logged: servers quote prompts.
type UpstreamError struct {
	Status     int
	Body       []byte
	RetryAfter string // as the server said, for 429 and 503
}

func (e *UpstreamError) Error() string {
	if e.Status == http.StatusNotFound {
		return "the model server does not serve this release's model (404)"
	}
	return fmt.Sprintf("the model server answered %d %s", e.Status, http.StatusText(e.Status))
}

// refusal gives the typed error of an answer that is not 200: a fault of the request is Invalid,
// everything else Unavailable.
func refusal(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody)) // what can be read of it is enough
	upstream := &UpstreamError{Status: response.StatusCode, Body: body, RetryAfter: response.Header.Get("Retry-After")}
	kind := lifecycle.Unavailable
	switch response.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		kind = lifecycle.Invalid
	}
	return lifecycle.Errorf(kind, "%w", upstream)
}

// newClient keeps many connections to few servers. It follows no redirect, because the key must not
// follow, and asks for no compression, because compressed streams arrive late.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         dialer(&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 30 * time.Second}),
			MaxIdleConns:        4096,
			MaxIdleConnsPerHost: 1024,
			ReadBufferSize:      2 << 10,
			IdleConnTimeout:     90 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second,
			DisableCompression:  true,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// targets are the addresses that were asked, so that none is read twice.
type targets struct {
	mu    sync.Mutex
	known map[[2]string]*url.URL // by base and path
}

// maxTargets bounds what is kept; servers come and go.
const maxTargets = 1024

func (t *targets) of(base, path string) (*url.URL, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.known[[2]string{base, path}]; known != nil {
		return known, nil
	}
	target, err := url.Parse(strings.TrimRight(base, "/") + path)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "address of the model server: %w", err)
	}
	if t.known == nil || len(t.known) >= maxTargets {
		t.known = map[[2]string]*url.URL{}
	}
	t.known[[2]string{base, path}] = target
	return target, nil
}

// jsonType is a header's value that nobody changes.
var jsonType = []string{"application/json"}

// headerOf gives the head of a request to a model server.
func headerOf(ctx context.Context, up Upstream, header http.Header) http.Header {
	out := make(http.Header, 8)
	for _, name := range crossing {
		if values := header[name]; len(values) > 0 {
			out[name] = values
		}
	}
	if at, ok := ctx.Deadline(); ok {
		out[HeaderTimeLeft] = []string{strconv.FormatInt(max(1, time.Until(at).Milliseconds()), 10)}
	}
	out["Content-Type"] = jsonType
	if up.APIKey != nil {
		if key := up.APIKey(); key != "" {
			out["Authorization"] = []string{"Bearer " + key}
		}
	}
	return out
}

// put makes a request send a body, as often as it is sent. A short one goes out in one piece with its head; a long one
// is sent from where it stands, and is nobody else's until its last reader is closed.
func (b body) put(r *http.Request) {
	r.ContentLength = int64(b.size())
	if r.ContentLength <= whole || b.asked == nil {
		raw := apply(b.doc, b.edits)
		if len(b.edits) == 0 && b.asked != nil {
			raw = bytes.Clone(raw)
		}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	} else {
		r.GetBody = func() (io.ReadCloser, error) { return b.pieces(), nil }
	}
	r.Body, _ = r.GetBody() // neither fails
}

// call sends a body and gives the answer, whose body must be closed and which must begin in time; 0 is the path's own
// time. Only status 200 is an answer.
func (p *Path) call(ctx context.Context, up Upstream, path string, body body, header http.Header, firstByte time.Duration) (*http.Response, error) {
	setDefault(&firstByte, p.settings.FirstByte)
	target, err := p.targets.of(up.URL, path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	request := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: headerOf(ctx, up, header),
	}).WithContext(ctx)
	body.put(request)
	client := up.Client
	if client == nil {
		client = p.settings.Client
	}
	w := watch(ctx, cancel, firstByte, p.settings.Idle)
	response, err := send(client, request)
	if err == nil && !w.begun(response.Body) {
		response.Body.Close()
		err = errFirstByte
	}
	if err != nil {
		err = because(ctx, err)
		w.end()
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "ask the model server: %w", err)
	}
	response.Body = w
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, refusal(response)
	}
	return response, nil
}

// send sends a request once. Sending it again after it met a connection that the server was closing is no second
// time: the first was never read.
func send(client *http.Client, request *http.Request) (*http.Response, error) {
	transport := client.Transport // nobody follows redirects or keeps cookies, so the client has nothing to add
	if transport == nil {
		transport = http.DefaultTransport
	}
	for tries := 0; ; tries++ {
		response, err := transport.RoundTrip(request)
		if err == nil || tries == maxStale || request.Context().Err() != nil || !again(err) {
			return response, err
		}
		if request.Body, err = request.GetBody(); err != nil {
			return nil, err
		}
	}
}

// Embedder asks a model server for embeddings. It fits retrieval's Embedder.
type Embedder struct {
	Path     *Path
	Upstream func() (Upstream, error) // chooses a server at each call
	Model    string                   // served name of the embedder
}

// Embed gives one vector a text, in the order of texts. A missing vector is an error.
func (e Embedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	up, err := e.Upstream()
	if err != nil {
		return nil, lifecycle.Wrap(err, "choose a server for embeddings")
	}
	raw, err := requestWith(map[string]any{"model": e.Model, "input": texts})
	if err != nil {
		return nil, err
	}
	response, err := e.Path.call(ctx, up, pathOf(Embeddings), body{doc: raw}, nil, 0)
	if err != nil {
		return nil, lifecycle.Wrap(err, "embed %d texts", len(texts))
	}
	defer response.Body.Close()
	raw, err = readBounded(response.Body, e.Path.settings.MaxResponse, response.ContentLength)
	if err != nil {
		return nil, lifecycle.Wrap(err, "embed %d texts", len(texts))
	}
	var said struct {
		Data []struct {
			Index     int       `json:"index"`
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the answer to an embeddings request is not one: %w", err)
	}
	vectors := make([][]float32, len(texts))
	for _, d := range said.Data {
		if d.Index < 0 || d.Index >= len(texts) || vectors[d.Index] != nil || len(d.Embedding) == 0 {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "the embeddings do not fit the %d texts asked for", len(texts))
		}
		vectors[d.Index] = d.Embedding
	}
	if len(said.Data) != len(texts) {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "%d embeddings for %d texts", len(said.Data), len(texts))
	}
	return vectors, nil
}

// believed is how many bytes of an answer get their place before they have come.
const believed = 256 << 10

// readBounded reads a body of at most limit bytes; length is what its head says, below 0 where it says nothing.
func readBounded(r io.Reader, limit int, length int64) ([]byte, error) {
	raw, err := readAll(nil, r, length, int64(limit))
	switch {
	case errors.Is(err, ErrTooLong):
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model server's answer is larger than %d bytes", limit)
	case err != nil:
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model server's answer broke off: %w", err)
	}
	return raw, nil
}
