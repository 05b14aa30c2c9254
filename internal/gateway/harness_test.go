package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
)

// store is a registry in memory whose connection can be cut.
type store struct {
	mu            sync.Mutex
	service       lifecycle.Service
	releases      map[lifecycle.Digest]lifecycle.Release
	endpoints     []lifecycle.Endpoint
	route         lifecycle.Route
	down          bool
	conversations map[string]bool
	keys          []lifecycle.APIKey
	changed       chan struct{} // closed and replaced at each change
	reports       chan Report
	lookups       int
	slow          chan struct{} // where set, look-ups wait for it
	pool          rollout.Pool
	dry           bool // nobody gets credit
}

var errDown = lifecycle.Errorf(lifecycle.Unavailable, "the registry is down")

func newStore() *store {
	return &store{
		service:       lifecycle.Service{Name: "docs"}.WithDefaults(),
		releases:      map[lifecycle.Digest]lifecycle.Release{},
		route:         lifecycle.Route{Service: "docs"},
		conversations: map[string]bool{},
		changed:       make(chan struct{}),
		reports:       make(chan Report, 10_000),
	}
}

// change edits the store and, where the route differs, tells followers.
func (s *store) change(edit func(s *store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(s)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *store) reach() error {
	if s.down {
		return errDown
	}
	return nil
}

func (s *store) Services(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{s.service.Name}, s.reach()
}

func (s *store) Service(context.Context, string) (lifecycle.Service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service, s.reach()
}

func (s *store) Release(_ context.Context, _ string, id lifecycle.Digest) (lifecycle.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	release, ok := s.releases[id]
	if !ok {
		return release, lifecycle.Errorf(lifecycle.NotFound, "no release %s", id)
	}
	return release, s.reach()
}

func (s *store) Endpoints(context.Context, string) ([]lifecycle.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]lifecycle.Endpoint{}, s.endpoints...), s.reach()
}

func (s *store) Follow(ctx context.Context, _ string, apply func(lifecycle.Route)) error {
	for {
		s.mu.Lock()
		route, down, changed := s.route, s.down, s.changed
		s.mu.Unlock()
		if !down && route.Generation > 0 {
			apply(route)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (s *store) FollowKeys(ctx context.Context, apply func([]lifecycle.APIKey)) error {
	for {
		s.mu.Lock()
		keys, down, changed := s.keys, s.down, s.changed
		s.mu.Unlock()
		if !down {
			apply(keys)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (s *store) Report(_ context.Context, r Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	for {
		select {
		case s.reports <- r:
			return nil
		default: // nobody reads them: the oldest goes
			select {
			case <-s.reports:
			default:
			}
		}
	}
}

func (s *store) AddCanaryConversation(_ context.Context, _, rollout, conversation string) error {
	s.change(func(s *store) { s.conversations[rollout+"/"+conversation] = true })
	return nil
}

func (s *store) MoveCanaryConversation(_ context.Context, _, rollout, conversation string) error {
	s.change(func(s *store) { s.conversations[rollout+"/"+conversation] = false })
	return nil
}

func (s *store) CanaryConversation(ctx context.Context, _, rollout, conversation string) (bool, error) {
	s.mu.Lock()
	s.lookups++
	slow := s.slow
	found := s.conversations[rollout+"/"+conversation]
	err := s.reach()
	s.mu.Unlock()
	if slow != nil {
		<-ctx.Done()
		return found, ctx.Err()
	}
	return found, err
}

func (s *store) DrawCredit(_ context.Context, _, _ string, d rollout.Draw) (rollout.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return rollout.Grant{}, errDown
	}
	if s.dry {
		return rollout.Grant{Epoch: s.pool.Epoch}, nil
	}
	return s.pool.Draw(d), nil
}

type noIndexes struct{}

func (noIndexes) Open(context.Context, lifecycle.Release, answer.Embedder) (answer.Searcher, error) {
	return nil, lifecycle.Errorf(lifecycle.Internal, "no release of these tests has an index")
}

// upstream is a model server that writes down what it got, in order.
type upstream struct {
	server *httptest.Server
	mu     sync.Mutex
	models []string
	bodies [][]byte
	header []http.Header
	answer func(w http.ResponseWriter, r *http.Request, model string) bool // false: the usual answer
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{}
	u.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var said struct{ Model string }
		_ = json.Unmarshal(body, &said)
		u.mu.Lock()
		u.models = append(u.models, said.Model)
		u.bodies = append(u.bodies, body)
		u.header = append(u.header, r.Header.Clone())
		custom := u.answer
		u.mu.Unlock()
		if custom != nil && custom(w, r, said.Model) {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Refit-Release", "not to be believed")
		w.Header().Set("Server", "model server")
		if r.URL.Path == "/v1/embeddings" {
			fmt.Fprintf(w, `{"data":[{"index":0,"embedding":[1,0]}],"model":%q}`, said.Model)
			return
		}
		fmt.Fprintf(w, `{"model":%q,"choices":[{"index":0,"text":"hello","message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`, said.Model)
	}))
	t.Cleanup(u.server.Close)
	return u
}

func (u *upstream) asked() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string{}, u.models...)
}

func (u *upstream) behave(answer func(w http.ResponseWriter, r *http.Request, model string) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a gateway with everything around it.
type world struct {
	t        testing.TB
	store    *store
	upstream *upstream
	more     []*upstream // that a test added
	captured *captured
	clock    *clock
	gateway  *Gateway
	handler  http.Handler
	stop     func()
	config   Config
	stable   lifecycle.Release
	canary   lifecycle.Release
}

// newWorld starts a gateway for the service docs with a stable release.
func newWorld(t testing.TB, edit func(*Config)) *world {
	t.Helper()
	w := &world{t: t, store: newStore(), upstream: newUpstream(t), captured: &captured{}, clock: &clock{now: time.Now()}}
	w.stable = w.release("stable", nil)
	w.canary = w.release("canary", nil)
	w.store.route.Stable, w.store.route.Generation = w.stable.ID(), 1
	w.config = Config{
		ID: "gateway-1", Services: []string{"docs"}, StateDir: t.TempDir(), Store: w.store, Indexes: noIndexes{}, Capture: w.captured,
		Keys: KeysOptional,
		Key:  bytes.Repeat([]byte("k"), 32), Refresh: 5 * time.Millisecond, ReportAll: 5 * time.Millisecond, DrawAll: time.Millisecond,
		Now: w.clock.Now, Log: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&w.config)
	}
	w.start()
	w.awaitGeneration(1)
	return w
}

// release adds a release and a server place for it.
func (w *world) release(name string, edit func(*lifecycle.Release)) lifecycle.Release {
	r := lifecycle.Release{Service: "docs", Model: lifecycle.DigestOf([]byte(name))}
	if edit != nil {
		edit(&r)
	}
	w.store.change(func(s *store) {
		s.releases[r.ID()] = r
		s.endpoints = append(s.endpoints, lifecycle.Endpoint{
			Release: r.ID(), URL: w.upstream.server.URL, Model: r.ServedName(), Capacity: 64, Ready: true, Attribution: "verified",
		})
	})
	return r
}

// start runs a gateway on the same store and folder; the one before is stopped.
func (w *world) start() {
	w.t.Helper()
	gateway, err := New(w.config)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = gateway.Run(ctx) }()
	w.gateway, w.handler = gateway, gateway.Handler()
	var once sync.Once
	w.stop = func() { once.Do(func() { cancel(); <-done }) }
	w.t.Cleanup(w.stop)
}

// awaitGeneration waits until the gateway reported that it applied a generation.
func (w *world) awaitGeneration(generation int64) Report {
	w.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case r := <-w.store.reports:
			if r.Generation >= generation {
				return r
			}
		case <-limit:
			w.t.Fatalf("generation %d was not reported", generation)
		}
	}
}

// settled waits until the pool has heard of what was earned and its answer is here: requests that follow then do not
// race with questions that are asked behind them.
func (w *world) settled() {
	w.t.Helper()
	l := w.gateway.lane("docs")
	if l == nil {
		return
	}
	require.Eventually(w.t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.exposure == nil || len(l.draw) > 0 || l.drawing {
			return l.exposure == nil
		}
		worth, urgent := l.exposure.splitter.Due()
		return !worth && !urgent
	}, 10*time.Second, 50*time.Microsecond)
}

// route changes the route by one generation, with a lease that was just renewed, and waits until it is applied.
func (w *world) route(edit func(*lifecycle.Route)) {
	w.t.Helper()
	var generation int64
	w.store.change(func(s *store) {
		before := s.route.Share
		edit(&s.route)
		if s.route.Share < before {
			s.pool.Void()
		}
		s.route.Generation++
		s.route.Lease++
		generation = s.route.Generation
	})
	w.awaitGeneration(generation)
}

// rollout begins a rollout of the canary. The lease is seen to change after the canary is ready.
func (w *world) rollout(share lifecycle.BasisPoints) {
	w.t.Helper()
	w.route(func(r *lifecycle.Route) {
		r.Canary, r.Rollout, r.BandKey = w.canary.ID(), "rollout-1", []byte("band key of the first rollout")
	})
	require.Eventually(w.t, func() bool { // ready or not is no part of reports
		w.gateway.lane("docs").mu.Lock()
		defer w.gateway.lane("docs").mu.Unlock()
		return w.gateway.lane("docs").canary != nil
	}, 10*time.Second, time.Millisecond)
	w.route(func(r *lifecycle.Route) { r.Share = share })
	require.Equal(w.t, share, w.inForce())
}

// awaitLease waits until a gateway that was just started saw the registry's route, which alone names a canary.
func (w *world) awaitLease() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		l := w.gateway.lane("docs")
		if l == nil {
			return false
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.exposure != nil
	}, 10*time.Second, time.Millisecond)
}

// servers gives where stable is served now.
func (w *world) servers() []lifecycle.Endpoint {
	l := w.gateway.lane("docs")
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stable.servers()
}

// inForce gives the share that the gateway allows now.
func (w *world) inForce() lifecycle.BasisPoints {
	l := w.gateway.lane("docs")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.exposure == nil {
		return 0
	}
	return l.exposure.splitter.Share()
}

type reply struct {
	*httptest.ResponseRecorder
}

func (r reply) release() string { return r.Header().Get(headerRelease) }

// ask sends one request. A token, where given, goes along.
func (w *world) ask(path, body, token string) reply {
	return w.do(func(*http.Request) {}, path, body, token)
}

func (w *world) get(path string) reply {
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, httptest.NewRequest(http.MethodGet, path, nil))
	return reply{out}
}

func (w *world) do(edit func(*http.Request), path, body, token string) reply {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader([]byte(body)))
	if token != "" {
		r.Header.Set(headerConversation, token)
	}
	edit(r)
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, r)
	w.settled()
	return reply{out}
}

// chat is a body with a conversation of so many assistant turns that begins with the given words.
func chat(words string, turns int) string {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	messages := []message{{"user", words}}
	for range turns {
		messages = append(messages, message{"assistant", "yes"}, message{"user", "and then?"})
	}
	raw, _ := json.Marshal(map[string]any{"model": "docs", "messages": messages})
	return string(raw)
}

const chatPath = "/v1/chat/completions"

// sized gives the small number in the inner loop and the full one when REFIT_LONG is 1.
func sized(short, long int) int {
	if os.Getenv("REFIT_LONG") == "1" {
		return long
	}
	return short
}
