package control_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// idp is an OpenID Connect provider in this process, which signs tokens.
type idp struct {
	*httptest.Server
	t      *testing.T
	key    *rsa.PrivateKey
	kid    string
	asked  atomic.Int64 // for keys
	broken atomic.Bool
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	p := &idp{t: t}
	p.rotate("one")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if p.broken.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		if p.broken.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": p.kid,
			"n": encoded(p.key.N.Bytes()), "e": encoded(big.NewInt(int64(p.key.E)).Bytes()),
		}}})
	})
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	return p
}

func encoded(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func (p *idp) rotate(kid string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(p.t, err)
	p.key, p.kid = key, kid
}

// claims are good ones; change spoils or adds some.
func (p *idp) claims(change func(map[string]any)) map[string]any {
	c := map[string]any{
		"iss": p.URL, "aud": "refit", "sub": "u-1", "name": "dora", "groups": []any{"oncall", 7},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	if change != nil {
		change(c)
	}
	return c
}

// token signs claims with what the header says.
func (p *idp) token(header map[string]any, claims map[string]any, sign func([]byte) []byte) string {
	h, err := json.Marshal(header)
	require.NoError(p.t, err)
	c, err := json.Marshal(claims)
	require.NoError(p.t, err)
	signed := encoded(h) + "." + encoded(c)
	return signed + "." + encoded(sign([]byte(signed)))
}

func (p *idp) rs256(key *rsa.PrivateKey) func([]byte) []byte {
	return func(signed []byte) []byte {
		sum := sha256.Sum256(signed)
		raw, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		require.NoError(p.t, err)
		return raw
	}
}

func (p *idp) good(change func(map[string]any)) string {
	return p.token(map[string]any{"alg": "RS256", "kid": p.kid, "typ": "JWT"}, p.claims(change), p.rs256(p.key))
}

func (p *idp) config() control.OIDCConfig {
	pool := x509.NewCertPool()
	pool.AddCert(p.Certificate())
	return control.OIDCConfig{
		Issuer: p.URL, Audience: "refit", NameClaim: "name", RolesClaim: "groups", CAs: pool, Refetch: time.Nanosecond,
		Roles: []control.RoleMapping{
			{Value: "everybody", Role: control.Viewer}, {Value: "oncall", Role: control.Operator},
			{Value: "docs-leads", Role: control.Viewer, Services: []string{"docs", "chat"}}, {Value: "docs-leads", Role: control.Approver, Services: []string{"docs"}},
		},
	}
}

func (p *idp) people(change ...func(*control.OIDCConfig)) *control.OIDC {
	p.t.Helper()
	cfg := p.config()
	for _, c := range change {
		c(&cfg)
	}
	o, err := control.NewOIDC(cfg)
	require.NoError(p.t, err)
	return o
}

func TestATokensClaimsBecomeRoles(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	people := p.people()
	for name, tc := range map[string]struct {
		groups any
		want   control.Caller
	}{
		"one role in all services": {[]any{"oncall"}, control.Caller{Role: control.Operator}},
		"the greater one":          {[]any{"everybody", "oncall"}, control.Caller{Role: control.Operator}},
		"one text":                 {"everybody", control.Caller{Role: control.Viewer}},
		"roles in services":        {[]any{"docs-leads"}, control.Caller{Services: map[string]control.Role{"docs": control.Approver, "chat": control.Viewer}}},
		"values that mean nothing": {[]any{"admin", "Oncall", 7, nil}, control.Caller{}},
		"no list":                  {map[string]any{"oncall": true}, control.Caller{}},
		"nothing":                  {nil, control.Caller{}},
	} {
		caller, until, err := people.Identify(t.Context(), p.good(func(c map[string]any) { c["groups"] = tc.groups }))
		require.NoError(t, err, name)
		tc.want.Name = "dora"
		if tc.want.Services == nil {
			tc.want.Services = map[string]control.Role{}
		}
		require.Equal(t, tc.want, caller, name)
		require.WithinDuration(t, time.Now().Add(time.Hour), until, time.Minute, name)
	}
}

func TestATokenThatIsNotGoodLetsNobodyIn(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	people := p.people()
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	rs256 := map[string]any{"alg": "RS256", "kid": p.kid}
	publicAsSecret := func(signed []byte) []byte {
		mac := hmac.New(sha256.New, x509.MarshalPKCS1PublicKey(&p.key.PublicKey))
		mac.Write(signed)
		return mac.Sum(nil)
	}
	nothing := func([]byte) []byte { return nil }
	with := func(key string, value any) string {
		return p.good(func(c map[string]any) {
			if c[key] = value; value == nil {
				delete(c, key)
			}
		})
	}
	changed := p.good(nil)
	for name, token := range map[string]string{
		"expired":                    with("exp", time.Now().Add(-time.Minute).Unix()),
		"without an end":             with("exp", nil),
		"not yet good":               with("nbf", time.Now().Add(time.Hour).Unix()),
		"for somebody else":          with("aud", "another"),
		"for nobody":                 with("aud", nil),
		"of another issuer":          with("iss", "https://evil.example"),
		"of an issuer like it":       with("iss", p.URL+"/"),
		"of nobody":                  with("name", nil),
		"with a name that is none":   with("name", 7),
		"with a name over two lines": with("name", "dora\nadmin"),
		"not signed":                 p.token(map[string]any{"alg": "none"}, p.claims(nil), nothing),
		"not signed, in other words": p.token(map[string]any{"alg": "None", "kid": p.kid}, p.claims(nil), nothing),
		"without its signature":      p.token(rs256, p.claims(nil), nothing),
		"signed by a stranger":       p.token(rs256, p.claims(nil), p.rs256(stranger)),
		"of an unknown key":          p.token(map[string]any{"alg": "RS256", "kid": "two"}, p.claims(nil), p.rs256(stranger)),
		"of the public key, as HMAC": p.token(map[string]any{"alg": "HS256", "kid": p.kid}, p.claims(nil), publicAsSecret),
		"changed":                    changed[:len(changed)-8] + "AAAAAAAA",
		"no token":                   "a.b.c",
		"two dots":                   "..",
		"endless":                    p.good(func(c map[string]any) { c["more"] = string(make([]byte, 20<<10)) }),
	} {
		caller, _, err := people.Identify(t.Context(), token)
		require.True(t, lifecycle.Is(err, lifecycle.Refused), "%s: %v", name, err)
		require.NotContains(t, err.Error(), token, name)
		require.Empty(t, caller.Role, name)
	}
	unverified := p.people(func(c *control.OIDCConfig) { c.NameClaim = "email" })
	_, _, err = unverified.Identify(t.Context(), p.good(func(c map[string]any) { c["email"], c["email_verified"] = "dora@example.org", false }))
	require.ErrorContains(t, err, "not verified")
}

func TestAProvidersKeysMayChange(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	people := p.people()
	before := p.good(nil)
	_, _, err := people.Identify(t.Context(), before)
	require.NoError(t, err)
	p.rotate("two")
	_, _, err = people.Identify(t.Context(), p.good(nil))
	require.NoError(t, err, "an unknown key is asked for")
	require.Eventually(t, func() bool { // the new keys are kept a moment after they were used
		_, _, err = people.Identify(t.Context(), before)
		return lifecycle.Is(err, lifecycle.Refused)
	}, patience, 10*time.Millisecond, "a key that was taken back is good for nothing: %v", err)
}

func TestAProviderThatIsAwayIsNoAnswer(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	p.broken.Store(true)
	people := p.people()
	_, _, err := people.Identify(t.Context(), p.good(nil))
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	p.broken.Store(false)
	_, _, err = people.Identify(t.Context(), p.good(nil))
	require.NoError(t, err, "it is asked again")
	p.broken.Store(true)
	_, _, err = people.Identify(t.Context(), p.good(nil))
	require.NoError(t, err, "keys that are known go on")
	p.rotate("two")
	_, _, err = people.Identify(t.Context(), p.good(nil))
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
}

func TestStrangersDoNotMakeTheProviderBusy(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	people := p.people(func(c *control.OIDCConfig) { c.Refetch = time.Hour })
	_, _, err := people.Identify(t.Context(), p.good(nil))
	require.NoError(t, err)
	for range 20 {
		_, _, err := people.Identify(t.Context(), p.token(map[string]any{"alg": "RS256", "kid": rand.Text()}, p.claims(nil), p.rs256(p.key)))
		require.Error(t, err)
	}
	require.Equal(t, int64(1), p.asked.Load())
	_, _, err = people.Identify(t.Context(), p.good(nil))
	require.NoError(t, err)
}

func TestFaultsOfAProvidersSettingsAreTold(t *testing.T) {
	t.Parallel()
	_, err := control.NewOIDC(control.OIDCConfig{Issuer: "http://idp.example", Roles: []control.RoleMapping{{Value: "x", Role: "root"}}})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	for _, want := range []string{"control.oidc.issuer", "control.oidc.audience", "x as root"} {
		require.ErrorContains(t, err, want)
	}
}
