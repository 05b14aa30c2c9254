package activities

import (
	"context"
	"log/slog"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Evaluation holds the steps of the gate.
type Evaluation struct {
	Shelf
	Unfinished string                                 // folder that keeps the answers of suites that are not through
	Path       *answer.Path                           // that users' requests take; default answer.New(answer.Settings{})
	Secret     func(reference string) (string, error) // reads env:NAME or file:PATH; needed where a service names an api_key
	Log        *slog.Logger                           // default slog.Default()
}

// Plan resolves candidate, baseline and suite.
func (e Evaluation) Plan(ctx context.Context, in steps.PlanEvaluationInput) (steps.EvaluationPlan, error) {
	return steps.EvaluationPlan{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}

// Answer puts a suite to a release.
func (e Evaluation) Answer(ctx context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
	return steps.AnswerResult{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}

// Judge compares answers and records the verdict.
func (e Evaluation) Judge(ctx context.Context, in steps.JudgeGateInput) (lifecycle.Verdict, error) {
	return lifecycle.Verdict{}, lifecycle.Errorf(lifecycle.Internal, "not there yet")
}
