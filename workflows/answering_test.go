package workflows

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func batchOf(in steps.AnswerInput) lifecycle.Digest {
	return lifecycle.DigestOf([]byte(fmt.Sprint("answers of ", in.Release, " to ", *in.Batch)))
}

// fiveBatches lets a suite be asked in five batches of nine answers, two at once.
func fiveBatches(w *world) {
	unjudged(w)
	plan := steps.AnswerPlan{Questions: 45, AtOnce: 2}
	for i := range 5 {
		plan.Batches = append(plan.Batches, steps.Batch{From: 9 * i, To: 9*i + 9})
	}
	gives(w, steps.PlanBatches, plan)
}

// thirdBatchFails lets the third batch of five end for good, and the fifth wait until it is told to end.
func thirdBatchFails(w *world) {
	fiveBatches(w)
	on(w, steps.AnswerBatch, func(_ context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
		if in.Batch.From == 18 {
			return steps.AnswerResult{}, lifecycle.Errorf(lifecycle.Corrupt, "the suite does not read")
		}
		return steps.AnswerResult{Answers: batchOf(in), Cases: 9}, nil
	})
}

func TestASuiteIsAskedInBatchesSomeAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fiveBatches(w)
	w.plan.Baseline = ""
	gives(w, steps.JoinAnswers, steps.AnswerResult{Answers: candidate, Cases: 45})
	_, err := w.evaluate(onlyService())
	require.NoError(t, err)

	asked := inputs(w, steps.AnswerBatch)
	require.Len(t, asked, 5)
	seen := map[steps.Batch]bool{}
	for _, in := range asked {
		require.False(t, seen[*in.Batch], "each once")
		seen[*in.Batch] = true
		require.Equal(t, 2, in.AtOnce, "they share the servers' places")
	}
	joined := inputs(w, steps.JoinAnswers)[0]
	require.Len(t, joined.Batches, 5)
	for i, batch := range joined.Batches {
		require.Equal(t, batchOf(steps.AnswerInput{Release: candidate, Batch: &batch}), joined.Answers[i], "in the plan's order")
	}
	require.Equal(t, candidate, inputs(w, steps.JudgeGate)[0].CandidateAnswers)
	require.Contains(t, w.state().Notes, "answering: release "+candidate.Short()+", 45 answers in 5 batches")
	require.Nil(t, w.state().Answered, "it is over")
}

func TestSoManyBatchesAreAskedAtOnceAsThePlanSays(t *testing.T) {
	t.Parallel()
	for _, atOnce := range []int{1, 2, 5, 9} {
		t.Run(fmt.Sprint(atOnce), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			fiveBatches(w)
			w.plan.Baseline = ""
			plan := steps.AnswerPlan{Questions: 45, AtOnce: atOnce}
			for i := range 5 {
				plan.Batches = append(plan.Batches, steps.Batch{From: 9 * i, To: 9*i + 9})
			}
			gives(w, steps.PlanBatches, plan)
			want := min(atOnce, 5)
			var mu sync.Mutex
			here, begun, most, all := 0, 0, 0, make(chan struct{})
			on(w, steps.AnswerBatch, func(_ context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
				mu.Lock()
				here, begun = here+1, begun+1
				most = max(most, here)
				if begun == want {
					close(all) // so many are there at once
				}
				mu.Unlock()
				<-all
				mu.Lock()
				here--
				mu.Unlock()
				return steps.AnswerResult{Answers: batchOf(in), Cases: 9}, nil
			})
			_, err := w.evaluate(onlyService())
			require.NoError(t, err)
			require.Len(t, inputs(w, steps.AnswerBatch), 5)
			require.Equal(t, want, most)
		})
	}
}

func TestABatchThatCannotBeAskedEndsTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	thirdBatchFails(w)
	_, err := w.evaluate(onlyService())
	require.Equal(t, lifecycle.Corrupt, steps.KindOf(err))
	require.Empty(t, inputs(w, steps.JoinAnswers))
	require.Empty(t, inputs(w, steps.JudgeGate))
	require.LessOrEqual(t, len(inputs(w, steps.AnswerBatch)), 4, "none is begun after it")
}

func TestARetriedBatchRepeatsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fiveBatches(w)
	w.plan.Baseline = ""
	on(w, steps.AnswerBatch, func(ctx context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
		if in.Batch.From == 18 && activity.GetInfo(ctx).Attempt < 4 {
			return steps.AnswerResult{}, lifecycle.Errorf(lifecycle.Unavailable, "the model server does not answer")
		}
		return steps.AnswerResult{Answers: batchOf(in), Cases: 9}, nil
	})
	_, err := w.evaluate(onlyService())
	require.NoError(t, err)
	times := map[int]int{}
	for _, in := range inputs(w, steps.AnswerBatch) {
		times[in.Batch.From]++
	}
	require.Equal(t, map[int]int{0: 1, 9: 1, 18: 4, 27: 1, 36: 1}, times)
}

func TestAnswersThatAreThereAreNotAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unjudged(w)
	gives(w, steps.PlanBatches, steps.AnswerPlan{Answers: suite, Questions: 45})
	_, err := w.evaluate(onlyService())
	require.NoError(t, err)
	require.Empty(t, inputs(w, steps.AnswerBatch))
	require.Equal(t, suite, inputs(w, steps.JudgeGate)[0].CandidateAnswers)
}

func TestFollowersSeeHowFarAllBatchesAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fiveBatches(w)
	w.plan.Baseline = ""
	done := map[int]bool{}
	on(w, steps.AnswerBatch, func(_ context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
		w.RegisterDelayedCallback(func() {
			if a := w.state().Answered; a != nil {
				done[a.Done] = true
				require.Equal(t, 45, a.Of)
				require.Contains(t, w.details(), fmt.Sprintf("%d of 45 answers", a.Done))
			}
		}, 0)
		return steps.AnswerResult{Answers: batchOf(in), Cases: 9}, nil
	})
	_, err := w.evaluate(onlyService())
	require.NoError(t, err)
	require.NotEmpty(t, done)
}
