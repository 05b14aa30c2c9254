package console_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/console"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry/registrytest"
)

// provider knows the bearer of one token.
type provider struct {
	token string
	until time.Time
	away  bool
}

func (p *provider) Identify(_ context.Context, token string) (control.Caller, time.Time, error) {
	switch {
	case p.away:
		return control.Caller{}, time.Time{}, lifecycle.Errorf(lifecycle.Unavailable, "it is away")
	case token != p.token:
		return control.Caller{}, time.Time{}, lifecycle.Errorf(lifecycle.Refused, "the token is not good")
	}
	return control.Caller{Name: "dora", Services: map[string]control.Role{"docs": control.Admin}}, p.until, nil
}

func TestBearersOfAProvidersTokensComeIn(t *testing.T) {
	people := &provider{token: "head." + rand.Text() + ".sign"}
	f := newFace(t, func(c *console.Config) { c.People = people })
	people.until = f.now.Add(time.Hour)
	ctx := t.Context()
	dora := control.Client{URL: f.url, Token: people.token}
	_, err := control.Call(ctx, dora, control.Apply, control.ApplyInput{Service: registrytest.Service("docs")})
	require.NoError(t, err)
	ledger, err := control.Call(ctx, dora, control.Ledger, control.LedgerInput{Service: "docs"})
	require.NoError(t, err)
	require.Equal(t, lifecycle.Actor{Name: "dora", Via: "cli"}, ledger[0].Actor)
	_, err = control.Call(ctx, dora, control.Apply, control.ApplyInput{Service: registrytest.Service("other")})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	_, err = control.Call(ctx, f.as(control.Admin), control.Apply, control.ApplyInput{Service: registrytest.Service("other")})
	require.NoError(t, err, "the console's own tokens go on")

	for _, token := range []string{"a.b.c", "no-such-token-at-all"} {
		_, err = control.Call(ctx, control.Client{URL: f.url, Token: token}, control.Services, struct{}{})
		require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	}
	cookie := f.post("/sign-in", url.Values{"token": {people.token + "\n"}}).Result().Cookies()[0]
	page := f.get("/", there, "refit.example", cookie)
	require.Equal(t, http.StatusOK, page.Code)
	require.Contains(t, page.Body.String(), "docs")
	require.NotContains(t, page.Body.String(), "other", "what she may not see is not shown")
	f.now = f.now.Add(61 * time.Minute)
	require.Equal(t, http.StatusSeeOther, f.get("/", there, "refit.example", cookie).Code, "a session ends with its token")

	people.away = true
	_, err = control.Call(ctx, dora, control.Services, struct{}{})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	require.Equal(t, http.StatusServiceUnavailable, f.post("/sign-in", url.Values{"token": {people.token}}).Code)
	_, err = control.Call(ctx, f.as(control.Viewer), control.Services, struct{}{})
	require.NoError(t, err, "without the provider the console's own tokens go on")
}

func TestTokensMayBeForSomeServices(t *testing.T) {
	t.Parallel()
	secret := rand.Text()
	require.NoError(t, console.CheckTokens([]console.Token{{Name: "dora", Services: map[string]control.Role{"docs": control.Operator}, Secret: secret}}))
	err := console.CheckTokens([]console.Token{
		{Name: "a", Services: map[string]control.Role{"docs": "root"}, Secret: rand.Text()},
		{Name: "b", Services: map[string]control.Role{"Not A Name": control.Viewer}, Secret: rand.Text()},
		{Name: "c", Secret: rand.Text()},
	})
	for _, want := range []string{"control.tokens.a.services: docs: root", "control.tokens.b.services", "control.tokens.c: role "} {
		require.ErrorContains(t, err, want)
	}
	require.False(t, strings.Contains(err.Error(), secret))
}
