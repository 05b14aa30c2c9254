package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

const (
	patience = time.Minute
	tick     = 20 * time.Millisecond
)

// site is the settings of one installation: a data folder, and where asked a piece of the stack.
type site struct {
	t      *testing.T
	dir    string
	values map[string]map[string]any
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{t: t, dir: t.TempDir(), values: map[string]map[string]any{
		"registry": {"url": "postgres://nobody@127.0.0.1:1/none"},
		"temporal": {"address": "127.0.0.1:1", "namespace": "none"},
		"s3":       {"endpoint": "127.0.0.1:1"},
		"gateway":  {"listen": "127.0.0.1:0"},
		"control":  {"listen": "127.0.0.1:0"},
		"worker":   {"drain": "1s"},
		"signing":  {"off": true},
	}}
}

// onStack gives the site a database, a Temporal namespace and a bucket's name of its own.
func (s *site) onStack() registrytest.Database {
	s.t.Helper()
	database := registrytest.New(s.t)
	var stack struct {
		Temporal struct {
			Address string `json:"address"`
			UI      string `json:"ui_url"`
		} `json:"temporal"`
		S3 struct {
			Endpoint  string `json:"endpoint"`
			AccessKey string `json:"access_key"`
			SecretKey string `json:"secret_key"`
		} `json:"s3"`
	}
	raw, err := os.ReadFile(os.Getenv("REFIT_TEST_STACK"))
	require.NoError(s.t, err)
	require.NoError(s.t, json.Unmarshal(raw, &stack))
	name := "refit-cmd-" + strings.ToLower(rand.Text()[:12])
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: stack.Temporal.Address})
	require.NoError(s.t, err)
	defer namespaces.Close()
	require.NoError(s.t, namespaces.Register(s.t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}))
	require.Eventually(s.t, func() bool { _, err := namespaces.Describe(s.t.Context(), name); return err == nil }, patience, tick)
	s.values["registry"] = map[string]any{"url": database.AppURL, "owner_url": database.OwnerURL, "rollback_url": database.RollbackURL}
	s.values["temporal"] = map[string]any{"address": stack.Temporal.Address, "namespace": name, "ui": stack.Temporal.UI}
	s.values["s3"] = map[string]any{
		"endpoint": stack.S3.Endpoint, "access_key": stack.S3.AccessKey, "secret_key": stack.S3.SecretKey, "bucket": name,
	}
	return database
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// file writes the settings; JSON is YAML, too.
func (s *site) file() string {
	s.t.Helper()
	all := map[string]any{"data": s.dir}
	for room, values := range s.values {
		all[room] = values
	}
	raw, err := json.Marshal(all)
	require.NoError(s.t, err)
	path := s.path("settings.yaml")
	require.NoError(s.t, os.WriteFile(path, raw, 0o600))
	return path
}

// running is a refit with roles, in this process.
type running struct {
	t         *testing.T
	stop      context.CancelFunc
	addresses map[string]string
	out, log  *buffer
	ended     chan struct{}
	code      int
}

// buffer is written by one and read by another.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}
func (b *buffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.text.String() }

// start runs a role until the test ends or it is stopped, and waits until it says where it listens.
func (s *site) start(role string) *running {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: s.t, stop: stop, out: &buffer{}, log: &buffer{}, ended: make(chan struct{})}
	settings := s.file()
	go func() {
		defer close(r.ended)
		r.code = run(ctx, []string{role, "-o", "json", "--settings", settings}, r.out, r.log)
	}()
	s.t.Cleanup(func() {
		stop()
		<-r.ended
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", role, r.log)
		}
	})
	var said struct {
		Addresses map[string]string `json:"addresses"`
	}
	require.Eventually(s.t, func() bool { return json.Unmarshal([]byte(r.out.String()), &said) == nil || isClosed(r.ended) }, patience, tick)
	r.addresses = said.Addresses
	return r
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// end stops it as SIGTERM does and gives the exit code.
func (r *running) end() int {
	r.t.Helper()
	r.stop()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatalf("it did not stop:\n%s", r.log)
	}
	return r.code
}

func (r *running) says(text string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return strings.Contains(r.log.String(), text) }, patience, tick, "it never said %q", text)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

func TestUpRunsEverythingAndStopsCleanly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	database := s.onStack()
	delete(s.values, "signing") // as nobody said anything of it
	up := s.start("up")
	up.says("worker polls")
	up.says("asked for, by key")

	s.values["control"]["url"] = up.addresses["console"]
	settings := s.file()
	o := command(t.Context(), "apply", "../../configs/examples/docs-assistant.yaml", "--settings", settings)
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, "schedule docs-assistant/index created")
	o = command(t.Context(), "status", "docs-assistant", "--settings", settings)
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, "way back     none")
	require.Contains(t, o.out, "signatures   asked for, by key")

	info, err := os.Stat(s.path("control-token"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	for _, key := range []string{"grant-key.pem", "signing-key.pem"} {
		info, err = os.Stat(s.path(key))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}

	code, metrics := get(t, up.addresses["gateway"]+"/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, metrics, "refit_capture_payloads_dropped_total 0")
	require.Contains(t, metrics, `poller_type="workflow_task"`, "the Temporal SDK's numbers are there, too")
	code, page := get(t, up.addresses["console"]+"/")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, page, "docs-assistant")

	second := command(t.Context(), "worker", "--settings", settings)
	require.Equal(t, 2, second.code, "a role of its own names its keys: %s", second.errors)
	require.Contains(t, second.errors, "signing.off")
	s.values["signing"] = map[string]any{"private_key_file": s.path("signing-key.pem")}
	settings = s.file()
	second = command(t.Context(), "worker", "--settings", settings)
	require.Equal(t, 5, second.code, second.errors)
	require.Contains(t, second.errors, "a worker with this data folder runs already")

	// What the worker makes where it is missing.
	store, err := artifacts.Open(artifacts.Config{
		Endpoint: s.values["s3"]["endpoint"].(string), Bucket: s.values["s3"]["bucket"].(string),
		AccessKey: s.values["s3"]["access_key"].(string), SecretKey: s.values["s3"]["secret_key"].(string),
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, _, err := store.PutFiles(t.Context(), lifecycle.ReportArtifact, map[string][]byte{"report.json": []byte("{}")})
		return err == nil
	}, patience, tick, "the bucket is made")
	require.NotContains(t, up.log.String(), "runs without search attributes")

	require.Zero(t, up.end(), up.log)
	is, wanted, err := registry.SchemaVersion(t.Context(), database.OwnerURL)
	require.NoError(t, err)
	require.Equal(t, wanted, is)
	require.Zero(t, s.start("up").end(), "it starts again with what it left")
}

func TestMigrateByItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.onStack()
	o := command(t.Context(), "migrate", "-o", "json", "--settings", s.file())
	require.Zero(t, o.code, o.errors)
	var did migrated
	require.NoError(t, json.Unmarshal([]byte(o.out), &did))
	require.Equal(t, did.From, did.To)
	require.Positive(t, did.To)
}

// The way back with nothing but the role that may roll back: no console, no Temporal, no application's role.
func TestRollbackDirect(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	database := s.onStack()
	by, ctx := lifecycle.Actor{Name: "test"}, t.Context()
	service := registrytest.Service("docs")
	_, err := database.Registry.ApplyService(ctx, service, by)
	require.NoError(t, err)
	settings := func() string {
		s.values["registry"] = map[string]any{"rollback_url": database.RollbackURL}
		s.values["temporal"] = map[string]any{}
		return s.file()
	}()
	o := command(ctx, "rollback", "docs", "--direct", "--reason", "x", "--settings", settings)
	require.Equal(t, 5, o.code, "there is nothing to go back to: %s", o.errors)
	claim, err := database.Registry.TakeClaim(ctx, "docs", lifecycle.PromotionLoop, lifecycle.Owner{Namespace: "n", WorkflowID: "w", FirstRunID: "r"}, by)
	require.NoError(t, err)
	var ids []lifecycle.Digest
	for n := range 2 {
		id, err := database.Registry.AddRelease(ctx, registrytest.Release("docs", n), by)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	_, err = database.Registry.SetFirstStable(ctx, registry.FirstStable{Service: "docs", Fence: claim.Fence, Release: ids[0], By: by})
	require.NoError(t, err)
	require.NoError(t, database.Registry.StartRollout(ctx, registry.RolloutStart{Service: "docs", Fence: claim.Fence, ID: "r", Release: ids[1], Owner: claim.Owner, By: by}))
	_, err = database.Registry.SetShare(ctx, registry.ShareChange{Service: "docs", Fence: claim.Fence, Rollout: "r", Share: 500, By: by})
	require.NoError(t, err)

	o = command(ctx, "rollback", "docs", "--direct", "--reason", "it stammers", "-o", "json", "--settings", settings)
	require.Zero(t, o.code, o.errors)
	var route lifecycle.Route
	require.NoError(t, json.Unmarshal([]byte(o.out), &route))
	require.Equal(t, ids[0], route.Stable)
	require.Empty(t, route.Canary)
	entries, err := database.Registry.Ledger(ctx, registry.LedgerQuery{Service: "docs", Kinds: []lifecycle.LedgerKind{lifecycle.RolledBack}})
	require.NoError(t, err)
	require.Equal(t, "it stammers", entries[0].Reason)
	require.Equal(t, "direct", entries[0].Actor.Via)
}

func TestBusyPortsAreNamedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	s.values["gateway"]["listen"], s.values["control"]["listen"], s.values["worker"]["metrics"] = taken.Addr().String(), taken.Addr().String(), "127.0.0.1:http-alt-nope"
	o := command(t.Context(), "up", "--settings", s.file())
	require.Equal(t, 1, o.code)
	for _, want := range []string{
		"gateway.listen: " + taken.Addr().String() + " is in use", "REFIT_GATEWAY_LISTEN",
		"control.listen: " + taken.Addr().String() + " is in use", "REFIT_CONTROL_LISTEN", "worker.metrics",
	} {
		require.Contains(t, o.errors, want)
	}
	require.Empty(t, o.out)
	require.NoFileExists(t, s.path("control-token"), "nothing was started")
}

func TestSettingsFaultsComeAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.values = map[string]map[string]any{"worker": {"slots": 0, "data_roots": []string{"corpora"}}}
	o := command(t.Context(), "worker", "--settings", s.file())
	require.Equal(t, 2, o.code)
	for _, want := range []string{"registry.url", "s3.endpoint", "worker.slots", "worker.data_roots"} {
		require.Contains(t, o.errors, want)
	}
	s.values = map[string]map[string]any{"gatewy": {"listen": "x"}}
	o = command(t.Context(), "gateway", "--settings", s.file())
	require.Equal(t, 2, o.code)
	require.Contains(t, o.errors, "gatewy")
}

// Without PostgreSQL, Temporal and S3 every role starts, says what it waits for, and stops when it is asked to.
func TestWithoutServersItWaitsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.values["registry"]["owner_url"] = "postgres://nobody@127.0.0.1:1/none"
	up := s.start("up")
	up.says("PostgreSQL, to migrate the registry")
	code, _ := get(t, up.addresses["gateway"]+"/healthz")
	require.Equal(t, http.StatusOK, code, "the gateway lives")
	code, _ = get(t, up.addresses["gateway"]+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code, "it has nothing to serve yet")
	code, page := get(t, up.addresses["console"]+"/")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, page, "could not be read")
	require.Zero(t, up.end(), up.log)
}

func TestTheGatewayNeedsNeitherTemporalNorS3(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.values["temporal"], s.values["s3"] = map[string]any{"address": "", "namespace": ""}, map[string]any{}
	gateway := s.start("gateway")
	gateway.says("the registry")
	code, _ := get(t, gateway.addresses["gateway"]+"/healthz")
	require.Equal(t, http.StatusOK, code)
	require.Zero(t, gateway.end(), gateway.log)
}

func TestOneRoleThatFailsEndsTheProcess(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.onStack()
	s.values["temporal"]["namespace"] = "nowhere-at-all"
	up := s.start("up")
	select {
	case <-up.ended:
	case <-time.After(patience):
		t.Fatal("it goes on without its worker")
	}
	require.Equal(t, 2, up.code)
	require.Contains(t, up.out.String(), "worker: temporal.namespace: Temporal has no namespace nowhere-at-all")
}

func TestTokensOfOthersComeFromTheSettings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, os.WriteFile(s.path("viewer"), []byte(rand.Text()), 0o600))
	s.values["control"]["tokens"] = []any{map[string]any{"name": "vera", "role": "viewer", "secret": "file:" + s.path("viewer")}}
	console := s.start("console")
	s.values["control"]["url"], s.values["control"]["token_file"] = console.addresses["console"], s.path("viewer")
	o := command(t.Context(), "rollback", "docs", "--reason", "x", "--settings", s.file())
	require.Equal(t, 5, o.code)
	require.Contains(t, o.errors, `needs role operator; vera has role "viewer"`)
	require.Zero(t, console.end())

	s.values["control"]["tokens"] = []any{map[string]any{"name": "vera", "role": "chief", "secret": "env:REFIT_NOT_THERE"}}
	o = command(t.Context(), "console", "--settings", s.file())
	require.Equal(t, 2, o.code)
	require.Contains(t, o.errors, "REFIT_NOT_THERE")
}

func TestGrantKeysAreMadeOnceOrRead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := &process{}
	p.settings.Data = s.dir
	made, err := p.privateGrantKey()
	require.NoError(t, err)
	again, err := p.privateGrantKey()
	require.NoError(t, err)
	require.Equal(t, made, again)
	public, err := p.publicGrantKey()
	require.NoError(t, err)
	require.Equal(t, made.Public(), public)

	elsewhere := &process{}
	elsewhere.settings.Data = t.TempDir()
	elsewhere.settings.Grants.PublicKeyFile = s.path("grant-key.pub.pem")
	read, err := elsewhere.publicGrantKey()
	require.NoError(t, err)
	require.Equal(t, public, read)
	require.NoFileExists(t, filepath.Join(elsewhere.settings.Data, "grant-key.pem"), "who only checks has no key to sign with")

	elsewhere.settings.Grants.PrivateKeyFile = s.path("nowhere.pem")
	_, err = elsewhere.privateGrantKey()
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "what the settings name is not made: %v", err)
	require.NoError(t, os.WriteFile(s.path("bad.pem"), []byte("no key"), 0o600))
	elsewhere.settings.Grants.PrivateKeyFile, elsewhere.settings.Grants.PublicKeyFile = s.path("bad.pem"), s.path("bad.pem")
	_, err = elsewhere.privateGrantKey()
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	_, err = elsewhere.publicGrantKey()
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
}
