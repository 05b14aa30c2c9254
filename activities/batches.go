package activities

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Bounds of batches: at least so many answers, so that a batch is minutes of a model's work, and at most so many
// batches, because each costs a history about six events and the registry an artifact. 1,000,000 cases are 200 batches of 5,000.
const (
	leastBatch  = 100
	mostBatches = 200
)

// Labels of answers, beside the suite's and the release's.
const (
	wholeAnswers = "answers"
	batchAnswers = "answers-batch"
	casesLabel   = "cases" // how many answers
	rangeLabel   = "range" // of the suite's cases, from up to
	seedLabel    = "seed"  // asked for where the suite names none

	// withoutScores ends the name of answers of which some could not be scored. They are never reused as they are: whoever
	// asks again may have a judge that speaks.
	withoutScores = " without scores"
)

func unscored(a evaluation.Answer) bool { return a.Error != "" }

// answerLabels are what answers are found again by: release, suite with its sampling parameters, which are in its
// digest, the seed, and the range.
func answerLabels(in steps.AnswerInput) map[string]string {
	labels := map[string]string{reportLabel: wholeAnswers, suiteLabel: string(in.Suite), releaseLabel: string(in.Release)}
	if b := in.Batch; b != nil {
		labels[reportLabel], labels[rangeLabel] = batchAnswers, fmt.Sprintf("%d-%d", b.From, b.To)
		labels[seedLabel] = strconv.Itoa(suiteSeed)
	}
	return labels
}

// answeredBefore adds what earlier tries got, wherever they ran, to the answers that this machine has: the parts that a
// try kept before it was cut off, and what was scored of a run that could not score all.
func (e Evaluation) answeredBefore(ctx context.Context, in steps.AnswerInput, have []evaluation.Answer, parts *parts[evaluation.Answer]) ([]evaluation.Answer, error) {
	before, err := parts.have(ctx)
	if err != nil {
		return nil, err
	}
	labels := answerLabels(in)
	labels[reportLabel] += withoutScores
	kept, err := e.kept(ctx, in.Service, labels)
	if err != nil {
		return nil, err
	}
	if kept.Reused {
		answers, err := e.readAnswers(ctx, kept.Answers)
		if err != nil {
			return nil, err
		}
		before = append(before, answers.List...)
	}
	there := map[string]bool{}
	for _, a := range have {
		there[fmt.Sprint(a.Sample, " ", a.Case)] = true
	}
	for _, a := range before {
		if at := fmt.Sprint(a.Sample, " ", a.Case); !unscored(a) && !there[at] {
			have, there[at] = append(have, a), true
		}
	}
	return have, nil
}

func (e Evaluation) readAnswers(ctx context.Context, digest lifecycle.Digest) (evaluation.Answers, error) {
	file, err := e.answersOf(ctx, digest)()
	if err != nil {
		return evaluation.Answers{}, err
	}
	defer file.Close()
	answers, err := evaluation.ReadAnswers(file)
	return answers, lifecycle.Wrap(err, "read answers %s", digest.Short())
}

// PlanBatches cuts a suite into batches and says how many of them may be asked at once: as many as the service
// allows, and no more than half of the places of the release's servers.
func (e Evaluation) PlanBatches(ctx context.Context, in steps.AnswerInput) (steps.AnswerPlan, error) {
	defer beat(ctx, nil)()
	kept, err := e.kept(ctx, in.Service, answerLabels(in))
	if err != nil || kept.Reused {
		return steps.AnswerPlan{Answers: kept.Answers, Questions: kept.Cases}, err
	}
	files, done, err := e.suiteFiles(ctx, in.Suite)
	if err != nil {
		return steps.AnswerPlan{}, err
	}
	defer done()
	spans, questions, err := files.Cut(leastBatch, mostBatches)
	if err != nil {
		return steps.AnswerPlan{}, lifecycle.Wrap(err, "read suite %s", in.Suite.Short())
	}
	plan := steps.AnswerPlan{Questions: questions}
	for _, span := range spans {
		plan.Batches = append(plan.Batches, steps.Batch(span))
	}
	plan.AtOnce, err = e.atOnce(ctx, in)
	return plan, err
}

func (e Evaluation) atOnce(ctx context.Context, in steps.AnswerInput) (int, error) {
	service, err := e.Registry.Service(ctx, in.Service)
	if err != nil {
		return 0, err
	}
	endpoints, err := e.Registry.Endpoints(ctx, in.Service)
	if err != nil {
		return 0, err
	}
	capacity := 0
	for _, each := range endpoints {
		if each.Release == in.Release && each.Ready {
			capacity += each.Capacity
		}
	}
	return min(max(1, service.Evaluation.AtOnce), max(1, capacity/2)), nil
}

// Join makes one artifact of the answers of all batches. A case or sample that is not there once is an error.
func (e Evaluation) Join(ctx context.Context, in steps.JoinInput) (steps.AnswerResult, error) {
	var progress report
	ctx, done := long(ctx, progress.details)
	defer done()
	whole := steps.AnswerInput{Service: in.Service, Release: in.Release, Suite: in.Suite, By: in.By}
	labels := answerLabels(whole)
	if kept, err := e.kept(ctx, in.Service, labels); err != nil || kept.Reused {
		return kept, err
	}
	if len(in.Batches) != len(in.Answers) {
		return steps.AnswerResult{}, lifecycle.Errorf(lifecycle.Invalid, "%d batches and %d answers", len(in.Batches), len(in.Answers))
	}
	files, closeSuite, err := e.suiteFiles(ctx, in.Suite)
	if err != nil {
		return steps.AnswerResult{}, err
	}
	defer closeSuite()
	spans := make([]evaluation.Span, len(in.Batches))
	for i, b := range in.Batches {
		spans[i] = evaluation.Span(b)
	}
	out, err := e.keepAnswers(ctx, whole, unique(append([]lifecycle.Digest{in.Suite}, in.Answers...)), labels, func(w io.Writer) (int, error) {
		return files.Join(w, evaluation.Answers{Suite: in.Suite, Release: in.Release}, spans, func(at int) (evaluation.Answers, error) {
			progress.set(lifecycle.Progress{Step: int64(at), Total: int64(len(spans)), Message: "joining"})
			if err := stopped(ctx); err != nil {
				return evaluation.Answers{}, err
			}
			part, err := e.readAnswers(ctx, in.Answers[at])
			if slices.ContainsFunc(part.List, unscored) {
				labels[reportLabel] = wholeAnswers + withoutScores
			}
			return part, err
		})
	})
	return out, lifecycle.Wrap(err, "join the answers of release %s", in.Release.Short())
}
