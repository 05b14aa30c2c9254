package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/steps"
)

// rolloutsPlanned is the change from which on a rollout is planned before it begins.
const rolloutsPlanned = "rollouts-planned"

// planRollout shows what the steps will need at last week's traffic. A plan that cannot end in time is refused, unless
// the input says that this is accepted. A first release has no steps.
func (p *promotion) planRollout(ctx workflow.Context) error {
	if p.baseline == "" || workflow.GetVersion(ctx, rolloutsPlanned, workflow.DefaultVersion, 1) < 1 {
		return nil
	}
	plan, err := steps.PlanRollout.Run(ctx, steps.PlanRolloutInput{Service: p.service.Name, Policy: p.service.Rollout})
	if err != nil {
		return err
	}
	p.state.Plan = nil
	for _, line := range plan.Lines() {
		p.state.Plan = append(p.state.Plan, clip(line, maxNote))
	}
	if late := plan.Err(); late != nil && !p.in.Late {
		return p.refuse(ctx, "late", late, plan)
	}
	return nil
}
