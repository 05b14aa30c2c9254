package control_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// modelServer is a server that lists one model, or answers with a status of its own.
func modelServer(t *testing.T, model string, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		if r.URL.Path == "/v1/models" && status == http.StatusOK {
			fmt.Fprintf(w, `{"data": [{"id": %q}]}`, model)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (w *world) endpoint(release lifecycle.Digest, url, model, attribution string) {
	w.t.Helper()
	require.NoError(w.t, w.Registry.SetEndpoints(w.ctx, svc, release, []lifecycle.Endpoint{
		{Release: release, URL: url, Model: model, Capacity: 1, Ready: true, Attribution: attribution},
	}))
}

func TestStatusOfAServiceWithoutARelease(t *testing.T) {
	w := newWorld(t)
	w.apply()
	s := do(w, control.Status, control.StatusInput{Service: svc})
	require.Equal(t, 1, s.Version)
	require.Equal(t, control.NoWayBack, s.WayBack.Speed)
	require.Equal(t, "nothing serves", s.Attribution, "nothing is never verified")
	require.Empty(t, s.Loops)
	refused(w, lifecycle.NotFound, control.Status, control.StatusInput{Service: "nobody"})
}

// The way back is as fast as the servers of the release to go back to are there, whatever the record says.
func TestWayBack(t *testing.T) {
	const model = "refit-0123456789ab"
	for name, tc := range map[string]struct {
		engine string
		url    func(t *testing.T) string // of the server that the record calls ready; nil: there is none
		want   string
	}{
		"its server answers":              {"static", func(t *testing.T) string { return modelServer(t, model, 200) }, "instant"},
		"its server asks for a key":       {"static", func(t *testing.T) string { return modelServer(t, model, 401) }, "instant"},
		"its server serves another model": {"static", func(t *testing.T) string { return modelServer(t, "other", 200) }, "none"},
		"its server fails":                {"static", func(t *testing.T) string { return modelServer(t, model, 500) }, "none"},
		"its server is gone":              {"static", func(*testing.T) string { return "http://127.0.0.1:1" }, "none"},
		"it is not loaded":                {"local", nil, "about 2 min: must load"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			stable, candidate, claim := w.serve()
			w.apply(func(s *lifecycle.Service) {
				s.Serving.Engine = tc.engine
				if tc.engine == "local" {
					s.Serving.Endpoints = nil
				}
			})
			for digest, size := range map[lifecycle.Digest]int64{
				lifecycle.DigestOf([]byte("model 1")): 4 << 30, lifecycle.DigestOf([]byte("model 2")): 1 << 20,
			} {
				require.NoError(t, w.Registry.AddArtifact(w.ctx, lifecycle.Artifact{
					ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: digest}, Service: svc, Size: size, Files: 1,
				}))
			}
			if tc.url != nil {
				w.endpoint(stable, tc.url(t), model, "verified")
			}
			w.canary(candidate, claim, 500)
			s := do(w, control.Status, control.StatusInput{Service: svc})
			require.Equal(t, stable, s.WayBack.To, "with a canary out the way back is to stable")
			require.Equal(t, tc.want, s.WayBack.Speed, s.WayBack.Why)

			_, err := w.Registry.Promote(w.ctx, registry.Promotion{Service: svc, Fence: claim.Fence, Rollout: claim.Owner.FirstRunID})
			require.NoError(t, err)
			s = do(w, control.Status, control.StatusInput{Service: svc})
			require.Equal(t, stable, s.WayBack.To, "after a promotion it is to the release before")
			require.Equal(t, tc.want, s.WayBack.Speed)
		})
	}
}

func TestAttributionIsNeverGuessed(t *testing.T) {
	w := newWorld(t)
	stable, candidate, claim := w.serve()
	attribution := func() string { return do(w, control.Status, control.StatusInput{Service: svc}).Attribution }
	require.Equal(t, "unknown", attribution(), "stable without a server")
	w.endpoint(stable, "http://127.0.0.1:1", "m", "verified")
	require.Equal(t, "verified", attribution())
	w.canary(candidate, claim, 500)
	require.Equal(t, "unknown", attribution(), "a canary without a server")
	w.endpoint(candidate, "http://127.0.0.1:2", "m", "unverified")
	require.Equal(t, "unverified", attribution())
}

func TestStatusNamesGatewaysThatAreBehind(t *testing.T) {
	w := newWorld(t)
	_, candidate, claim := w.serve()
	before, err := w.Registry.Route(w.ctx, svc)
	require.NoError(t, err)
	after := w.canary(candidate, claim, 500)
	w.report("g1", after)
	w.report("g2", before)
	s := do(w, control.Status, control.StatusInput{Service: svc})
	require.Len(t, s.Gateways, 2)
	require.Equal(t, []string{"g2"}, s.Behind)
	require.Equal(t, lifecycle.BasisPoints(500), s.Route.Share)
	require.Equal(t, lifecycle.RolloutRunning, s.Rollout.Phase)
	require.Len(t, s.Loops, 1)
	require.Equal(t, lifecycle.PromotionLoop, s.Loops[0].Claim.Loop)
	require.Nil(t, s.Loops[0].State, "without Temporal nobody says how it stands")
	require.Contains(t, s.Loops[0].URL, "promote%2Fdocs/run-1")
}

func TestRollbackReturnsWhenEveryLiveGatewayHasAppliedIt(t *testing.T) {
	w := newWorld(t)
	stable, candidate, claim := w.serve()
	route := w.canary(candidate, claim, 500)
	w.report("g1", route)
	refused(w, lifecycle.Invalid, control.Rollback, control.RollbackInput{Service: svc})

	type end struct {
		out control.RollbackResult
		err error
	}
	ended := make(chan end, 1)
	go func() {
		out, err := control.Rollback.Do(w.ctx, w.control, as(control.Operator), control.RollbackInput{Service: svc, Reason: "it stammers"})
		ended <- end{out, err}
	}()
	var now lifecycle.Route
	require.Eventually(t, func() bool {
		var err error
		now, err = w.Registry.Route(w.ctx, svc)
		return err == nil && now.Canary == ""
	}, patience, 10*time.Millisecond)
	select {
	case e := <-ended:
		t.Fatalf("returned before the gateway applied it: %+v", e)
	default:
	}
	w.report("g1", now)
	e := <-ended
	require.NoError(t, e.err)
	require.Equal(t, stable, e.out.Route.Stable)
	require.Equal(t, 1, e.out.Live)
	require.Greater(t, e.out.Fence, claim.Fence, "it took a new fence")
	_, err := w.Registry.RenewLease(w.ctx, svc, claim.Fence)
	require.True(t, lifecycle.Is(err, lifecycle.Fenced), "the promotion can change nothing any more: %v", err)
}

func TestLedgerGivesTheNewestOrWhatFollows(t *testing.T) {
	w := newWorld(t)
	w.serve()
	all := do(w, control.Ledger, control.LedgerInput{Service: svc})
	require.Greater(t, len(all), 3)
	newest := do(w, control.Ledger, control.LedgerInput{Service: svc, Limit: 2})
	require.Equal(t, all[len(all)-2:], newest)
	require.Equal(t, all[1:3], do(w, control.Ledger, control.LedgerInput{Service: svc, After: 1, Limit: 2}))
	require.Equal(t, all[:1], do(w, control.Ledger, control.LedgerInput{Service: svc, Kinds: []lifecycle.LedgerKind{lifecycle.ServiceApplied}}))
}
