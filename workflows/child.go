package workflows

import (
	"errors"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// share runs a child under an ID that everybody with the same question uses. Where somebody else is
// already asking, it waits for that answer instead, and asks itself where that run ends without one.
func share[In, Out any](ctx workflow.Context, name, id string, in In, await steps.Step[steps.SharedInput, Out]) (Out, error) {
	const most = 3
	for try := 1; ; try++ {
		out, err := runShared[In, Out](ctx, name, id, in)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if !runsAlready(err) {
			return out, answered(id, err)
		}
		out, err = await.Run(ctx, steps.SharedInput{WorkflowID: id})
		if steps.KindOf(err) != lifecycle.NotFound || try == most {
			return out, err
		}
	}
}

// runShared runs the child. Others may be waiting for it as well, so neither the end nor the cancellation of this
// run reaches it.
func runShared[In, Out any](ctx workflow.Context, name, id string, in In) (Out, error) {
	var out Out
	own, _ := workflow.NewDisconnectedContext(ctx)
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(own, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		TaskQueue:             steps.Queue,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
	}), name, in)
	if err := workflow.Await(ctx, child.IsReady); err != nil {
		return out, err
	}
	err := child.Get(ctx, &out)
	return out, err
}

func runsAlready(err error) bool {
	var started *temporal.ChildWorkflowExecutionAlreadyStartedError
	var inTests *serviceerror.WorkflowExecutionAlreadyStarted // how the SDK's test environment says it
	return errors.As(err, &started) || errors.As(err, &inTests)
}

// answered gives a kind to a child that ended without an answer of its own: a person cancelled or
// terminated it. As it is, that error would end this run as cancelled, which nobody asked for.
func answered(id string, err error) error {
	var app *temporal.ApplicationError
	if err == nil || errors.As(err, &app) {
		return err
	}
	return steps.ToTemporal(lifecycle.Errorf(lifecycle.Unavailable, "workflow %s ended without an answer: %v", id, err))
}
