package control

import (
	"context"

	"github.com/refitml/refit/internal/lifecycle"
)

// EvaluationsInput asks for a service's verdicts, newest first.
type EvaluationsInput struct {
	Service string `json:"service"`
	Limit   int    `json:"limit,omitempty"` // default 20
}

// Evaluations lists verdicts.
var Evaluations = UseCase[EvaluationsInput, []lifecycle.Verdict]{"evaluations", Viewer,
	func(c *Control, ctx context.Context, _ Caller, in EvaluationsInput) ([]lifecycle.Verdict, error) {
		return c.cfg.Registry.Evaluations(ctx, in.Service, limit(in.Limit, 20))
	}}
