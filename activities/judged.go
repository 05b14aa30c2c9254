package activities

import (
	"slices"
	"time"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/rollout"
)

// slowMetric is the one metric that is not an event: latencies are compared with stable's before them.
const slowMetric = "slow"

// judged gives captured conversations as the judge wants them, with slowness found in the order of arrival. Who tossed
// from the time known on may be missing.
func judged(captured []capture.Conversation, known time.Time) ([]rollout.Conversation, error) {
	slowness, err := rollout.NewSlowness(rollout.SlowQuantile)
	if err != nil {
		return nil, err
	}
	out := make([]rollout.Conversation, len(captured))
	arrived := make([]int, len(captured))
	for i, c := range captured {
		out[i] = rollout.Conversation{Step: c.Step, Coin: c.Coin, Propensity: c.Propensity, Canary: c.Canary, Events: c.Events,
			Open: !c.Started.Before(known), Started: c.Started.UnixMicro(), Answered: c.Answered.UnixMicro()}
		arrived[i] = i
	}
	at := func(i int) time.Time { return captured[i].Answered }
	slices.SortStableFunc(arrived, func(a, b int) int { return at(a).Compare(at(b)) })
	for _, i := range arrived {
		if !slowness.Observe(captured[i].Latency, captured[i].Canary) {
			continue
		}
		if out[i].Events == nil {
			out[i].Events = map[string]int64{}
		}
		out[i].Events[slowMetric] = at(i).UnixMicro()
	}
	return out, nil
}

// knownUntil is until when every live gateway knows what those that tossed were served; zero where one cannot tell.
func knownUntil(reports []registry.GatewayReport) (until time.Time) {
	for i, r := range reports {
		if i == 0 || r.Known.Before(until) {
			until = r.Known
		}
	}
	return until
}

// gatewayClock tells the time by the gateways' clocks, which evidence is stamped with: this machine's, and as much more as
// one of them was ever seen to be ahead of it. Behind them an event would wait for longer than it should.
type gatewayClock struct {
	now   func() time.Time
	ahead time.Duration
}

func (c *gatewayClock) look(captured []capture.Conversation, reports []registry.GatewayReport) time.Time {
	now := c.now()
	see := func(at time.Time) { c.ahead = max(c.ahead, at.Sub(now)) }
	for _, r := range reports {
		see(r.Known)
	}
	for _, conversation := range captured {
		see(conversation.Answered)
		for _, at := range conversation.Events {
			see(time.UnixMicro(at))
		}
	}
	return now.Add(c.ahead)
}
