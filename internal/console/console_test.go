package console_test

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/console"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

// face is a console over a registry of its own, with a token for each role.
type face struct {
	t       *testing.T
	handler http.Handler
	url     string
	secrets map[control.Role]string
	now     time.Time
	data    registrytest.Database
}

var roles = []control.Role{control.Viewer, control.Operator, control.Approver, control.Admin}

func newFace(t *testing.T, change func(*console.Config)) *face {
	t.Helper()
	t.Parallel()
	f := &face{t: t, secrets: map[control.Role]string{}, now: time.Now(), data: registrytest.New(t)}
	cfg := console.Config{
		Control: control.New(control.Config{Registry: f.data.Registry, TemporalUI: "http://ui.test", Namespace: "ns"}),
		Now:     func() time.Time { return f.now },
	}
	for _, role := range roles {
		f.secrets[role] = rand.Text()
		cfg.Tokens = append(cfg.Tokens, console.Token{Name: "a " + string(role), Role: role, Secret: f.secrets[role]})
	}
	if change != nil {
		change(&cfg)
	}
	f.handler = console.New(cfg)
	server := httptest.NewServer(f.handler)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *face) as(role control.Role) control.Client {
	return control.Client{URL: f.url, Token: f.secrets[role]}
}

// get asks for a page as a browser does that comes from and asks for the given addresses.
func (f *face) get(path, from, host string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	f.t.Helper()
	return f.send(httptest.NewRequest(http.MethodGet, path, nil), from, host, cookies...)
}

func (f *face) post(path string, form url.Values, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return f.send(r, "192.0.2.7:1234", "refit.example", cookies...)
}

func (f *face) send(r *http.Request, from, host string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r.RemoteAddr, r.Host = from, host
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

const here, there = "127.0.0.1:4711", "192.0.2.7:4711"

func TestUseCasesTravel(t *testing.T) {
	f := newFace(t, nil)
	ctx := t.Context()
	applied, err := control.Call(ctx, f.as(control.Admin), control.Apply, control.ApplyInput{Service: registrytest.Service("docs")})
	require.NoError(t, err)
	require.Equal(t, 1, applied.Version.Version)
	status, err := control.Call(ctx, f.as(control.Viewer), control.Status, control.StatusInput{Service: "docs"})
	require.NoError(t, err)
	require.Equal(t, control.NoWayBack, status.WayBack.Speed)
	ledger, err := control.Call(ctx, f.as(control.Viewer), control.Ledger, control.LedgerInput{Service: "docs"})
	require.NoError(t, err)
	require.Equal(t, lifecycle.Actor{Name: "a admin", Via: "cli"}, ledger[0].Actor, "who did it is who bears the token")
}

// A failure comes back as what it was: kind, message and fields.
func TestProblemsTravel(t *testing.T) {
	f := newFace(t, nil)
	ctx := t.Context()
	_, err := control.Call(ctx, f.as(control.Viewer), control.Status, control.StatusInput{Service: "nobody"})
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
	require.ErrorContains(t, err, "nobody")

	_, err = control.Call(ctx, f.as(control.Viewer), control.Promote, control.PromoteInput{Service: "docs"})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	require.ErrorContains(t, err, "needs role operator")
	_, err = control.Call(ctx, f.as(control.Operator), control.Approve, control.ApproveInput{Service: "docs"})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	_, err = control.Call(ctx, f.as(control.Approver), control.Apply, control.ApplyInput{})
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	_, err = control.Call(ctx, f.as(control.Operator), control.Promote, control.PromoteInput{Service: "Docs"})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)

	for name, client := range map[string]control.Client{
		"another token": {URL: f.url, Token: rand.Text()}, "no token": {URL: f.url},
	} {
		_, err = control.Call(ctx, client, control.Services, struct{}{})
		require.True(t, lifecycle.Is(err, lifecycle.Refused), "%s: %v", name, err)
		require.ErrorContains(t, err, "control.token_file")
	}
	_, err = control.Call(ctx, control.Client{URL: "http://127.0.0.1:1", Token: "x"}, control.Services, struct{}{})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	_, err = control.Call(ctx, control.Client{URL: f.url + "/elsewhere", Token: "x"}, control.Services, struct{}{})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "what is no control API is not believed: %v", err)

	claim := func(id string) (lifecycle.Claim, error) {
		return f.data.Registry.TakeClaim(ctx, "docs", lifecycle.PromotionLoop,
			lifecycle.Owner{Namespace: "ns", WorkflowID: id, FirstRunID: "r"}, lifecycle.Actor{Name: "test"})
	}
	_, err = control.Call(ctx, f.as(control.Admin), control.Apply, control.ApplyInput{Service: registrytest.Service("docs")})
	require.NoError(t, err)
	_, err = claim("one")
	require.NoError(t, err)
	_, err = claim("two")
	var busy *lifecycle.Error
	require.ErrorAs(t, err, &busy)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write(mustJSON(t, control.AsProblem(err)))
	}))
	t.Cleanup(server.Close)
	_, again := control.Call(ctx, control.Client{URL: server.URL}, control.Services, struct{}{})
	var came *lifecycle.Error
	require.ErrorAs(t, again, &came)
	require.Equal(t, busy.Fields, came.Fields)
	require.Equal(t, "one", came.Fields["workflow_id"])
}

func TestInputThatIsTooLarge(t *testing.T) {
	f := newFace(t, nil)
	r := httptest.NewRequest(http.MethodPost, "/api/v1/status", strings.NewReader(strings.Repeat(" ", 2<<20)))
	r.Header.Set("Authorization", "Bearer "+f.secrets[control.Admin])
	w := f.send(r, here, "127.0.0.1")
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Equal(t, http.StatusNotFound, f.post("/api/v1/nothing", nil).Code)
}

func TestThePageIsForThisMachineOrWhoSignedIn(t *testing.T) {
	f := newFace(t, nil)
	for name, tc := range map[string]struct {
		from, host string
		want       int
	}{
		"a browser here":                       {here, "127.0.0.1:8090", http.StatusOK},
		"a browser here, by name":              {here, "localhost:8090", http.StatusOK},
		"a browser here, IPv6":                 {"[::1]:4711", "[::1]:8090", http.StatusOK},
		"a browser elsewhere":                  {there, "refit.example:8090", http.StatusSeeOther},
		"one elsewhere that claims to be here": {there, "127.0.0.1:8090", http.StatusSeeOther},
		"a page of others that points here":    {here, "evil.example:8090", http.StatusSeeOther},
	} {
		w := f.get("/", tc.from, tc.host)
		require.Equal(t, tc.want, w.Code, name)
		if tc.want == http.StatusSeeOther {
			require.Equal(t, "/sign-in", w.Header().Get("Location"))
			require.NotContains(t, w.Body.String(), "Ledger")
		}
	}
	proxied := httptest.NewRequest(http.MethodGet, "/", nil)
	proxied.Header.Set("X-Forwarded-For", "192.0.2.7")
	require.Equal(t, http.StatusSeeOther, f.send(proxied, here, "127.0.0.1:8090").Code, "a proxy of this machine brings others")
}

func TestSignInCanBeAskedOfEverybody(t *testing.T) {
	f := newFace(t, func(c *console.Config) { c.SignIn = true })
	require.Equal(t, http.StatusSeeOther, f.get("/", here, "127.0.0.1:8090").Code)
}

func TestSigningInAndOut(t *testing.T) {
	f := newFace(t, nil)
	require.Equal(t, http.StatusOK, f.get("/sign-in", there, "refit.example").Code)
	wrong := f.post("/sign-in", url.Values{"token": {rand.Text()}})
	require.Equal(t, http.StatusUnauthorized, wrong.Code)
	require.Empty(t, wrong.Result().Cookies())

	right := f.post("/sign-in", url.Values{"token": {f.secrets[control.Operator]}})
	require.Equal(t, http.StatusSeeOther, right.Code)
	cookie := right.Result().Cookies()[0]
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
	require.NotContains(t, cookie.Value, f.secrets[control.Operator])

	page := f.get("/", there, "refit.example", cookie)
	require.Equal(t, http.StatusOK, page.Code)
	require.Contains(t, page.Body.String(), "a operator (operator)")
	require.Equal(t, http.StatusSeeOther, f.get("/", there, "refit.example", &http.Cookie{Name: cookie.Name, Value: "guess"}).Code)
	r := httptest.NewRequest(http.MethodPost, "/api/v1/services", strings.NewReader("{}"))
	require.Equal(t, http.StatusUnauthorized, f.send(r, there, "refit.example", cookie).Code, "the API takes no cookie")

	f.now = f.now.Add(12 * time.Hour)
	require.Equal(t, http.StatusSeeOther, f.get("/", there, "refit.example", cookie).Code, "it ends by itself")

	cookie = f.post("/sign-in", url.Values{"token": {f.secrets[control.Viewer]}}).Result().Cookies()[0]
	require.Equal(t, http.StatusOK, f.get("/", there, "refit.example", cookie).Code)
	require.Equal(t, http.StatusSeeOther, f.post("/sign-out", nil, cookie).Code)
	require.Equal(t, http.StatusSeeOther, f.get("/", there, "refit.example", cookie).Code)
}

func TestFormsOfOthersAreRefused(t *testing.T) {
	f := newFace(t, nil)
	r := httptest.NewRequest(http.MethodPost, "/sign-in", strings.NewReader("token="+f.secrets[control.Admin]))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://evil.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := f.send(r, there, "refit.example")
	require.Equal(t, http.StatusForbidden, w.Code)
	require.Empty(t, w.Result().Cookies())
}

// judge plays a rollout of a second release, of which a step was judged.
func (f *face) judge(stable lifecycle.Digest) {
	f.t.Helper()
	ctx, r, by := f.t.Context(), f.data.Registry, lifecycle.Actor{Name: "test"}
	candidate, err := r.AddRelease(ctx, registrytest.Release("docs", 2), by)
	require.NoError(f.t, err)
	claim, err := r.TakeClaim(ctx, "docs", lifecycle.PromotionLoop, lifecycle.Owner{Namespace: "ns", WorkflowID: "promote/docs", FirstRunID: "p"}, by)
	require.NoError(f.t, err)
	_, err = r.SetFirstStable(ctx, registry.FirstStable{Service: "docs", Fence: claim.Fence, Release: stable, By: by})
	require.NoError(f.t, err)
	typed := lifecycle.Actor{Name: "eve", Via: lifecycle.ViaWorkflow}
	require.NoError(f.t, r.StartRollout(ctx, registry.RolloutStart{Service: "docs", Fence: claim.Fence, ID: "p", Release: candidate, Owner: claim.Owner, By: typed}))
	require.NoError(f.t, r.RecordShadow(ctx, "docs", claim.Fence, "p", lifecycle.ShadowRecord{Share: 1000, Verdict: lifecycle.ShadowVerdict{
		Decision: lifecycle.Promote, Reason: "the pairs say so", Pairs: 104, Scored: 100, Difference: -0.125,
	}}))
	require.NoError(f.t, r.RecordStep(ctx, "docs", claim.Fence, "p", lifecycle.StepRecord{Verdict: lifecycle.StepVerdict{
		Decision: lifecycle.Promote, Reason: "all proven", Metrics: []lifecycle.MetricVerdict{
			{Metric: "errors", Ratio: lifecycle.Interval{Low: 0.4, High: 1.9, LowLevel: 0.05, HighLevel: 0.05}, Tolerated: 1, Margin: 3},
		},
	}}))
	_, _, err = r.RollBack(ctx, registry.Rollback{Service: "docs", Fence: claim.Fence, Rollout: "p", By: by, Reason: "test over"})
	require.NoError(f.t, err)
}

func TestThePageShowsAServiceAndRunsNoScript(t *testing.T) {
	f := newFace(t, nil)
	ctx := t.Context()
	service := registrytest.Service("docs")
	_, err := f.data.Registry.ApplyService(ctx, service, lifecycle.Actor{Name: `<script>alert("x")</script>`})
	require.NoError(t, err)
	id, err := f.data.Registry.AddRelease(ctx, registrytest.Release("docs", 1), lifecycle.Actor{Name: "test"})
	require.NoError(t, err)
	_, err = f.data.Registry.AddEvaluation(ctx, lifecycle.Verdict{
		Service: "docs", Candidate: id, Suite: lifecycle.DigestOf([]byte("suite")), Outcome: lifecycle.RegressOutcome, Reasons: []string{"three got worse"},
	}, lifecycle.Actor{Name: "test"})
	require.NoError(t, err)
	_, err = f.data.Registry.TakeClaim(ctx, "docs", lifecycle.IndexLoop, lifecycle.Owner{Namespace: "ns", WorkflowID: "index/docs", FirstRunID: "r"}, lifecycle.Actor{Name: "test"})
	require.NoError(t, err)
	f.judge(id)

	w := f.get("/", here, "127.0.0.1:8090")
	body := w.Body.String()
	for _, want := range []string{
		"started by said to be eve (not proven)", "<td>said to be eve (not proven)</td>", "errors: the canary&#39;s risk is 0.4 to 1.9 times stable&#39;s", "the pairs say so", "-0.125", "docs", "there is no release to go back to", "three got worse", "regress", "release-added",
		"http://ui.test/namespaces/ns/workflows/index%2Fdocs/r", "no worker answers",
		"workflowType=PromoteRelease", "{&#34;service&#34;: &#34;docs&#34;}",
	} {
		require.Contains(t, body, want)
	}
	require.NotContains(t, body, "<script")
	require.NotContains(t, body, "style=")
	policy := w.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	style := f.get("/style.css", there, "refit.example")
	require.Equal(t, http.StatusOK, style.Code)
	require.Contains(t, style.Header().Get("Content-Type"), "text/css")
}

func TestThePageSaysWhatItCouldNotRead(t *testing.T) {
	f := newFace(t, nil)
	f.data.Registry.Close()
	w := f.get("/", here, "127.0.0.1:8090")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "could not be read")
	require.NotContains(t, w.Body.String(), "No service is declared")
}

func TestMetricsAndHealthAskNobody(t *testing.T) {
	f := newFace(t, func(c *console.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("refit_up 1\n")) })
	})
	require.Equal(t, "refit_up 1\n", f.get("/metrics", there, "refit.example").Body.String())
	require.Equal(t, http.StatusOK, f.get("/healthz", there, "refit.example").Code)
	require.Equal(t, http.StatusNotFound, f.get("/other", there, "refit.example").Code)
}

func TestTokensAreChecked(t *testing.T) {
	t.Parallel()
	secret := rand.Text()
	require.NoError(t, console.CheckTokens([]console.Token{{Name: "a", Role: control.Admin, Secret: secret}}))
	err := console.CheckTokens([]console.Token{
		{Name: "a", Role: control.Admin, Secret: secret},
		{Name: "b", Role: "root", Secret: secret},
		{Name: "c", Role: control.Viewer, Secret: "short-secret"},
		{Role: control.Viewer, Secret: rand.Text()},
	})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	for _, want := range []string{"control.tokens.b: role root", "control.tokens.b: its secret", "control.tokens.c: its secret", "without a name"} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), secret)
	require.NotContains(t, err.Error(), "short-secret")
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	raw, err := json.Marshal(value)
	require.NoError(t, err)
	return raw
}

func TestThePageOfAMomentShowsWhatServed(t *testing.T) {
	f := newFace(t, nil)
	service := registrytest.Service("docs")
	by := lifecycle.Actor{Name: "<b>ann</b>"}
	_, err := f.data.Registry.ApplyService(t.Context(), service, by)
	require.NoError(t, err)
	id, err := f.data.Registry.AddRelease(t.Context(), registrytest.Release("docs", 1), by)
	require.NoError(t, err)
	claim, err := f.data.Registry.TakeClaim(t.Context(), "docs", lifecycle.PromotionLoop, lifecycle.Owner{Namespace: "n", WorkflowID: "w", FirstRunID: "r"}, by)
	require.NoError(t, err)
	_, err = f.data.Registry.SetFirstStable(t.Context(), registry.FirstStable{Service: "docs", Fence: claim.Fence, Release: id, By: by, Reason: "first"})
	require.NoError(t, err)
	f.now = time.Now().Add(time.Minute)

	const host = "127.0.0.1:80"
	page := f.get("/served?service=docs", here, host)
	require.Equal(t, http.StatusOK, page.Code)
	require.Contains(t, page.Body.String(), string(id))
	require.Contains(t, page.Body.String(), "&lt;b&gt;ann")
	require.NotContains(t, page.Body.String(), "<b>ann")
	require.Contains(t, f.get("/", here, host).Body.String(), `href="/served?service=docs"`)
	before := f.get("/served?service=docs&at=2020-01-01T00:00", here, host)
	require.Equal(t, http.StatusOK, before.Code)
	require.Contains(t, before.Body.String(), "none yet")
	require.Equal(t, http.StatusNotFound, f.get("/served?service=nobody", here, host).Code)
	require.Equal(t, http.StatusBadRequest, f.get("/served?service=docs&at=yesterday", here, host).Code)
	require.Equal(t, http.StatusSeeOther, f.get("/served?service=docs", "192.0.2.7:1", "refit.example").Code, "strangers sign in first")
}
