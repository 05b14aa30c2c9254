package workflows

import (
	"errors"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/steps"
)

// share runs a child under an ID that everybody with the same question uses. Where somebody else is
// already asking, it waits for that answer instead.
func share[In, Out any](ctx workflow.Context, name, id string, in In, await steps.Step[steps.SharedInput, Out]) (Out, error) {
	var out Out
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		TaskQueue:             steps.Queue,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		// Another parent may be waiting for the same answer, so it outlives this one.
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
	})
	err := workflow.ExecuteChildWorkflow(child, name, in).Get(ctx, &out)
	var started *temporal.ChildWorkflowExecutionAlreadyStartedError
	if errors.As(err, &started) {
		return await.Run(ctx, steps.SharedInput{WorkflowID: id})
	}
	return out, err
}
