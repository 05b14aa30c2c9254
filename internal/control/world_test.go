package control_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

const (
	svc      = "docs"
	patience = 30 * time.Second
)

// world is a registry with one service, and where asked a Temporal namespace, that no other test sees.
type world struct {
	registrytest.Database
	t         *testing.T
	ctx       context.Context
	control   *control.Control
	temporal  client.Client // nil without
	namespace string
	public    ed25519.PublicKey
}

func newWorld(t *testing.T, change ...func(*control.Config)) *world {
	t.Helper()
	t.Parallel()
	w := &world{Database: registrytest.New(t), t: t, ctx: t.Context()}
	captured, err := capture.Open(w.ctx, capture.Config{URL: w.AppURL})
	require.NoError(t, err)
	t.Cleanup(captured.Close)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	w.public = public
	cfg := control.Config{
		Registry: w.Registry, Captured: captured, Namespace: "nowhere", TemporalUI: "http://ui.test", GrantKey: private,
	}
	for _, c := range change {
		c(&cfg)
	}
	w.control = control.New(cfg)
	return w
}

// withTemporal gives the world a namespace of its own on the stack's Temporal.
func withTemporal(t *testing.T) func(*control.Config) {
	t.Helper()
	return func(cfg *control.Config) {
		cfg.Namespace = "control-" + strings.ToLower(rand.Text()[:12])
		cfg.Temporal = newNamespace(t, cfg.Namespace)
	}
}

func newTemporalWorld(t *testing.T) *world {
	t.Helper()
	var temporal client.Client
	var namespace string
	w := newWorld(t, withTemporal(t), func(cfg *control.Config) { temporal, namespace = cfg.Temporal, cfg.Namespace })
	w.temporal, w.namespace = temporal, namespace
	return w
}

func newNamespace(t *testing.T, name string) client.Client {
	t.Helper()
	var stack struct {
		Temporal struct {
			Address string `json:"address"`
		} `json:"temporal"`
	}
	raw, err := os.ReadFile(os.Getenv("REFIT_TEST_STACK"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &stack))
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: stack.Temporal.Address})
	require.NoError(t, err)
	defer namespaces.Close()
	require.NoError(t, namespaces.Register(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}))
	temporal, err := client.Dial(client.Options{HostPort: stack.Temporal.Address, Namespace: name, Logger: silent{}})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	require.Eventually(t, func() bool { return control.CheckNamespace(t.Context(), temporal, name) == nil }, patience, 50*time.Millisecond)
	return temporal
}

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// as is a caller with a role.
func as(role control.Role) control.Caller {
	return control.Caller{Name: "alice", Role: role, Via: "cli"}
}

// do does a use case that must succeed.
func do[In, Out any](w *world, u control.UseCase[In, Out], in In) Out {
	w.t.Helper()
	out, err := u.Do(w.ctx, w.control, as(control.Admin), in)
	require.NoError(w.t, err)
	return out
}

// refused does a use case that must fail with a kind, and gives the message.
func refused[In, Out any](w *world, kind lifecycle.Kind, u control.UseCase[In, Out], in In) string {
	w.t.Helper()
	_, err := u.Do(w.ctx, w.control, as(control.Admin), in)
	require.Error(w.t, err)
	require.Equal(w.t, kind, lifecycle.KindOf(err), err.Error())
	return err.Error()
}

// apply declares the service; change may alter it first.
func (w *world) apply(change ...func(*lifecycle.Service)) control.ApplyResult {
	w.t.Helper()
	service := registrytest.Service(svc)
	for _, c := range change {
		c(&service)
	}
	return do(w, control.Apply, control.ApplyInput{Service: service})
}

// serve makes releases 1 and 2, and 1 the stable one, under a promotion claim that it gives.
func (w *world) serve() (stable, candidate lifecycle.Digest, claim lifecycle.Claim) {
	w.t.Helper()
	w.apply()
	by := lifecycle.Actor{Name: "test"}
	var err error
	stable, err = w.Registry.AddRelease(w.ctx, registrytest.Release(svc, 1), by)
	require.NoError(w.t, err)
	candidate, err = w.Registry.AddRelease(w.ctx, registrytest.Release(svc, 2), by)
	require.NoError(w.t, err)
	claim, err = w.Registry.TakeClaim(w.ctx, svc, lifecycle.PromotionLoop, w.owner(), by)
	require.NoError(w.t, err)
	_, err = w.Registry.SetFirstStable(w.ctx, registry.FirstStable{Service: svc, Fence: claim.Fence, Release: stable, By: by})
	require.NoError(w.t, err)
	return stable, candidate, claim
}

func (w *world) owner() lifecycle.Owner {
	return lifecycle.Owner{Namespace: "nowhere", WorkflowID: "promote/" + svc, FirstRunID: "run-1"}
}

// canary puts the candidate at a share.
func (w *world) canary(candidate lifecycle.Digest, claim lifecycle.Claim, share lifecycle.BasisPoints) lifecycle.Route {
	w.t.Helper()
	by := lifecycle.Actor{Name: "test"}
	require.NoError(w.t, w.Registry.StartRollout(w.ctx, registry.RolloutStart{
		Service: svc, Fence: claim.Fence, ID: claim.Owner.FirstRunID, Release: candidate, Owner: claim.Owner, By: by,
	}))
	route, err := w.Registry.SetShare(w.ctx, registry.ShareChange{
		Service: svc, Fence: claim.Fence, Rollout: claim.Owner.FirstRunID, Share: share, By: by, Reason: "test",
	})
	require.NoError(w.t, err)
	return route
}

// report is what a gateway says of the route.
func (w *world) report(gateway string, route lifecycle.Route) {
	w.t.Helper()
	require.NoError(w.t, w.Registry.ReportGateway(w.ctx, registry.GatewayReport{
		Service: svc, Gateway: gateway, Epoch: route.Epoch, Generation: route.Generation, Started: time.Now(),
	}))
}
