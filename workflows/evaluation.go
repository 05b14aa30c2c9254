package workflows

import (
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// EvaluateRelease lets a candidate and a baseline answer the same suite and judges the gate. It is not
// exclusive: runs with the same question share answers, because answers are artifacts.
func EvaluateRelease(ctx workflow.Context, raw converter.RawValue) (lifecycle.Verdict, error) {
	in, err := steps.Decode[steps.EvaluationInput](raw)
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	l, err := open(ctx, raw, in.Service, lifecycle.EvaluationLoop, in.By)
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	out, err := l.evaluateRelease(ctx, in)
	return out, l.close(ctx, err)
}

func (l *loop) evaluateRelease(ctx workflow.Context, in steps.EvaluationInput) (lifecycle.Verdict, error) {
	l.note(ctx, "planning", "suite and baseline")
	plan, err := steps.PlanEvaluation.Run(ctx, steps.PlanEvaluationInput{
		Service: in.Service, Release: in.Release, Baseline: in.Baseline, By: l.by,
	})
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	l.state.Release = string(plan.Candidate)
	if plan.Verdict != nil {
		l.note(ctx, "done", "judged before: "+string(plan.Verdict.Outcome))
		return *plan.Verdict, nil
	}
	return l.judge(ctx, plan)
}

func (l *loop) judge(ctx workflow.Context, plan steps.EvaluationPlan) (lifecycle.Verdict, error) {
	candidate, err := l.answers(ctx, plan.Candidate, plan.Suite)
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	var baseline lifecycle.Digest
	if plan.Baseline != "" {
		if baseline, err = l.answers(ctx, plan.Baseline, plan.Suite); err != nil {
			return lifecycle.Verdict{}, err
		}
	}
	in := steps.JudgeGateInput{Service: l.service.Name, Plan: plan, CandidateAnswers: candidate, BaselineAnswers: baseline, By: l.by}
	if plan.Compares && plan.Baseline != "" { // as the plan recorded: of runs before there were comparisons none does
		l.note(ctx, "comparing", "answers of both releases")
		out, err := steps.CompareAnswers.Run(ctx, steps.CompareInput{
			Service: l.service.Name, Suite: plan.Suite, Candidate: plan.Candidate, Baseline: plan.Baseline,
			CandidateAnswers: candidate, BaselineAnswers: baseline, By: l.by,
		})
		if err != nil {
			return lifecycle.Verdict{}, err
		}
		in.Comparisons = out.Comparisons
	}
	if plan.Labels > 0 { // likewise
		l.note(ctx, "holding scorers against people", fmt.Sprintf("%d answers that people have judged", plan.Labels))
		out, err := steps.LabelAnswers.Run(ctx, steps.LabelInput{Service: l.service.Name, Suite: plan.Suite, By: l.by})
		if err != nil {
			return lifecycle.Verdict{}, err
		}
		in.Labels = out.Labels
	}
	l.note(ctx, "judging", "suite "+plan.Suite.Short())
	verdict, err := steps.JudgeGate.Run(ctx, in)
	if err == nil {
		l.note(ctx, "done", fmt.Sprintf("%s: %v", verdict.Outcome, verdict.Reasons))
	}
	return verdict, err
}

func (l *loop) answers(ctx workflow.Context, release, suite lifecycle.Digest) (lifecycle.Digest, error) {
	l.note(ctx, "loading", "release "+release.Short())
	if _, err := steps.LoadRelease.Run(ctx, steps.LoadInput{Service: l.service.Name, Release: release}); err != nil {
		return "", err
	}
	if workflow.GetVersion(ctx, answersInBatches, workflow.DefaultVersion, 1) != workflow.DefaultVersion {
		return l.answersInBatches(ctx, release, suite)
	}
	l.note(ctx, "answering", "release "+release.Short())
	out, err := steps.AnswerSuite.Run(ctx, steps.AnswerInput{Service: l.service.Name, Release: release, Suite: suite, By: l.by})
	return out.Answers, err
}
