package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// maxInput bounds a request's body, in bytes.
const maxInput = 1 << 20

// minSecret is the fewest characters of a token.
const minSecret = 20

// Token lets its bearer in with a name and a role, and with other roles in some services.
type Token struct {
	Name     string
	Role     control.Role            // in all services; may be empty where Services gives some
	Services map[string]control.Role // where it is more
	Secret   string
}

// Config sets up the console. Control must be given.
type Config struct {
	Control *control.Control
	Tokens  []Token
	People  People           // knows bearers of other tokens; nil: there are none
	SignIn  bool             // ask for a token before showing the page, also on this machine
	Metrics http.Handler     // serves /metrics; nil: there is none
	Log     *slog.Logger     // default slog.Default()
	Now     func() time.Time // default time.Now
}

// People knows who bears a token that is none of the console's own, and until when. One that is not good is Refused;
// Unavailable means that nobody could say.
type People interface {
	Identify(ctx context.Context, token string) (control.Caller, time.Time, error)
}

// CheckTokens gives all faults of tokens at once. It never repeats a secret.
func CheckTokens(tokens []Token) error {
	var faults lifecycle.Problems
	seen := map[string]bool{}
	for _, t := range tokens {
		at := "control.tokens." + t.Name
		if t.Name == "" {
			faults.Add("control.tokens", "a token without a name", "say whose it is")
		}
		if !t.Role.Includes(control.Viewer) && (t.Role != "" || len(t.Services) == 0) {
			faults.Add(at, "role "+string(t.Role), "give viewer, operator, approver or admin, or roles in services")
		}
		for service, role := range t.Services {
			if lifecycle.CheckServiceName(service) != nil || !role.Includes(control.Viewer) {
				faults.Add(at+".services", service+": "+string(role), "give a service's name and viewer, operator, approver or admin")
			}
		}
		if len(t.Secret) < minSecret || seen[t.Secret] {
			faults.Add(at, "its secret is short or another's", "give each a secret of its own, at least %d characters", minSecret)
		}
		seen[t.Secret] = true
	}
	return faults.Err("tokens")
}

// console is what the handlers share.
type console struct {
	cfg      Config
	sessions sessions
}

// New gives the console's handler.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &console{cfg: cfg}
	mux := http.NewServeMux()
	for _, h := range control.Handlers() {
		mux.HandleFunc("POST "+control.APIPath+h.Name, func(w http.ResponseWriter, r *http.Request) { c.serveUseCase(w, r, h) })
	}
	mux.HandleFunc(control.APIPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, &lifecycle.Error{Kind: lifecycle.NotFound, Message: "no such use case: " + r.Method + " " + r.URL.Path})
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /{$}", c.servePage)
	mux.HandleFunc("GET /served", c.serveServed)
	mux.HandleFunc("GET /style.css", c.serveStyle)
	mux.HandleFunc("GET /sign-in", c.serveSignIn)
	mux.HandleFunc("POST /sign-in", c.signIn)
	mux.HandleFunc("POST /sign-out", c.signOut)
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", cfg.Metrics)
	}
	return http.NewCrossOriginProtection().Handler(guarded(mux))
}

// guarded keeps browsers from doing more with the pages than showing them.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (c *console) serveUseCase(w http.ResponseWriter, r *http.Request, useCase control.Handler) {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	caller, _, err := c.bearer(r.Context(), secret, "cli")
	switch {
	case lifecycle.Is(err, lifecycle.Refused):
		w.Header().Set("WWW-Authenticate", "Bearer")
		answer(w, http.StatusUnauthorized, control.AsProblem(err))
		return
	case err != nil:
		c.fail(r.Context(), w, useCase.Name, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInput))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		answer(w, http.StatusRequestEntityTooLarge, &lifecycle.Error{Kind: lifecycle.Invalid, Message: "input is over 1 MiB"})
		return
	case err != nil:
		return // the client has left
	}
	out, err := useCase.Do(r.Context(), c.cfg.Control, caller, body)
	if err != nil {
		c.fail(r.Context(), w, useCase.Name, err)
		return
	}
	answer(w, http.StatusOK, out)
}

func (c *console) fail(ctx context.Context, w http.ResponseWriter, useCase string, err error) {
	if ctx.Err() != nil {
		return // nobody listens any more
	}
	kind := lifecycle.KindOf(err)
	if kind == lifecycle.Internal {
		c.cfg.Log.ErrorContext(ctx, "use case failed", "use_case", useCase, "error", err)
	}
	answer(w, kind.HTTPStatus(), control.AsProblem(err))
}

// bearer finds whose a token is and until when it is good (zero: for ever), without telling by its timing how much of
// one of the console's own was right.
func (c *console) bearer(ctx context.Context, secret, via string) (caller control.Caller, until time.Time, err error) {
	given := sha256.Sum256([]byte(secret))
	var found *Token
	for i := range c.cfg.Tokens {
		t := &c.cfg.Tokens[i]
		want := sha256.Sum256([]byte(t.Secret))
		if t.Secret != "" && subtle.ConstantTimeCompare(given[:], want[:]) == 1 {
			found = t
		}
	}
	switch {
	case found != nil:
		caller = control.Caller{Name: found.Name, Role: found.Role, Services: found.Services}
	case c.cfg.People != nil && strings.Count(secret, ".") == 2: // the form of a signed token
		caller, until, err = c.cfg.People.Identify(ctx, secret)
	default:
		err = lifecycle.Errorf(lifecycle.Refused, "no such token; see control.token_file")
	}
	caller.Via = via
	return caller, until, err
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has left; there is nobody to tell
}
