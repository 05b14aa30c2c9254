package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// answersInBatches is the change since which a suite is asked in batches. Runs that began before it ask it in one step.
const answersInBatches = "answers-in-batches"

// answersInBatches puts a suite to a release, some batches at once. Each batch keeps its own answers, so that what one
// of them needs again is asked of nobody twice.
func (l *loop) answersInBatches(ctx workflow.Context, release, suite lifecycle.Digest) (lifecycle.Digest, error) {
	in := steps.AnswerInput{Service: l.service.Name, Release: release, Suite: suite, By: l.by}
	plan, err := steps.PlanBatches.Run(ctx, in)
	if err != nil {
		return "", err
	}
	if plan.Answers != "" {
		l.note(ctx, "answered", fmt.Sprintf("release %s gave its %d answers before", release.Short(), plan.Questions))
		return plan.Answers, nil
	}
	l.note(ctx, "answering", fmt.Sprintf("release %s, %d answers in %d batches", release.Short(), plan.Questions, len(plan.Batches)))
	answers, err := l.askBatches(ctx, in, plan)
	if err != nil {
		return "", err
	}
	out, err := steps.JoinAnswers.Run(ctx, steps.JoinInput{
		Service: in.Service, Release: release, Suite: suite, Batches: plan.Batches, Answers: answers, By: l.by,
	})
	return out.Answers, err
}

// askBatches asks every batch, so many at once as the plan says, and gives their answers in the plan's order. What one
// cannot do ends the others.
func (l *loop) askBatches(ctx workflow.Context, in steps.AnswerInput, plan steps.AnswerPlan) ([]lifecycle.Digest, error) {
	asking, stop := workflow.WithCancel(ctx)
	defer stop()
	l.state.Answered = &steps.Count{Of: plan.Questions}
	defer func() { l.state.Answered = nil }()
	l.count(ctx, 0)
	answers := make([]lifecycle.Digest, len(plan.Batches))
	var failed error
	next := 0
	hands := workflow.NewWaitGroup(ctx)
	in.AtOnce = max(1, plan.AtOnce)
	for range min(in.AtOnce, len(plan.Batches)) {
		hands.Add(1)
		workflow.Go(asking, func(ctx workflow.Context) {
			defer hands.Done()
			for next < len(plan.Batches) && failed == nil {
				at := next
				next++
				one := in
				one.Batch = &plan.Batches[at]
				out, err := steps.AnswerBatch.Run(ctx, one)
				if err != nil && failed == nil {
					failed = err
					stop()
				}
				if err != nil {
					return
				}
				answers[at] = out.Answers
				l.count(ctx, out.Cases)
			}
		})
	}
	hands.Wait(ctx)
	if failed == nil {
		failed = ctx.Err()
	}
	return answers, failed
}

// count shows how far all batches are. It is no note: there may be hundreds of batches.
func (l *loop) count(ctx workflow.Context, answers int) {
	if l.state.Answered != nil {
		l.state.Answered.Done += answers
		workflow.SetCurrentDetails(ctx, l.markdown())
	}
}
