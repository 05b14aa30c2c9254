package control

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// progressOf is how far a run is: what its batches answered, ended ones and those that go on together, or what the one
// step says that says something.
func progressOf(state *steps.State, pending []*workflowpb.PendingActivityInfo) *lifecycle.Progress {
	var newest *lifecycle.Progress
	var answering int64
	for _, activity := range pending {
		var progress lifecycle.Progress
		payloads := activity.GetHeartbeatDetails().GetPayloads()
		if len(payloads) == 0 || json.Unmarshal(payloads[0].GetData(), &progress) != nil || progress.Total <= 0 {
			continue
		}
		newest = &progress
		if activity.GetActivityType().GetName() == steps.AnswerBatch.Name {
			answering += progress.Step
		}
	}
	if state == nil || state.Answered == nil {
		return newest
	}
	of := int64(state.Answered.Of)
	return &lifecycle.Progress{Step: min(int64(state.Answered.Done)+answering, of), Total: of, Message: "answering"}
}

// judged gives what the judge said of the step that a promotion holds, or of its shadow step, as the holding step's
// heartbeat has it.
func (c *Control) judged(ctx context.Context, claim *lifecycle.Claim) (*lifecycle.StepVerdict, *lifecycle.ShadowVerdict) {
	if claim == nil || c.cfg.Temporal == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	described, err := c.cfg.Temporal.DescribeWorkflowExecution(ctx, claim.Owner.WorkflowID, "")
	if err != nil || described.GetWorkflowExecutionInfo().GetFirstRunId() != claim.Owner.FirstRunID {
		return nil, nil
	}
	return judgedBy(described.GetPendingActivities())
}

func judgedBy(pending []*workflowpb.PendingActivityInfo) (*lifecycle.StepVerdict, *lifecycle.ShadowVerdict) {
	for _, activity := range pending {
		var held struct {
			Verdict *lifecycle.StepVerdict   `json:"verdict"`
			Shadow  *lifecycle.ShadowVerdict `json:"shadow"`
		}
		payloads := activity.GetHeartbeatDetails().GetPayloads()
		if len(payloads) == 0 || json.Unmarshal(payloads[0].GetData(), &held) != nil {
			continue
		}
		switch activity.GetActivityType().GetName() {
		case steps.HoldStep.Name:
			return held.Verdict, nil
		case steps.HoldShadow.Name:
			return nil, held.Shadow
		}
	}
	return nil, nil
}

// RunningEvaluation is a gate that is being asked. Nobody holds a claim of it, because evaluations exclude nobody.
type RunningEvaluation struct {
	WorkflowID string              `json:"workflow_id"`
	State      *steps.State        `json:"state,omitempty"`
	Progress   *lifecycle.Progress `json:"progress,omitempty"` // over all batches of the release that answers
	URL        string              `json:"url,omitempty"`
}

// mostEvaluations bounds how many evaluations a status shows.
const mostEvaluations = 10

// evaluations lists the service's evaluations that run, as far as Temporal tells: none where it does not answer, or
// where the namespace has no search attributes of Refit's.
func (c *Control) evaluations(ctx context.Context, service string) []RunningEvaluation {
	if c.cfg.Temporal == nil || lifecycle.CheckServiceName(service) != nil { // the name becomes part of a query
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	listed, err := c.cfg.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: c.cfg.Namespace, PageSize: mostEvaluations,
		Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running' AND %s = '%s'", steps.EvaluateRelease, steps.AttributeService, service),
	})
	if err != nil {
		return nil
	}
	out := make([]RunningEvaluation, len(listed.GetExecutions()))
	var wait sync.WaitGroup
	for i, run := range listed.GetExecutions() {
		id, runID := run.GetExecution().GetWorkflowId(), run.GetExecution().GetRunId()
		out[i] = RunningEvaluation{WorkflowID: id, URL: c.link(id, runID)}
		wait.Go(func() {
			out[i].State = c.ask(ctx, lifecycle.Owner{WorkflowID: id})
			if described, err := c.cfg.Temporal.DescribeWorkflowExecution(ctx, id, runID); err == nil {
				out[i].Progress = progressOf(out[i].State, described.GetPendingActivities())
			}
		})
	}
	wait.Wait()
	return out
}
