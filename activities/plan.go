package activities

import (
	"context"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
	"github.com/refitml/refit/internal/steps"
)

// Traffic of the last week is counted within a time: a promotion does not wait for it.
const (
	trafficSeen = 7 * 24 * time.Hour
	trafficTime = 15 * time.Second
)

// PlanRollout says what the steps will need at last week's traffic. Traffic that cannot be counted is not known, and
// refuses nothing. A shadow step whose pairs nobody here can score is refused before anything begins.
func (p Promotion) PlanRollout(ctx context.Context, in steps.PlanRolloutInput) (lifecycle.RolloutPlan, error) {
	if _, err := p.pairScorer(in.Policy); err != nil {
		return lifecycle.RolloutPlan{}, err
	}
	counting, cancel := context.WithTimeout(ctx, trafficTime)
	defer cancel()
	seen, err := p.Captured.Traffic(counting, in.Service, time.Now().Add(-trafficSeen))
	if err != nil {
		orDefault(p.Log).WarnContext(ctx, "the rollout is planned without its traffic", "service", in.Service, "error", err)
	}
	plan, failed := rollout.Plan(in.Policy, seen)
	if err != nil {
		plan.Basis = "last week's traffic could not be counted, so how long steps take is not known"
	}
	return plan, failed
}
