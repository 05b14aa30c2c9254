package workflows

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func (w *world) evaluate(input any) (lifecycle.Verdict, error) {
	w.t.Helper()
	return run[lifecycle.Verdict](w, steps.EvaluateRelease, input)
}

func TestEvaluationLetsBothAnswerTheSameSuite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Verdict = nil
	verdict, err := w.evaluate(map[string]string{"service": "docs", "release": "abc"})
	require.NoError(t, err)
	require.Equal(t, lifecycle.PassOutcome, verdict.Outcome)
	require.Equal(t, "abc", inputs(w, steps.PlanEvaluation)[0].Release)

	asked := inputs(w, steps.AnswerBatch)
	require.Len(t, asked, 2)
	require.Equal(t, []lifecycle.Digest{candidate, stable}, []lifecycle.Digest{asked[0].Release, asked[1].Release})
	require.Equal(t, []lifecycle.Digest{suite, suite}, []lifecycle.Digest{asked[0].Suite, asked[1].Suite})
	side := []string{"LoadRelease", "PlanBatches", "AnswerBatch", "JoinAnswers"}
	require.Equal(t, slices.Concat(side, side, []string{"JudgeGate"}), w.order(append(side, "JudgeGate")...))
	judged := inputs(w, steps.JudgeGate)[0]
	require.NotEqual(t, judged.CandidateAnswers, judged.BaselineAnswers)
	require.Equal(t, w.plan, judged.Plan)
	require.Equal(t, string(candidate), w.state().Release)
}

func TestEvaluationWithoutABaselineHasNothingToCompareWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Verdict, w.plan.Baseline = nil, ""
	_, err := w.evaluate(onlyService())
	require.NoError(t, err)
	require.Len(t, inputs(w, steps.AnswerBatch), 1)
	require.Empty(t, inputs(w, steps.JudgeGate)[0].BaselineAnswers)
}

// compared and labels are artifacts of what judges said.
var compared, labels = lifecycle.DigestOf([]byte("comparisons")), lifecycle.DigestOf([]byte("labels"))

func TestScorersAreHeldAgainstPeopleWhereTheyHaveJudged(t *testing.T) {
	t.Parallel()
	for _, judged := range []int{0, 7} {
		w := newWorld(t)
		w.plan.Verdict, w.plan.Labels, w.plan.Baseline = nil, judged, ""
		_, err := w.evaluate(onlyService())
		require.NoError(t, err)
		require.Len(t, inputs(w, steps.LabelAnswers), min(1, judged))
		if got := inputs(w, steps.JudgeGate)[0].Labels; judged > 0 {
			require.Equal(t, labels, got)
			require.Equal(t, suite, inputs(w, steps.LabelAnswers)[0].Suite)
		} else {
			require.Empty(t, got)
		}
	}
}

func TestAnswersAreComparedWhereTheSuiteAsksForIt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		compares bool
		baseline lifecycle.Digest
		times    int
	}{
		"it does":              {true, stable, 1},
		"it does not":          {false, stable, 0},
		"there is no baseline": {true, "", 0},
		"neither is the other": {false, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.plan.Verdict, w.plan.Compares, w.plan.Baseline = nil, tc.compares, tc.baseline
			_, err := w.evaluate(onlyService())
			require.NoError(t, err)
			asked, judged := inputs(w, steps.CompareAnswers), inputs(w, steps.JudgeGate)[0]
			require.Len(t, asked, tc.times)
			if tc.times == 0 {
				require.Empty(t, judged.Comparisons)
				return
			}
			require.Equal(t, compared, judged.Comparisons)
			require.Equal(t, []lifecycle.Digest{judged.CandidateAnswers, judged.BaselineAnswers}, []lifecycle.Digest{asked[0].CandidateAnswers, asked[0].BaselineAnswers})
			require.Equal(t, []lifecycle.Digest{candidate, stable, suite}, []lifecycle.Digest{asked[0].Candidate, asked[0].Baseline, asked[0].Suite})
		})
	}
}

func TestAQuestionThatWasAnsweredIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Verdict.Outcome = lifecycle.RegressOutcome
	verdict, err := w.evaluate(onlyService())
	require.NoError(t, err, "a refusal is a verdict, not an error")
	require.Equal(t, lifecycle.RegressOutcome, verdict.Outcome)
	require.Empty(t, inputs(w, steps.AnswerBatch))
}

func TestEvaluationThatCannotBeDoneIsNoVerdict(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"no plan":    func(w *world) { fails(w, steps.PlanEvaluation, lifecycle.Corrupt, "no") },
		"not loaded": func(w *world) { fails(w, steps.LoadRelease, lifecycle.Corrupt, "no") },
		"no batches": func(w *world) { fails(w, steps.PlanBatches, lifecycle.Corrupt, "no") },
		"no answers": func(w *world) { fails(w, steps.AnswerBatch, lifecycle.Corrupt, "no") },
		"not all":    func(w *world) { fails(w, steps.JoinAnswers, lifecycle.Corrupt, "no") },
		"not compared": func(w *world) {
			w.plan.Compares = true
			fails(w, steps.CompareAnswers, lifecycle.Corrupt, "no")
		},
		"no labels": func(w *world) {
			w.plan.Labels = 7
			fails(w, steps.LabelAnswers, lifecycle.Corrupt, "no")
		},
		"no judge": func(w *world) { fails(w, steps.JudgeGate, lifecycle.Corrupt, "no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.plan.Verdict = nil
			change(w)
			_, err := w.evaluate(onlyService())
			require.Equal(t, lifecycle.Corrupt, steps.KindOf(err))
			require.Equal(t, "failed", w.state().Phase)
		})
	}
}
