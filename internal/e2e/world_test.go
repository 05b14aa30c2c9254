package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// world is everything that one test has of its own.
type world struct {
	ground
	t        *testing.T
	dir      string
	service  string
	binary   string
	env      []string
	registry *registry.Registry
	temporal client.Client

	controlURL string
	gateways   []*gateway
	worker     *process
	console    *process
}

// gateway is a gateway's process with the address that it listens on.
type gateway struct {
	*process
	address string
}

// newWorld makes a world on the ground. Nothing runs in it yet.
func newWorld(t *testing.T, g ground) *world {
	t.Helper()
	w := &world{ground: g, t: t, dir: t.TempDir(), service: "docs", binary: program(t, "refit")}
	control := freeAddress(t)
	w.controlURL = "http://" + control
	w.env = append(clean(os.Environ()),
		"REFIT_DATA="+w.path("data"), "REFIT_LOG_LEVEL=debug",
		"REFIT_REGISTRY_URL="+g.appURL, "REFIT_REGISTRY_ROLLBACK_URL="+g.rollbackURL,
		"REFIT_TEMPORAL_ADDRESS="+g.Temporal.Address, "REFIT_TEMPORAL_NAMESPACE="+g.namespace, "REFIT_TEMPORAL_UI="+g.Temporal.UIURL,
		"REFIT_S3_ENDPOINT="+g.S3.Endpoint, "REFIT_S3_BUCKET="+g.bucket,
		"REFIT_S3_ACCESS_KEY="+g.S3.AccessKey, "REFIT_S3_SECRET_KEY="+g.S3.SecretKey,
		"REFIT_CONTROL_LISTEN="+control, "REFIT_CONTROL_URL="+w.controlURL, "REFIT_CONTROL_TOKEN_FILE="+w.path("data", "control-token"),
		"REFIT_WORKER_DATA_ROOTS="+w.path("corpora"), "REFIT_WORKER_DRAIN=5s",
		"REFIT_SIGNING_PRIVATE_KEY_FILE="+w.path("signing.pem"), "REFIT_SIGNING_PUBLIC_KEY_FILES="+w.path("signing.pub.pem"),
		"REFIT_WORKER_RUNTIME="+filepath.Join(filepath.Dir(w.binary), "refit-runtime"), "REFIT_GATEWAY_KEY_FILE="+w.path("gateway.key"),
	)
	for _, folder := range []string{"data", "corpora", "logs"} {
		require.NoError(t, os.MkdirAll(w.path(folder), 0o700))
	}
	require.NoError(t, os.WriteFile(w.path("gateway.key"), []byte(rand.Text()+rand.Text()), 0o600))
	signer := w.makeSigningKeys()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	w.registry, err = registry.Open(ctx, registry.Config{URL: g.appURL, MaxConns: 8, Signer: signer})
	require.NoError(t, err)
	t.Cleanup(w.registry.Close)
	w.temporal, err = client.DialContext(ctx, client.Options{HostPort: g.Temporal.Address, Namespace: g.namespace, Logger: silent{}})
	require.NoError(t, err)
	t.Cleanup(w.temporal.Close)
	t.Cleanup(func() { clearProcesses(t, w.dir) })
	w.console = newProcess(t, w.path("logs"), "console", w.env, w.binary, "console")
	w.worker = newProcess(t, w.path("logs"), "worker", w.env, w.binary, "worker")
	return w
}

// makeSigningKeys makes the keys of this world's artifacts and releases. The test signs with them what it adds itself.
func (w *world) makeSigningKeys() ed25519.PrivateKey {
	w.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(w.t, err)
	write := func(name, kind string, raw []byte, err error) {
		require.NoError(w.t, err)
		require.NoError(w.t, os.WriteFile(w.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600))
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	write("signing.pem", "PRIVATE KEY", raw, err)
	raw, err = x509.MarshalPKIXPublicKey(public)
	write("signing.pub.pem", "PUBLIC KEY", raw, err)
	return private
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.dir}, elements...)...)
}

// clean drops what the developer's own shell says about Refit.
func clean(environ []string) []string {
	var kept []string
	for _, line := range environ {
		if !strings.HasPrefix(line, "REFIT_") {
			kept = append(kept, line)
		}
	}
	return kept
}

// silent keeps the test's own Temporal client quiet.
type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// startConsole starts the control API and waits until it answers.
func (w *world) startConsole() {
	w.t.Helper()
	w.console.start()
	w.awaitOK(w.controlURL + "/healthz")
}

// addGateway starts one more gateway, with a data folder and a name of its own and what is given of its environment, and
// waits until it listens.
func (w *world) addGateway(own ...string) *gateway {
	w.t.Helper()
	name := fmt.Sprintf("gateway-%d", len(w.gateways)+1)
	address := freeAddress(w.t)
	env := append(append([]string{}, w.env...), "REFIT_DATA="+w.path(name), "REFIT_GATEWAY_LISTEN="+address, "REFIT_GATEWAY_ID="+name)
	env = append(env, own...)
	g := &gateway{newProcess(w.t, w.path("logs"), name, env, w.binary, "gateway"), address}
	w.gateways = append(w.gateways, g)
	g.start()
	w.awaitOK("http://" + address + "/healthz")
	return g
}

func (w *world) addresses() []string {
	var list []string
	for _, g := range w.gateways {
		list = append(list, g.address)
	}
	return list
}

// awaitServing waits until every gateway can answer.
func (w *world) awaitServing() {
	w.t.Helper()
	for _, address := range w.addresses() {
		w.awaitOK("http://" + address + "/readyz")
	}
}

func (w *world) awaitOK(url string) {
	w.t.Helper()
	await(w.t, url, func() (bool, any) {
		answer, err := http.Get(url)
		if err != nil {
			return false, err
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK, answer.Status
	})
}

// outcome is how a command ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// try runs a command of refit to its end.
func (w *world) try(args ...string) outcome {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stdout, stderr, code, err := run(ctx, w.env, append([]string{w.binary}, args...)...)
	require.NoError(w.t, err, "refit %s\n%s\n%s", strings.Join(args, " "), stdout, stderr)
	return outcome{stdout, stderr, code}
}

// refit runs a command that must end well, and reads its JSON where into is given.
func (w *world) refit(into any, args ...string) {
	w.t.Helper()
	o := w.try(append(args, "-o", "json")...)
	require.Zero(w.t, o.code, "refit %s\n%s\n%s", strings.Join(args, " "), o.stdout, o.stderr)
	if into != nil {
		require.NoError(w.t, json.Unmarshal([]byte(o.stdout), into), o.stdout)
	}
}

// apply declares the service.
func (w *world) apply(yaml string) {
	w.t.Helper()
	file := w.path("service.yaml")
	require.NoError(w.t, os.WriteFile(file, []byte(yaml), 0o600))
	w.refit(nil, "apply", file)
}

// writeCorpus writes a folder of short documents in words that say little. The same seed gives the same text.
func (w *world) writeCorpus(name string, documents int, seed uint64) string {
	w.t.Helper()
	random := mathrand.New(mathrand.NewPCG(seed, 11))
	dir := w.path("corpora", name)
	require.NoError(w.t, os.MkdirAll(dir, 0o700))
	for i := range documents {
		var text strings.Builder
		for range 6 {
			line := make([]string, 8+random.IntN(7))
			for j := range line {
				line[j] = vocabulary[random.IntN(len(vocabulary))]
			}
			line[0] = strings.ToUpper(line[0][:1]) + line[0][1:]
			text.WriteString(strings.Join(line, " ") + ". ")
		}
		file := filepath.Join(dir, fmt.Sprintf("note-%03d.txt", i))
		require.NoError(w.t, os.WriteFile(file, []byte(text.String()+"\n"), 0o600))
	}
	return dir
}

// release adds a release that differs by the given name and gives its ID and served name. Its weights are nowhere
// but on the test's model server.
func (w *world) release(name string) (lifecycle.Digest, string) {
	w.t.Helper()
	r := lifecycle.Release{Service: w.service, Model: lifecycle.DigestOf([]byte(w.namespace + name))}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := w.registry.AddRelease(ctx, r, lifecycle.Actor{Name: "test"})
	require.NoError(w.t, err)
	return id, r.ServedName()
}

func (w *world) route() lifecycle.Route {
	w.t.Helper()
	var route lifecycle.Route
	await(w.t, "the route to be read", func() (bool, any) { // connections of before a kill fail once
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var err error
		route, err = w.registry.Route(ctx, w.service)
		return err == nil, err
	})
	return route
}
