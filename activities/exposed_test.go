package activities

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// scene is a step of 10% with a B of 20 at one gateway, as gateways and servers tell it.
type scene struct {
	e      *exposed
	now    time.Time
	made   map[string]registry.GatewayReport
	pooled bool
}

func newScene() *scene {
	return &scene{e: newExposed(1000, lifecycle.Exposure{Band: 3, Cap: 60, Threshold: 12}, 0), now: time.Unix(1000, 0), made: map[string]registry.GatewayReport{}}
}

// gateway adds to what a gateway has counted, and reports.
func (s *scene) gateway(name string, requests, canary int64) {
	r, ok := s.made[name]
	if !ok {
		r = registry.GatewayReport{Gateway: name, Started: s.now, Pooled: s.pooled}
	}
	s.now = s.now.Add(time.Second)
	r.Requests, r.CanaryRequests, r.Reported = r.Requests+requests, r.CanaryRequests+canary, s.now
	s.made[name] = r
	var all []registry.GatewayReport
	for _, r := range s.made {
		all = append(all, r)
	}
	s.e.report(all)
}

func TestTheBoundHoldsOverEveryWindowOfReports(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.gateway("a", 5000, 500) // before this hold: whatever it was
	for range 50 {
		s.gateway("a", 100, 10)
	}
	s.gateway("a", 0, 20) // the whole cap at once
	require.Zero(t, s.e.overrun())
	s.gateway("a", 0, 1)
	require.InDelta(t, 1, s.e.overrun(), 1e-9, "one request is over")
	for range 50 {
		s.gateway("a", 100, 0)
	}
	require.InDelta(t, 1, s.e.overrun(), 1e-9, "and stays so")
}

func TestTheBoundIsEachGatewaysOwn(t *testing.T) {
	t.Parallel()
	s := newScene()
	for _, name := range []string{"a", "b"} {
		s.gateway(name, 0, 0)
	}
	s.gateway("a", 0, 20)
	s.gateway("b", 0, 20)
	require.Zero(t, s.e.overrun())
	s.e.report(append([]registry.GatewayReport{}, s.made["a"], s.made["b"]))
	require.Zero(t, s.e.overrun(), "a report that is there still is no new one")
}

func TestGatewaysThatShareAPoolAreHeldToOneBound(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.pooled = true
	names := []string{"a", "b", "c"}
	for _, name := range names {
		s.gateway(name, 0, 0)
	}
	for range 50 {
		s.gateway("a", 30, 0)
		s.gateway("b", 30, 9) // one may serve what the others earned
		s.gateway("c", 30, 0)
	}
	require.Zero(t, s.e.overrun())
	// B of three is 25, and reports of three moments may be 3·0.1·30 requests of each apart.
	s.gateway("a", 0, 25+27-3) // 3 are there from b's last
	require.Zero(t, s.e.overrun())
	s.gateway("b", 0, 1)
	require.InDelta(t, 1, s.e.overrun(), 1e-9, "one request is over")

	four := newScene()
	four.pooled = true
	for range 3000 { // 40% where 10% were meant, one request after the other
		four.gateway("a", 10, 4)
	}
	require.Greater(t, four.e.overrun(), 8000.0)
}

func TestServersAreHeldAgainstReportsThatCameLater(t *testing.T) {
	t.Parallel()
	s := newScene()
	const slack = 4
	s.gateway("a", 0, 0)
	s.e.read(100, slack) // the base
	s.e.read(110, slack) // ten more, not reported yet
	s.gateway("a", 100, 0)
	s.e.read(110, slack)
	require.Zero(t, s.e.overrun(), "one report may have been on its way")
	s.gateway("a", 100, 10)
	s.e.read(110, slack)
	require.Zero(t, s.e.overrun())

	s.e.read(120, slack)
	for range 2 {
		s.gateway("a", 100, 1)
	}
	s.e.read(120, slack)
	require.InDelta(t, 20-12-slack, s.e.overrun(), 1e-9)
	served, ok := s.e.servedSoFar()
	require.True(t, ok)
	require.Equal(t, int64(20), served)
}

func TestWhatIsNotKnownIsNotHeldAgainstServers(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.gateway("a", 0, 0)
	s.e.read(0, 0)
	s.e.read(50, 0)
	s.gateway("b", 0, 0) // it may have sent some of the fifty
	s.e.read(60, 0)
	for range 3 {
		s.gateway("a", 10, 0)
		s.gateway("b", 10, 0)
		s.e.read(60, 0)
	}
	require.Zero(t, s.e.overrun(), "a new gateway begins the check anew")
	s.e.read(3, 0) // the server was started again
	delete(s.made, "a")
	for range 3 {
		s.gateway("b", 10, 0)
		s.e.read(3, 0)
	}
	require.Zero(t, s.e.overrun(), "so does one that went, and a server's restart")
	served, _ := s.e.servedSoFar()
	require.Equal(t, int64(50), served, "what was counted stays counted")
}

func TestSlownessIsHeldAgainstStableBefore(t *testing.T) {
	t.Parallel()
	began := time.Unix(2000, 0)
	var captured []capture.Conversation
	for i := range 100 {
		captured = append(captured, capture.Conversation{Coin: true, Propensity: 0.5, Started: began.Add(time.Duration(i) * time.Second),
			Latency: time.Second, Answered: began.Add(time.Duration(i+1) * time.Second)})
	}
	captured = append(captured, capture.Conversation{Canary: true, Coin: true, Propensity: 0.5, Started: began.Add(200 * time.Second),
		Latency: 3 * time.Second, Answered: began.Add(203 * time.Second)})
	out, err := judged(captured, began.Add(50*time.Second))
	require.NoError(t, err)
	for i, c := range out[:100] {
		require.NotContains(t, c.Events, slowMetric)
		require.Equal(t, i >= 50, c.Open, "conversation %d", i)
	}
	require.Equal(t, began.Add(203*time.Second).UnixMicro(), out[100].Events[slowMetric])
}

func TestNothingIsKnownBeforeEveryGatewayKnowsIt(t *testing.T) {
	t.Parallel()
	early, late := time.Unix(1000, 0), time.Unix(2000, 0)
	require.Zero(t, knownUntil(nil), "nobody tells")
	require.Equal(t, late, knownUntil([]registry.GatewayReport{{Known: late}}))
	require.Equal(t, early, knownUntil([]registry.GatewayReport{{Known: late}, {Known: early}, {Known: late}}))
	require.Zero(t, knownUntil([]registry.GatewayReport{{Known: early}, {}}), "one cannot tell")
}

// What the judge sees travels with the heartbeats, under the name by which status looks for it.
func TestFollowersAreShownTheVerdict(t *testing.T) {
	t.Parallel()
	h := &hold{in: steps.HoldInput{Policy: lifecycle.RolloutPolicy{Steps: []lifecycle.StepPolicy{{MinConversations: 50}}}}}
	h.exposed = newExposed(500, lifecycle.Exposure{}, 0)
	verdict := lifecycle.StepVerdict{Decision: lifecycle.Hold, Canary: 12, Metrics: []lifecycle.MetricVerdict{{Metric: "errors", Ratio: lifecycle.Interval{Low: 0.4, LowLevel: 0.05}}}}
	h.show(verdict)
	raw, err := json.Marshal(h.details())
	require.NoError(t, err)
	var seen struct {
		Step    int64                 `json:"step"`
		Verdict lifecycle.StepVerdict `json:"verdict"`
	}
	require.NoError(t, json.Unmarshal(raw, &seen))
	require.Equal(t, verdict, seen.Verdict)
	require.EqualValues(t, 12, seen.Step)
}

// A machine whose clock is behind the gateways' must not keep the judge from seeing what came.
func TestTheJudgeTellsTheTimeByTheGateways(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	c := gatewayClock{now: func() time.Time { return now }}
	require.Equal(t, now, c.look(nil, []registry.GatewayReport{{}}), "nobody tells another")
	early := capture.Conversation{Answered: now.Add(-time.Hour)}
	require.Equal(t, now, c.look([]capture.Conversation{early}, nil), "what is behind says nothing")
	ahead := []capture.Conversation{{Answered: now.Add(time.Minute), Events: map[string]int64{"errors": now.Add(2 * time.Minute).UnixMicro()}}}
	require.Equal(t, now.Add(2*time.Minute), c.look(ahead, nil).Local())
	now = now.Add(time.Second)
	require.Equal(t, now.Add(2*time.Minute), c.look(nil, nil), "it is known from then on")
	require.Equal(t, now.Add(time.Hour), c.look(nil, []registry.GatewayReport{{Known: now.Add(time.Hour)}}))
}
