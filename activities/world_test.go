package activities_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry/registrytest"
	"github.com/refitml/refit/internal/steps"
)

// The test's own program serves as the shim of its jobs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "job-shim" {
		os.Exit(compute.ShimMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

var by = lifecycle.Actor{Name: "ada", Via: "cli"}

// world is a registry and a place in S3 that no other test sees.
type world struct {
	activities.Shelf
	db       registrytest.Database
	captured *capture.Store
	s3       artifacts.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{db: registrytest.New(t)}
	raw, err := os.ReadFile(os.Getenv("REFIT_TEST_STACK"))
	require.NoError(t, err)
	var stack struct {
		S3 struct {
			Endpoint  string `json:"endpoint"`
			AccessKey string `json:"access_key"`
			SecretKey string `json:"secret_key"`
			Bucket    string `json:"bucket"`
		} `json:"s3"`
	}
	require.NoError(t, json.Unmarshal(raw, &stack))
	w.s3 = artifacts.Config{
		Endpoint: stack.S3.Endpoint, AccessKey: stack.S3.AccessKey, SecretKey: stack.S3.SecretKey, Bucket: stack.S3.Bucket,
		Prefix: "test-activities/" + strings.ToLower(rand.Text()),
	}
	store, err := artifacts.Open(w.s3)
	require.NoError(t, err)
	require.NoError(t, store.EnsureBucket(t.Context()))
	cache, err := artifacts.NewCache(store, t.TempDir())
	require.NoError(t, err)
	w.Shelf = activities.Shelf{Registry: w.db.Registry, Store: store, Cache: cache, Scratch: t.TempDir()}
	w.captured, err = capture.Open(t.Context(), capture.Config{URL: w.db.AppURL})
	require.NoError(t, err)
	t.Cleanup(w.captured.Close)
	return w
}

// apply declares a service and gives it with its defaults.
func (w *world) apply(t *testing.T, service lifecycle.Service) lifecycle.Service {
	t.Helper()
	service = service.WithDefaults()
	_, err := w.Registry.ApplyService(t.Context(), service, by)
	require.NoError(t, err)
	return service
}

// put stores and records an artifact of small files.
func (w *world) put(t *testing.T, service string, kind lifecycle.ArtifactKind, labels map[string]string, files map[string]string) lifecycle.Digest {
	t.Helper()
	raw := map[string][]byte{}
	for name, content := range files {
		raw[name] = []byte(content)
	}
	ref, manifest, err := w.Store.PutFiles(t.Context(), kind, raw)
	require.NoError(t, err)
	require.NoError(t, w.Registry.AddArtifact(t.Context(), lifecycle.Artifact{
		ArtifactRef: ref, Service: service, Size: manifest.Size(), Files: len(manifest.Files), Labels: labels, MadeBy: by,
	}))
	return ref.Digest
}

// try is one try of a step in Temporal's test environment.
type try struct {
	env  *testsuite.TestActivityEnvironment
	stop chan struct{} // closed: the worker stops
}

func newTry() *try {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	suite.SetDisableRegistrationAliasing(true)
	t := &try{env: suite.NewTestActivityEnvironment(), stop: make(chan struct{})}
	t.env.SetWorkerStopChannel(t.stop)
	return t
}

// do runs a step as a worker does, with its name, its errors and its JSON.
func do[In, Out any](t *testing.T, step steps.Step[In, Out], with func(context.Context, In) (Out, error), in In) (Out, error) {
	t.Helper()
	return on(newTry(), step, with, in)
}

func on[In, Out any](t *try, step steps.Step[In, Out], with func(context.Context, In) (Out, error), in In) (Out, error) {
	var out Out
	step.Bind(registryOf{t.env}, with)
	value, err := t.env.ExecuteActivity(step.Name, in)
	if err != nil {
		return out, steps.FromTemporal(err)
	}
	return out, value.Get(&out)
}

// registryOf lets a step bind itself to the environment.
type registryOf struct {
	*testsuite.TestActivityEnvironment
}

func (registryOf) RegisterDynamicActivity(any, activity.DynamicRegisterOptions) {}

var _ worker.ActivityRegistry = registryOf{}

// service is a small declaration whose model servers the tests stand in for.
func service(name string) lifecycle.Service {
	return lifecycle.Service{
		Name:    name,
		Serving: lifecycle.Serving{Engine: "local"},
		Corpora: map[string]lifecycle.Corpus{"base": {Sources: []lifecycle.Source{{Kind: "folder", Path: "/data"}}}},
	}
}
