package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/refitml/refit/internal/lifecycle"
)

// OIDCConfig says which tokens of an OpenID Connect provider let somebody in, and as what.
type OIDCConfig struct {
	Issuer     string
	Audience   string         // that tokens must be for
	NameClaim  string         // whose name stands in the ledger; default "sub". People must not be able to set it themselves
	RolesClaim string         // a list of texts, or one text; default "roles"
	Roles      []RoleMapping  // what its values mean; the greatest of those that match counts
	CAs        *x509.CertPool // that the provider's certificate is checked with; default the system's
	Refetch    time.Duration  // least time between two questions for keys, which whoever sends a token can cause; default 1 s
	Now        func() time.Time
}

// RoleMapping gives a role to who has a value in the roles claim.
type RoleMapping struct {
	Value    string
	Role     Role
	Services []string // where; default in all
}

// Check gives all faults at once.
func (c OIDCConfig) Check() error {
	var faults lifecycle.Problems
	if !strings.HasPrefix(c.Issuer, "https://") && !strings.HasPrefix(c.Issuer, "http://127.0.0.1:") {
		faults.Add("control.oidc.issuer", c.Issuer, "give the issuer's https address, as it stands in its tokens")
	}
	if c.Audience == "" {
		faults.Add("control.oidc.audience", "none", "name what tokens must be for: a token for somebody else's service lets nobody in")
	}
	if len(c.Roles) == 0 {
		faults.Add("control.oidc.roles", "none", "say which values of the roles claim mean which role")
	}
	for _, m := range c.Roles {
		if m.Value == "" || !m.Role.Includes(Viewer) {
			faults.Add("control.oidc.roles", m.Value+" as "+string(m.Role), "give a value, and viewer, operator, approver or admin")
		}
	}
	return faults.Err("settings")
}

// OIDC verifies tokens. It asks the provider for its keys when the first token comes, and again for a key that it does
// not know. It is safe for use by several goroutines.
type OIDC struct {
	cfg    OIDCConfig
	client *http.Client

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil: the provider was not found yet
}

// Bounds of what the provider is asked and told.
const (
	providerTime = 10 * time.Second
	maxToken     = 16 << 10
	maxName      = 128
)

// NewOIDC starts nothing.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.NameClaim == "" {
		cfg.NameClaim = "sub"
	}
	if cfg.RolesClaim == "" {
		cfg.RolesClaim = "roles"
	}
	if cfg.Refetch == 0 {
		cfg.Refetch = time.Second
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cfg.CAs, MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment}
	return &OIDC{cfg: cfg, client: &http.Client{Timeout: providerTime, Transport: &paced{next: transport, least: cfg.Refetch}}}, nil
}

// paced asks an address no more often than that. What is asked for is remembered by who asks, so nobody waits in vain.
type paced struct {
	next  http.RoundTripper
	least time.Duration

	mu   sync.Mutex
	last map[string]time.Time
}

var errPaced = errors.New("it was asked just now")

func (p *paced) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	early := time.Since(p.last[r.URL.Path]) < p.least
	if !early {
		if p.last == nil {
			p.last = map[string]time.Time{}
		}
		p.last[r.URL.Path] = time.Now()
	}
	p.mu.Unlock()
	if early {
		return nil, errPaced
	}
	return p.next.RoundTrip(r)
}

// Identify gives who bears a token, and until when it is good. A token that is not good is Refused, without saying more
// than why; a provider that does not answer is Unavailable. Somebody without a role is let in, and may do nothing.
func (o *OIDC) Identify(ctx context.Context, token string) (Caller, time.Time, error) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return Caller{}, time.Time{}, lifecycle.Errorf(lifecycle.Refused, "it is no token of the provider")
	}
	verifier, err := o.provider()
	if err != nil {
		return Caller{}, time.Time{}, err
	}
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return Caller{}, time.Time{}, refusal(err)
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return Caller{}, time.Time{}, lifecycle.Errorf(lifecycle.Refused, "the token's claims cannot be read")
	}
	caller, err := o.caller(claims)
	return caller, verified.Expiry, err
}

// provider finds the provider once. A failure is not remembered.
func (o *OIDC) provider() (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verifier != nil {
		return o.verifier, nil
	}
	// The context is kept for asking for keys: it carries the client, and its time-out bounds each question.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.Background(), o.client), o.cfg.Issuer)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the OpenID Connect provider does not answer as it should: %w", err)
	}
	o.verifier = provider.Verifier(&oidc.Config{ClientID: o.cfg.Audience, Now: o.cfg.Now})
	return o.verifier, nil
}

// refusal tells a token that is not good from keys that could not be had.
func refusal(err error) error {
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return lifecycle.Errorf(lifecycle.Refused, "the token expired at %s", expired.Expiry.UTC().Format(time.RFC3339))
	case strings.Contains(err.Error(), "fetching keys"):
		return lifecycle.Errorf(lifecycle.Unavailable, "the OpenID Connect provider's keys cannot be read: %w", err)
	default:
		return lifecycle.Errorf(lifecycle.Refused, "the token is not good: %w", err)
	}
}

func (o *OIDC) caller(claims map[string]any) (Caller, error) {
	name, _ := claims[o.cfg.NameClaim].(string)
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Caller{}, lifecycle.Errorf(lifecycle.Refused, "the token's claim %s names nobody", o.cfg.NameClaim)
	}
	if verified, said := claims["email_verified"].(bool); o.cfg.NameClaim == "email" && said && !verified {
		return Caller{}, lifecycle.Errorf(lifecycle.Refused, "the token's email is not verified")
	}
	out := Caller{Name: name, Services: map[string]Role{}}
	values := texts(claims[o.cfg.RolesClaim])
	for _, m := range o.cfg.Roles {
		if !slices.Contains(values, m.Value) {
			continue
		}
		if len(m.Services) == 0 {
			out.Role = greater(out.Role, m.Role)
		}
		for _, service := range m.Services {
			out.Services[service] = greater(out.Services[service], m.Role)
		}
	}
	return out, nil
}

func greater(a, b Role) Role {
	if a.Includes(b) {
		return a
	}
	return b
}

// texts reads a claim that is a text or a list of texts; anything else in it is left out.
func texts(claim any) (out []string) {
	switch claim := claim.(type) {
	case string:
		return []string{claim}
	case []any:
		for _, one := range claim {
			if text, ok := one.(string); ok {
				out = append(out, text)
			}
		}
	}
	return out
}
