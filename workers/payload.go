package workers

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// payloadLimit refuses results that do not belong in a history. Without it the server refuses an
// oversized result, and the step would be tried again for ever.
type payloadLimit struct {
	interceptor.WorkerInterceptorBase
}

func (p *payloadLimit) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &activityLimit{interceptor.ActivityInboundInterceptorBase{Next: next}}
}

func (p *payloadLimit) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &workflowLimit{interceptor.WorkflowInboundInterceptorBase{Next: next}}
}

type activityLimit struct {
	interceptor.ActivityInboundInterceptorBase
}

func (a *activityLimit) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	out, err := a.Next.ExecuteActivity(ctx, in)
	if err != nil {
		return out, boundedError(err)
	}
	return out, withinLimit(out)
}

// maxMessage bounds an error's text in a history: a cause may quote what it choked on.
const maxMessage = 4 << 10

// boundedError cuts an oversized message, and what is not UTF-8, which could not be sent; it keeps the kind.
func boundedError(err error) error {
	var app *temporal.ApplicationError
	text := err.Error()
	if len(text) <= maxMessage && utf8.ValidString(text) || !errors.As(err, &app) {
		return err
	}
	message := app.Message()[:min(maxMessage, len(app.Message()))]
	return temporal.NewApplicationErrorWithOptions(strings.ToValidUTF8(message, "\uFFFD"), app.Type(),
		temporal.ApplicationErrorOptions{NonRetryable: app.NonRetryable()})
}

type workflowLimit struct {
	interceptor.WorkflowInboundInterceptorBase
}

func (w *workflowLimit) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	out, err := w.Next.ExecuteWorkflow(ctx, in)
	if err != nil {
		return out, err
	}
	return out, withinLimit(out)
}

func withinLimit(out any) error {
	raw, err := json.Marshal(out)
	if err != nil {
		return steps.ToTemporal(lifecycle.Errorf(lifecycle.Invalid, "result cannot be written as JSON: %w", err))
	}
	if len(raw) > steps.MaxPayload {
		return steps.ToTemporal(lifecycle.Errorf(lifecycle.Invalid,
			"result of %d bytes; a history takes at most %d, big things travel as artifacts", len(raw), steps.MaxPayload))
	}
	return nil
}
