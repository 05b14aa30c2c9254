package steps

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Step ties an activity's name to its input, output and option class.
type Step[In, Out any] struct {
	Name  string // what histories hold
	Class Class
}

// Run schedules the step and waits for it.
func (s Step[In, Out]) Run(ctx workflow.Context, in In) (Out, error) {
	var out Out
	err := s.Start(ctx, in).Get(ctx, &out)
	return out, err
}

// Start schedules the step; the future holds an Out.
func (s Step[In, Out]) Start(ctx workflow.Context, in In) workflow.Future {
	return workflow.ExecuteActivity(s.Class.on(ctx), s.Name, in)
}

// OnQueue gives the step on another queue, for jobs whose engine is chosen by the service.
func (s Step[In, Out]) OnQueue(queue string) Step[In, Out] {
	s.Class.queue = queue
	return s
}

// Bind registers what does the step. Errors leave as application errors of their kind; what fails after the
// workflow asked it to end is canceled, and nothing else is.
func (s Step[In, Out]) Bind(w worker.ActivityRegistry, do func(context.Context, In) (Out, error)) {
	typed := func(ctx context.Context, in In) (Out, error) {
		out, err := do(ctx, in)
		if cause := context.Cause(ctx); err != nil && temporal.IsCanceledError(cause) {
			return out, cause
		}
		return out, ToTemporal(err)
	}
	w.RegisterActivityWithOptions(typed, activity.RegisterOptions{Name: s.Name})
}
