package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
)

// Store is what a gateway asks of the registry. Every method may fail for as long as PostgreSQL is down.
type Store interface {
	// Services names every service that was applied.
	Services(ctx context.Context) ([]string, error)
	Service(ctx context.Context, name string) (lifecycle.Service, error)
	Release(ctx context.Context, service string, id lifecycle.Digest) (lifecycle.Release, error)
	Endpoints(ctx context.Context, service string) ([]lifecycle.Endpoint, error)
	// Follow calls apply with the service's route at once, whenever it changes and whenever its lease does,
	// until ctx ends. It goes on through failures by itself. Calls come one after another.
	Follow(ctx context.Context, service string, apply func(lifecycle.Route)) error
	// FollowKeys calls apply with all API keys in force at once and whenever one was made or revoked, like Follow.
	FollowKeys(ctx context.Context, apply func([]lifecycle.APIKey)) error
	Report(ctx context.Context, report Report) error
	AddCanaryConversation(ctx context.Context, service, rollout, conversation string) error
	MoveCanaryConversation(ctx context.Context, service, rollout, conversation string) error
	CanaryConversation(ctx context.Context, service, rollout, conversation string) (bool, error)
	// DrawCredit tells the pool of a rollout's credit what was earned and draws units from it.
	DrawCredit(ctx context.Context, service, rolloutID string, draw rollout.Draw) (rollout.Grant, error)
}

// Report is what a gateway says of one service. Counts begin at 0 when the process starts.
type Report struct {
	Service    string
	Gateway    string
	Epoch      int64
	Generation int64     // applied: it decides every request from now on
	Requests   int64     // that counted for the exposure
	Canary     int64     // of them admitted to the canary
	Pooled     bool      // their credit is of the rollout's pool
	Started    time.Time // of the process
	Known      time.Time // who tossed a coin here before then is evidence already; zero: not known
}

// Indexes opens a release's index. embed turns texts into vectors with the release's own embedder.
type Indexes interface {
	Open(ctx context.Context, release lifecycle.Release, embed answer.Embedder) (answer.Searcher, error)
}

// Capture takes what happened. Each request that Arrived is either Shed or becomes an Interaction, which returns
// when it is safe from a kill of the process, and within a bounded time. Feedback says whether it was kept. Loaded says
// whether all interactions that had returned when Mark was called are where evidence is read.
type Capture interface {
	Arrived(service string)
	Shed(service string)
	Interaction(i lifecycle.Interaction)
	Feedback(ctx context.Context, f lifecycle.Feedback) error
	Mark() (m capture.Mark, ok bool)
	Loaded(m capture.Mark) bool
}

// Config sets up a gateway. Store, Indexes, Capture and StateDir must be given.
type Config struct {
	ID       string   // name in reports; default host name
	Services []string // to serve; empty: every applied service, as they come
	StateDir string   // last stable routes, and the key where none is given

	Store   Store
	Indexes Indexes
	Capture Capture
	Path    *answer.Path                           // default answer.New(answer.Settings{})
	Secret  func(reference string) (string, error) // reads env:NAME or file:PATH; needed where a service names an api_key

	Keys         string // KeysRequired (default), or KeysOptional: clients without an API key may ask, too
	Key          []byte // signs tokens and hashes; the same at all gateways, at least 32 bytes; default: one kept in StateDir
	ClientHeader string // header by which a proxy in front names the client; default: none is trusted

	ConversationHeader string // header by which clients name their conversations; default: none, so the first user text tells
	ConversationClaim  string // where it holds a JWT: the claim that is the name

	MaxBody   int64         // bytes of a request; default 1 MiB
	Patience  time.Duration // with a client that sends no head, or takes nothing of its answer; default 30s
	Queue     int           // requests that wait for a place on a model server; default 64
	QueueTime time.Duration // that one waits; default 2s
	Lookup    time.Duration // for a running conversation that another gateway began; default 20ms
	Refresh   time.Duration // between looks at endpoints and declarations; default 2s
	ReportAll time.Duration // between reports; default 1s
	DrawAll   time.Duration // between reports of earned credit to the pool, where none is urgent; default 100ms
	Drain     time.Duration // for requests in flight at shutdown; default 20s

	Traces         trace.TracerProvider  // makes spans of sampled requests; default: none are made
	Metrics        prometheus.Registerer // default: a registry of its own
	MetricsHandler http.Handler          // serves /metrics; default: there is none
	Log            *slog.Logger          // default slog.Default()
	Now            func() time.Time      // its monotonic part decides leases; default time.Now
}

const minKey = 32 // bytes

func (c Config) withDefaults() (Config, error) {
	var faults lifecycle.Problems
	if c.Store == nil || c.Indexes == nil || c.Capture == nil {
		faults.Add("store, indexes, capture", "missing", "give all three")
	}
	if c.ConversationClaim != "" && c.ConversationHeader == "" {
		faults.Add("gateway.conversation_claim", c.ConversationClaim, "name the header that the JWT stands in: gateway.conversation_header")
	}
	if c.StateDir == "" {
		faults.Add("state folder", "none", "give a folder that survives restarts")
	}
	if len(c.Key) > 0 && len(c.Key) < minKey {
		faults.Add("key", "too short", "give at least %d bytes", minKey)
	}
	setDefault(&c.Keys, KeysRequired)
	if c.Keys != KeysRequired && c.Keys != KeysOptional {
		faults.Add("keys", c.Keys, "give %s or %s", KeysRequired, KeysOptional)
	}
	if err := faults.Err("gateway"); err != nil {
		return c, err
	}
	if c.ID == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, lifecycle.Wrap(err, "find a name for this gateway")
		}
		c.ID = name
	}
	if c.Path == nil {
		c.Path = answer.New(answer.Settings{})
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	setDefault(&c.MaxBody, 1<<20)
	setDefault(&c.Patience, 30*time.Second)
	setDefault(&c.Queue, 64)
	setDefault(&c.QueueTime, 2*time.Second)
	setDefault(&c.Lookup, 20*time.Millisecond)
	setDefault(&c.Refresh, 2*time.Second)
	setDefault(&c.ReportAll, time.Second)
	setDefault(&c.DrawAll, 100*time.Millisecond)
	setDefault(&c.Drain, 20*time.Second)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return c, lifecycle.Wrap(err, "make the gateway's state folder")
	}
	if len(c.Key) == 0 {
		key, err := ownKey(c.StateDir)
		if err != nil {
			return c, err
		}
		c.Key = key
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ownKey reads the key of a gateway that works alone, and makes it once. The link is what makes two
// processes that start together agree on one key.
func ownKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, "gateway.key")
	key, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		fresh := make([]byte, minKey)
		if _, err := rand.Read(fresh); err != nil {
			return nil, lifecycle.Wrap(err, "make the gateway's key")
		}
		candidate := filepath.Join(dir, ".key-"+rand.Text())
		if err := replaceFile(candidate, fresh); err != nil {
			return nil, lifecycle.Wrap(err, "write the gateway's key")
		}
		defer os.Remove(candidate)
		if err := os.Link(candidate, path); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, lifecycle.Wrap(err, "keep the gateway's key")
		}
		key, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, lifecycle.Wrap(err, "read the gateway's key")
	}
	if len(key) < minKey {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "the gateway's key in %s is shorter than %d bytes", path, minKey)
	}
	return key, nil
}
