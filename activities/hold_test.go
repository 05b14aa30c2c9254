package activities_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// canary is a rollout with its share out.
type canary struct {
	*world
	promotion activities.Promotion
	log       *logged
	in        steps.HoldInput
	stable    lifecycle.Digest
}

const patience = 30 * time.Second

func newCanary(t *testing.T, share lifecycle.BasisPoints, owner lifecycle.Owner) *canary {
	t.Helper()
	c := &canary{world: newWorld(t), log: newLogged()}
	declared := service("docs")
	declared.Rollout = lifecycle.RolloutPolicy{
		Steps:   []lifecycle.StepPolicy{{Share: share, MinConversations: 50, MaxTime: lifecycle.Duration(time.Hour)}},
		Metrics: []lifecycle.MetricPolicy{{Name: "errors", Required: true, Floor: 0.2}, {Name: "slow"}},
	}
	declared = c.apply(t, declared)
	ids := make([]lifecycle.Digest, 2)
	for i := range ids {
		var err error
		ids[i], err = c.Registry.AddRelease(t.Context(), lifecycle.Release{Service: "docs", Model: lifecycle.DigestOf(fmt.Append(nil, i))}, by)
		require.NoError(t, err)
	}
	claim, err := c.Registry.TakeClaim(t.Context(), "docs", lifecycle.PromotionLoop, owner, by)
	require.NoError(t, err)
	_, err = c.Registry.SetFirstStable(t.Context(), registry.FirstStable{Service: "docs", Fence: claim.Fence, Release: ids[0], By: by, Reason: "first"})
	require.NoError(t, err)
	c.promotion = activities.Promotion{Registry: c.Registry, Captured: c.captured, Look: 20 * time.Millisecond, Log: slog.New(c.log)}
	_, err = do(t, steps.StartRollout, c.promotion.StartRollout, steps.RolloutInput{Service: "docs", Claim: claim, Release: ids[1], By: by})
	require.NoError(t, err)
	_, err = do(t, steps.SetShare, c.promotion.SetShare, steps.ShareInput{Service: "docs", Claim: claim, Share: share, By: by, Reason: "step 1"})
	require.NoError(t, err)
	c.stable = ids[0]
	c.in = steps.HoldInput{Service: "docs", Claim: claim, Release: ids[1], Policy: declared.Rollout}
	return c
}

func someOwner() lifecycle.Owner {
	return lifecycle.Owner{Namespace: "refit", WorkflowID: "promote/docs", FirstRunID: "run-" + rand.Text()}
}

// converse captures n conversations of one request each, every second one on the canary. Their gateway knows them all.
func (c *canary) converse(t *testing.T, n int, change func(i int, served *lifecycle.Interaction)) {
	t.Helper()
	batch := make([]lifecycle.Interaction, n)
	prefix := rand.Text()
	for i := range batch {
		batch[i] = lifecycle.Interaction{
			ID: fmt.Sprintf("%s-%d", prefix, i), Service: "docs", Conversation: fmt.Sprintf("%s-%d", prefix, i),
			Rollout: c.in.Claim.Owner.FirstRunID, Canary: i%2 == 1, Coin: true, Propensity: 0.5, Endpoint: "chat", Outcome: "ok", Status: 200,
			Started: time.Now().Add(time.Duration(i) * time.Millisecond), Latency: lifecycle.Latency{Total: 0.1},
			Usage: lifecycle.Usage{Prompt: 3, Completion: 4},
		}
		if change != nil {
			change(i, &batch[i])
		}
	}
	require.NoError(t, c.captured.AddInteractions(t.Context(), batch))
	c.know(t, time.Now().Add(time.Hour))
}

// know lets the gateway say until when it is known who tossed.
func (c *canary) know(t *testing.T, until time.Time) {
	t.Helper()
	require.NoError(t, c.Registry.ReportGateway(t.Context(), registry.GatewayReport{Service: "docs", Gateway: "gw-0", Started: until, Known: until}))
}

func (c *canary) hold(t *testing.T) (steps.HoldResult, error) {
	t.Helper()
	return do(t, steps.HoldStep, c.promotion.HoldStep, c.in)
}

// holding is a hold that goes on while the test does other things.
type holding struct {
	*try
	ended  chan struct{}
	result steps.HoldResult
	err    error
}

func (c *canary) start() *holding {
	h := &holding{try: newTry(), ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		h.result, h.err = on(h.try, steps.HoldStep, c.promotion.HoldStep, c.in)
	}()
	return h
}

func (h *holding) wait(t *testing.T) steps.HoldResult {
	t.Helper()
	select {
	case <-h.ended:
	case <-time.After(patience):
		require.Fail(t, "the hold did not end")
	}
	require.NoError(t, h.err)
	return h.result
}

func (c *canary) lease(t *testing.T) int64 {
	t.Helper()
	route, err := c.Registry.Route(t.Context(), "docs")
	require.NoError(t, err)
	return route.Lease
}

func (c *canary) awaitRenewal(t *testing.T) {
	t.Helper()
	before := c.lease(t)
	require.Eventually(t, func() bool { return c.lease(t) > before }, patience, 10*time.Millisecond)
}

func TestAStepEndsWellOnItsEvidence(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	before := c.lease(t)
	c.converse(t, 120, nil)
	out, err := c.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldEnough, out.Reason, out.Verdict.Reason)
	require.Equal(t, lifecycle.Promote, out.Verdict.Decision)
	require.Equal(t, int64(120), out.Verdict.Conversations)
	require.Equal(t, int64(60), out.Verdict.Canary)
	require.Equal(t, &lifecycle.ShareSeen{Requests: 120, Canary: 60, Reached: 5000, Highest: 5000, Window: 120}, out.Verdict.Share)
	require.Equal(t, lifecycle.Touched{Conversations: 60, Requests: 60, Tokens: 420}, out.Evidence)
	require.Greater(t, c.lease(t), before, "the lease was renewed")
}

func TestHarmEndsAStepAlsoWhilePaused(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	c.converse(t, 120, nil)
	c.in.Paused = true
	h := c.start()
	c.awaitRenewal(t) // the evidence is enough, and the pause holds it
	c.converse(t, 120, func(_ int, i *lifecycle.Interaction) {
		if i.Canary {
			i.Outcome, i.Status = "error", 502
		}
	})
	out := h.wait(t)
	require.Equal(t, steps.HoldHarm, out.Reason, out.Verdict.Reason)
	require.Contains(t, out.Verdict.Reason, "errors (60 on the canary, 0 on stable")
	require.GreaterOrEqual(t, out.Verdict.Metrics[0].Ratio.Low, 1.0, "the interval says so, too")
}

func TestWhatBothSidesSufferIsNoHarm(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	c.converse(t, 200, func(_ int, i *lifecycle.Interaction) { i.Outcome, i.Status = "error", 502 })
	c.in.Policy.Steps[0].MaxTime = lifecycle.Duration(time.Millisecond)
	out, err := c.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldTime, out.Reason, out.Verdict.Reason)
}

func TestTimeAloneNeverPromotes(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	c.in.Policy.Steps[0].MaxTime = lifecycle.Duration(time.Millisecond)
	out, err := c.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldTime, out.Reason)
	require.Equal(t, lifecycle.RollBack, out.Verdict.Decision)
	require.Contains(t, out.Verdict.Reason, "0 of 50 conversations on the canary")
	c.in.Policy.AtBound = "ask"
	out, err = c.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldTime, out.Reason)
	require.Equal(t, lifecycle.Hold, out.Verdict.Decision)
}

func TestAFencedHoldEnds(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	h := c.start()
	c.awaitRenewal(t)
	_, _, err := c.Registry.RollBack(t.Context(), registry.Rollback{Service: "docs", By: by, Reason: "a person"})
	require.NoError(t, err)
	out := h.wait(t)
	require.Equal(t, steps.HoldFenced, out.Reason)
	require.NotEmpty(t, out.Verdict.Reason)
}

func TestMoreThanAllowedIsInvalid(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 1000, someOwner())
	c.converse(t, 60, func(_ int, i *lifecycle.Interaction) { i.Canary, i.Propensity = true, 0.25 })
	out, err := c.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldInvalid, out.Reason, out.Verdict.Reason)
	require.True(t, out.Verdict.Invalid)
	require.Equal(t, lifecycle.BasisPoints(10_000), out.Verdict.Share.Reached)
}

func TestAStepWaitsForWhatItsGatewaysKnow(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	c.converse(t, 120, nil)
	c.know(t, time.Time{})
	h := c.start()
	c.awaitRenewal(t)
	c.awaitRenewal(t)
	select {
	case <-h.ended:
		require.Fail(t, "it ended", "%+v %v", h.result, h.err)
	default:
	}
	c.know(t, time.Now().Add(time.Hour))
	require.Equal(t, steps.HoldEnough, h.wait(t).Reason)
}

// reports lets a gateway report again and again, each time with so many more requests.
func (c *canary) reports(t *testing.T, h *holding, requests, onCanary int64, each func()) {
	t.Helper()
	report := registry.GatewayReport{Service: "docs", Gateway: "gw-1", Started: time.Now(), Known: time.Now().Add(time.Hour)}
	ticker := time.NewTicker(30 * time.Millisecond)
	defer ticker.Stop()
	for {
		require.NoError(t, c.Registry.ReportGateway(t.Context(), report))
		report.Requests += requests
		report.CanaryRequests += onCanary
		if each != nil {
			each()
		}
		select {
		case <-ticker.C:
		case <-h.ended:
			return
		}
	}
}

func TestAGatewayOverTheBoundIsInvalid(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 1000, someOwner())
	h := c.start()
	c.reports(t, h, 10, 5, nil)
	out := h.wait(t)
	require.Equal(t, steps.HoldInvalid, out.Reason, out.Verdict.Reason)
	require.Contains(t, out.Verdict.Reason, "over its bound")
}

// onServers puts the canary's weights on a model server that counts.
func (c *canary) onServers(t *testing.T) (servers *models, name string) {
	t.Helper()
	servers = newModels(t)
	_, release, err := c.Registry.Release(t.Context(), "docs", string(c.in.Release))
	require.NoError(t, err)
	name = release.ServedName()
	servers.serve(name, 3) // the warm-up
	require.NoError(t, c.Registry.SetEndpoints(t.Context(), "docs", c.in.Release, []lifecycle.Endpoint{
		{Release: c.in.Release, URL: servers.url, Model: name, Capacity: 2, Ready: true, Attribution: "verified"},
	}))
	return servers, name
}

func TestModelServersThatServedMoreThanWasSentAreInvalid(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 1000, someOwner())
	servers, name := c.onServers(t)
	h := c.start()
	c.reports(t, h, 10, 1, func() { servers.serve(name, 4) }) // one sent, four served
	out := h.wait(t)
	require.Equal(t, steps.HoldInvalid, out.Reason, out.Verdict.Reason)
	require.NotNil(t, out.Verdict.Share.Served)
	require.Positive(t, *out.Verdict.Share.Served)
}

func TestModelServersThatServedWhatWasSentAreNot(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 1000, someOwner())
	servers, name := c.onServers(t)
	h := c.start()
	rounds := 0
	c.reports(t, h, 10, 1, func() {
		servers.serve(name, 1)
		if rounds++; rounds == 60 {
			c.converse(t, 120, nil) // ends the step
		}
	})
	out := h.wait(t)
	require.Equal(t, steps.HoldEnough, out.Reason, out.Verdict.Reason)
	require.Greater(t, *out.Verdict.Share.Served, int64(20))
}

func TestWithoutTheServersCountAStepDoesNotEndWell(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	require.NoError(t, c.Registry.SetEndpoints(t.Context(), "docs", c.in.Release, []lifecycle.Endpoint{
		{Release: c.in.Release, URL: "http://127.0.0.1:1", Model: "refit-gone", Capacity: 2, Ready: true, Attribution: "verified"},
	}))
	c.converse(t, 120, nil)
	h := c.start()
	c.log.await(t, "what the model servers served cannot be read")
	servers, _ := c.onServers(t)
	require.NotNil(t, servers)
	require.Equal(t, steps.HoldEnough, h.wait(t).Reason)
}

func TestTheNextTryGoesOnWithTheClock(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	next := newTry()
	next.env.SetHeartbeatDetails(map[string]any{
		"elapsed_ns": 2 * time.Hour, "renewed": time.Now().Add(-time.Minute), "served": 7,
	})
	out, err := on(next, steps.HoldStep, c.promotion.HoldStep, c.in)
	require.NoError(t, err)
	require.Equal(t, steps.HoldTime, out.Reason)
	require.Contains(t, out.Verdict.Reason, "the step's time of 1h0m0s is over")

	require.Eventually(t, func() bool {
		ledger, err := c.Registry.Ledger(t.Context(), registry.LedgerQuery{Service: "docs"})
		require.NoError(t, err)
		for _, entry := range ledger {
			if entry.Kind == lifecycle.LeaseLapsed {
				return strings.Contains(entry.Reason, "not renewed for 1m")
			}
		}
		return false
	}, patience, 10*time.Millisecond, "the lapse in between stands in the ledger")
}

func TestAWorkerThatStopsLeavesTheStepToTheNext(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	h := c.start()
	c.awaitRenewal(t)
	close(h.stop)
	<-h.ended
	require.True(t, lifecycle.KindOf(h.err).Retryable(), "%v", h.err)
}

func TestARegistryThatIsAwayEndsNothing(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	between := newCut(t, c.db.AppURL)
	away, err := registry.Open(t.Context(), registry.Config{URL: between.url, MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(away.Close)
	captured, err := capture.Open(t.Context(), capture.Config{URL: between.url})
	require.NoError(t, err)
	t.Cleanup(captured.Close)
	c.promotion.Registry, c.promotion.Captured = away, captured

	h := c.start()
	c.awaitRenewal(t)
	between.cut()
	c.log.await(t, "the evidence cannot be read")
	c.log.await(t, "lease is not renewed")
	c.converse(t, 120, nil)
	select {
	case <-h.ended:
		require.Fail(t, "the hold ended", "%v %v", h.result, h.err)
	default:
	}
	between.mend()
	require.Equal(t, steps.HoldEnough, h.wait(t).Reason, "the evidence was kept")
}

// TestATerminatedRunKeepsNoShare asks a real server whether the run goes on; nobody works on it.
func TestATerminatedRunKeepsNoShare(t *testing.T) {
	t.Parallel()
	temporalClient := dial(t)
	id := "test-terminated-" + rand.Text()
	run, err := temporalClient.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: id}, "Nobody")
	require.NoError(t, err)
	c := newCanary(t, 5000, lifecycle.Owner{Namespace: "refit", WorkflowID: id, FirstRunID: run.GetRunID()})
	c.promotion.Temporal = temporalClient
	h := c.start()
	c.awaitRenewal(t)
	require.NoError(t, temporalClient.TerminateWorkflow(t.Context(), id, "", "a person in the UI"))
	before := c.lease(t)
	c.log.await(t, "is not running")
	require.LessOrEqual(t, c.lease(t), before+1, "at most one renewal was on its way")
	close(h.stop)
	<-h.ended
}

// logged keeps what was logged, so that a test can wait for it.
type logged struct {
	slog.Handler
	out *locked
}

type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func newLogged() *logged {
	out := &locked{}
	return &logged{Handler: slog.NewTextHandler(out, nil), out: out}
}

func (l *logged) await(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.out.mu.Lock()
		defer l.out.mu.Unlock()
		return strings.Contains(l.out.buf.String(), text)
	}, patience, 10*time.Millisecond, text)
}
