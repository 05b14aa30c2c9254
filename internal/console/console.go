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

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// maxInput bounds a request's body, in bytes.
const maxInput = 1 << 20

// Token lets its bearer in with a name and a role.
type Token struct {
	Name   string
	Role   control.Role
	Secret string
}

// Config sets up the console.
type Config struct {
	Control *control.Control
	Tokens  []Token
	SignIn  bool         // ask for a token before showing the page, also on this machine
	Metrics http.Handler // serves /metrics; nil: there is none
	Log     *slog.Logger // default slog.Default()
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
		if !t.Role.Includes(control.Viewer) {
			faults.Add(at, "role "+string(t.Role), "give viewer, operator, approver or admin")
		}
		if len(t.Secret) < minSecret || seen[t.Secret] {
			faults.Add(at, "its secret is short or another's", "give each a secret of its own, at least %d characters", minSecret)
		}
		seen[t.Secret] = true
	}
	return faults.Err("tokens")
}

// minSecret is the fewest characters of a token.
const minSecret = 20


// New gives the console's handler.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	mux := http.NewServeMux()
	for _, h := range control.Handlers() {
		mux.Handle("POST "+control.APIPath+h.Name, &api{cfg, h})
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.Handle("GET /{$}", &page{cfg})
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", cfg.Metrics)
	}
	return mux
}

type api struct {
	cfg     Config
	useCase control.Handler
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, ok := a.cfg.caller(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		answer(w, http.StatusUnauthorized, &lifecycle.Error{Kind: lifecycle.Refused, Message: "no such token; see control.token_file"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInput))
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, &lifecycle.Error{Kind: lifecycle.Invalid, Message: "input is over 1 MiB"})
		return
	}
	out, err := a.useCase.Do(r.Context(), a.cfg.Control, caller, body)
	if err != nil {
		a.fail(w, r.Context(), err)
		return
	}
	answer(w, http.StatusOK, out)
}

func (a *api) fail(w http.ResponseWriter, ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // nobody listens any more
	}
	kind := lifecycle.KindOf(err)
	if kind == lifecycle.Internal {
		a.cfg.Log.Error("use case failed", "use_case", a.useCase.Name, "error", err)
	}
	var typed *lifecycle.Error
	problem := &lifecycle.Error{Kind: kind, Message: err.Error()}
	if errors.As(err, &typed) {
		problem.Fields = typed.Fields
	}
	answer(w, kind.HTTPStatus(), problem)
}

// caller finds who bears the token, without telling by its timing how much of one was right.
func (c Config) caller(r *http.Request) (control.Caller, bool) {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || secret == "" {
		return control.Caller{}, false
	}
	given := sha256.Sum256([]byte(secret))
	var found *Token
	for i := range c.Tokens {
		want := sha256.Sum256([]byte(c.Tokens[i].Secret))
		if subtle.ConstantTimeCompare(given[:], want[:]) == 1 {
			found = &c.Tokens[i]
		}
	}
	if found == nil {
		return control.Caller{}, false
	}
	return control.Caller{Name: found.Name, Role: found.Role, Via: "cli"}, true
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has left; there is nobody to tell
}
