package activities_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// gate is a service with a suite, an index, and releases that answer.
type gate struct {
	*world
	servers    *models
	evaluation activities.Evaluation
	first      lifecycle.Digest // release
	second     lifecycle.Digest
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{world: newWorld(t), servers: newModels(t)}
	declared := service("docs")
	declared.Evaluation.Capabilities = []lifecycle.Capability{
		{Name: "text", Kind: "bits-per-byte", Corpus: "base", Items: 60, Margin: 0.1},
		{Name: "words", Kind: "cloze", Corpus: "base", Items: 20, Margin: 0.3},
		{Name: "found", Kind: "retrieval", Corpus: "base", Items: 30, Margin: 0.3},
	}
	declared.Retrieval = lifecycle.Retrieval{Corpora: []string{"base"}}
	declared.Release = lifecycle.ReleaseDefaults{
		Prompt: lifecycle.Prompt{Context: "{{range .Passages}}{{.Text}}{{end}}"}, Parameters: lifecycle.Parameters{TopK: 2, MaxTokens: 8},
	}
	g.apply(t, declared)
	base := g.dataset(t, "base", 180)
	embedder := g.put(t, "docs", lifecycle.EmbedderArtifact, nil, map[string]string{"weights": "e"})
	index, err := do(t, steps.BuildIndex, activities.Index{Shelf: g.Shelf, Engines: g.servers.engines()}.Build, steps.BuildIndexInput{
		Service: "docs", Datasets: []lifecycle.Digest{base.Dataset}, Embedder: embedder, By: by,
	})
	require.NoError(t, err)
	g.first, g.second = g.release(t, "first", index.Index), g.release(t, "second", index.Index)
	g.evaluation = activities.Evaluation{Shelf: g.Shelf, Engines: g.servers.engines(), Unfinished: t.TempDir()}
	return g
}

func (g *gate) release(t *testing.T, weights string, index lifecycle.Digest) lifecycle.Digest {
	t.Helper()
	model := g.put(t, "docs", lifecycle.ModelArtifact, nil, map[string]string{"weights": weights})
	made, err := do(t, steps.MakeRelease, activities.Releases{Registry: g.Registry}.MakeRelease, steps.MakeReleaseInput{
		Service: "docs", Model: model, Index: index, By: by,
	})
	require.NoError(t, err)
	return made.Release
}

func (g *gate) plan(t *testing.T, release, baseline lifecycle.Digest) steps.EvaluationPlan {
	t.Helper()
	plan, err := do(t, steps.PlanEvaluation, g.evaluation.Plan, steps.PlanEvaluationInput{
		Service: "docs", Release: string(release), Baseline: string(baseline), By: by,
	})
	require.NoError(t, err)
	return plan
}

func (g *gate) answers(t *testing.T, release, suite lifecycle.Digest) steps.AnswerResult {
	t.Helper()
	out, err := do(t, steps.AnswerSuite, g.evaluation.Answer, steps.AnswerInput{Service: "docs", Release: release, Suite: suite, By: by})
	require.NoError(t, err)
	return out
}

// judge lets both sides of a plan answer and judges.
func (g *gate) judge(t *testing.T, plan steps.EvaluationPlan) lifecycle.Verdict {
	t.Helper()
	in := steps.JudgeGateInput{Service: "docs", Plan: plan, CandidateAnswers: g.answers(t, plan.Candidate, plan.Suite).Answers, By: by}
	if plan.Baseline != "" {
		in.BaselineAnswers = g.answers(t, plan.Baseline, plan.Suite).Answers
	}
	verdict, err := do(t, steps.JudgeGate, g.evaluation.Judge, in)
	require.NoError(t, err)
	again, err := do(t, steps.JudgeGate, g.evaluation.Judge, in)
	require.NoError(t, err)
	require.Equal(t, verdict, again, "a question has one verdict")
	return verdict
}

func TestAGateFromPlanToVerdict(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	plan := g.plan(t, "", "")
	require.Equal(t, g.second, plan.Candidate, "the newest release")
	require.Empty(t, plan.Baseline, "nothing serves yet")
	require.Nil(t, plan.Verdict)

	verdict := g.judge(t, plan)
	require.Equal(t, lifecycle.PassOutcome, verdict.Outcome, verdict.Reasons)
	require.Contains(t, verdict.Reasons[0], "nothing to compare with")
	require.Len(t, verdict.Capabilities, 3)
	require.Greater(t, verdict.Capabilities[2].Candidate, 0.3, "retrieval goes through the release's index")

	plan = g.plan(t, g.second, "")
	require.Equal(t, &verdict, plan.Verdict, "the plan knows what was judged before")
	report, err := g.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: verdict.Report}, "report.md", 1<<20)
	require.NoError(t, err)
	require.Contains(t, string(report), "attempt 1")

	// Worse by more than the margin, provably.
	_, release, err := g.Registry.Release(t.Context(), "docs", string(g.first))
	require.NoError(t, err)
	g.servers.price[release.ServedName()] = 3
	worse := g.judge(t, g.plan(t, g.first, g.second))
	require.Equal(t, lifecycle.RegressOutcome, worse.Outcome, worse.Reasons)
	require.Equal(t, lifecycle.RegressOutcome, worse.Capabilities[0].Outcome)
	require.Equal(t, lifecycle.PassOutcome, worse.Capabilities[2].Outcome, "retrieval is the same: %s", worse.Capabilities[2].Reason)
	require.Equal(t, 1, worse.Attempt)

	ledger, err := g.Registry.Evaluations(t.Context(), "docs", 0)
	require.NoError(t, err)
	require.Len(t, ledger, 2)
}

func TestASuiteGoesOnWhereItWasLeftOff(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	suite := g.plan(t, g.first, "").Suite
	in := steps.AnswerInput{Service: "docs", Release: g.first, Suite: suite, By: by}
	first := newTry()
	var seen beats
	seen.listen(first)
	stopped := false
	g.servers.before = func(n int64) {
		if n == 40 && !stopped {
			stopped = true
			close(first.stop)
		}
	}
	_, err := on(first, steps.AnswerSuite, g.evaluation.Answer, in)
	require.True(t, lifecycle.KindOf(err).Retryable(), "%v", err)
	left, err := filepath.Glob(filepath.Join(g.evaluation.Unfinished, "*.jsonl"))
	require.NoError(t, err)
	require.Len(t, left, 1)
	kept := len(lines(t, left[0])) - 1
	require.Positive(t, kept)
	require.Equal(t, int64(kept), seen.last().Step, "followers see how far it is")
	require.Equal(t, int64(110), seen.last().Total)
	file, err := os.OpenFile(left[0], os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = file.WriteString(`{"case":"torn`)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	before := g.servers.requests()

	out := g.answers(t, g.first, suite)
	require.Equal(t, 110, out.Cases)
	require.False(t, out.Reused)
	// 60 texts take one request, 20 clozes four, and retrieval none.
	require.Less(t, g.servers.requests()-before, int64(60+20*4), "what was answered is not asked again")
	left, err = filepath.Glob(filepath.Join(g.evaluation.Unfinished, "*.jsonl"))
	require.NoError(t, err)
	require.Empty(t, left)

	before = g.servers.requests()
	again := g.answers(t, g.first, suite)
	require.True(t, again.Reused)
	require.Equal(t, out.Answers, again.Answers)
	require.Equal(t, out.Cases, again.Cases)
	require.Equal(t, before, g.servers.requests())
}

func TestWhatCannotBeAskedIsNoPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	evaluation := activities.Evaluation{Shelf: w.Shelf}
	plan := func(in steps.PlanEvaluationInput) error {
		in.Service, in.By = "docs", by
		_, err := do(t, steps.PlanEvaluation, evaluation.Plan, in)
		return err
	}
	require.True(t, lifecycle.Is(plan(steps.PlanEvaluationInput{}), lifecycle.NotFound), "no release")
	id, err := w.Registry.AddRelease(t.Context(), lifecycle.Release{Service: "docs", Model: lifecycle.DigestOf([]byte("m"))}, by)
	require.NoError(t, err)
	err = plan(steps.PlanEvaluationInput{Release: string(id)})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	require.ErrorContains(t, err, "evaluation: neither suite nor capabilities")

	declared := service("docs")
	declared.Evaluation.Capabilities = []lifecycle.Capability{{Name: "text", Kind: "bits-per-byte", Corpus: "base"}}
	w.apply(t, declared)
	err = plan(steps.PlanEvaluationInput{Release: string(id)})
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
	require.ErrorContains(t, err, "corpus base, of which there is no dataset yet")
}
