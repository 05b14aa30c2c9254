package activities_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// elsewhere is the gate as another worker has it: nothing of what this one has on its disk, and model servers of its own.
func (g *gate) elsewhere(t *testing.T) (activities.Evaluation, *models) {
	t.Helper()
	cache, err := artifacts.NewCache(g.Store, t.TempDir())
	require.NoError(t, err)
	shelf := g.Shelf
	shelf.Cache, shelf.Scratch = cache, t.TempDir()
	servers := newModels(t)
	other := g.evaluation
	other.Shelf, other.Engines, other.Unfinished = shelf, servers.engines(), t.TempDir()
	return other, servers
}

func (g *gate) batches(t *testing.T, release, suite lifecycle.Digest) steps.AnswerPlan {
	t.Helper()
	plan, err := do(t, steps.PlanBatches, g.evaluation.PlanBatches, steps.AnswerInput{Service: "docs", Release: release, Suite: suite, By: by})
	require.NoError(t, err)
	return plan
}

// cutInto gives smaller batches than a plan does, so that a small suite has several.
func cutInto(cases, n int) []steps.Batch {
	var batches []steps.Batch
	for i := range n {
		batches = append(batches, steps.Batch{From: i * cases / n, To: (i + 1) * cases / n})
	}
	return batches
}

func TestASuiteIsCutIntoBatches(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	suite := g.plan(t, g.first, "").Suite
	plan := g.batches(t, g.first, suite)
	require.Positive(t, plan.Batches[1].At, "where in the file it begins")
	plan.Batches[1].At = 0
	require.Equal(t, steps.AnswerPlan{Questions: 110, Batches: []steps.Batch{{From: 0, To: 100}, {From: 100, To: 110}}, AtOnce: 1}, plan,
		"nothing serves the release yet, so one batch at once")
	_, err := do(t, steps.LoadRelease, activities.Promotion{Registry: g.Registry, Cache: g.Cache, Engines: g.servers.engines()}.LoadRelease,
		steps.LoadInput{Service: "docs", Release: g.first})
	require.NoError(t, err)
	require.Equal(t, 2, g.batches(t, g.first, suite).AtOnce, "as many as the service allows; half of the four places are two")
}

func TestAnswersOfBatchesAreThoseOfTheWholeSuite(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	suite := g.plan(t, g.first, "").Suite
	in := steps.AnswerInput{Service: "docs", Release: g.first, Suite: suite, By: by}
	join := steps.JoinInput{Service: "docs", Release: g.first, Suite: suite, By: by, Batches: cutInto(110, 5)}
	for i := range join.Batches {
		in.Batch, in.AtOnce = &join.Batches[i], 2
		out, err := do(t, steps.AnswerBatch, g.evaluation.Answer, in)
		require.NoError(t, err)
		require.Equal(t, join.Batches[i].To-join.Batches[i].From, out.Cases)
		join.Answers = append(join.Answers, out.Answers)
	}
	asked := g.servers.requests()
	joined, err := do(t, steps.JoinAnswers, g.evaluation.Join, join)
	require.NoError(t, err)
	require.Equal(t, 110, joined.Cases)
	require.Equal(t, asked, g.servers.requests())
	require.Equal(t, steps.AnswerPlan{Answers: joined.Answers, Questions: 110}, g.batches(t, g.first, suite), "who asks again asks nobody")

	// Another release of the same prices gives the same answers when it is asked as a whole.
	whole, err := do(t, steps.AnswerSuite, g.evaluation.Answer, steps.AnswerInput{Service: "docs", Release: g.second, Suite: suite, By: by})
	require.NoError(t, err)
	require.Equal(t, g.answersOf(t, whole.Answers)[1:], g.answersOf(t, joined.Answers)[1:])
}

// answersOf gives the lines of answers, the head first.
func (g *gate) answersOf(t *testing.T, answers lifecycle.Digest) []string {
	t.Helper()
	raw, err := g.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: answers}, "answers.jsonl", 1<<20)
	require.NoError(t, err)
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	require.Len(t, all, 111)
	return all
}

// TestAnotherWorkerGoesOnWithoutAskingAgain: the first worker ends in its third batch of five, and one that has nothing
// of it on its disk does the rest.
func TestAnotherWorkerGoesOnWithoutAskingAgain(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	suite := g.plan(t, g.first, "").Suite
	in := steps.AnswerInput{Service: "docs", Release: g.first, Suite: suite, By: by}
	batches := cutInto(110, 5)
	first := newTry()
	for i := range 3 {
		before := g.servers.requests()
		in.Batch = &batches[i]
		if i == 2 {
			g.servers.before = func(n int64) {
				if n == before+5 {
					close(first.stop)
				}
			}
		}
		_, err := on(first, steps.AnswerBatch, g.evaluation.Answer, in)
		if i == 2 {
			require.True(t, lifecycle.KindOf(err).Retryable(), "%v", err)
			continue
		}
		require.NoError(t, err)
	}

	other, servers := g.elsewhere(t)
	join := steps.JoinInput{Service: "docs", Release: g.first, Suite: suite, By: by, Batches: batches}
	for i := range batches {
		in.Batch = &batches[i]
		out, err := do(t, steps.AnswerBatch, other.Answer, in)
		require.NoError(t, err)
		require.Equal(t, i < 2, out.Reused, "batch %d", i)
		require.Equal(t, out.Reused, servers.requests() == 0, "what was answered is not asked again")
		join.Answers = append(join.Answers, out.Answers)
	}
	joined, err := do(t, steps.JoinAnswers, other.Join, join)
	require.NoError(t, err)
	require.Equal(t, 110, joined.Cases)
}

// stopAt lets a try be stopped when a server is asked for the n-th time. From then on it answers nothing.
func stopAt(t *testing.T, stopped *try, times int64) func(n int64) {
	t.Helper()
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	return func(n int64) {
		if n == times {
			close(stopped.stop)
		}
		if n >= times {
			<-ended
		}
	}
}

// TestABatchThatWasCutOffGoesOnElsewhere: a worker ends in the middle of a batch, and one that has nothing of it on its disk
// asks its own model servers only what was not kept in parts.
func TestABatchThatWasCutOffGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.evaluation.PartAfter = time.Nanosecond
	suite := g.plan(t, g.first, "").Suite
	in := steps.AnswerInput{Service: "docs", Release: g.first, Suite: suite, By: by, Batch: &steps.Batch{From: 0, To: 60}, AtOnce: 2} // a request each
	first := newTry()
	g.servers.before = stopAt(t, first, 35)
	_, err := on(first, steps.AnswerBatch, g.evaluation.Answer, in)
	require.True(t, lifecycle.KindOf(err).Retryable(), "%v", err)

	other, servers := g.elsewhere(t)
	second := newTry()
	servers.before = stopAt(t, second, 15) // and this one ends, too
	_, err = on(second, steps.AnswerBatch, other.Answer, in)
	require.True(t, lifecycle.KindOf(err).Retryable(), "%v", err)

	third, last := g.elsewhere(t)
	out, err := do(t, steps.AnswerBatch, third.Answer, in)
	require.NoError(t, err)
	require.Equal(t, 60, out.Cases)
	require.Equal(t, int64(60-30-10), last.requests(), "three parts of ten were kept by the first worker, one by the second")

	fourth, none := g.elsewhere(t)
	again, err := do(t, steps.AnswerBatch, fourth.Answer, in)
	require.NoError(t, err)
	require.True(t, again.Reused)
	require.Zero(t, none.requests())
}

func TestJoinRefusesWhatIsNotAllOfIt(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	suite := g.plan(t, g.first, "").Suite
	in := steps.AnswerInput{Service: "docs", Release: g.first, Suite: suite, By: by}
	join := steps.JoinInput{Service: "docs", Release: g.first, Suite: suite, By: by, Batches: cutInto(110, 3)}
	for i := range join.Batches {
		in.Batch = &join.Batches[i]
		out, err := do(t, steps.AnswerBatch, g.evaluation.Answer, in)
		require.NoError(t, err)
		join.Answers = append(join.Answers, out.Answers)
	}
	for name, change := range map[string]func(*steps.JoinInput){
		"a batch lacks":         func(j *steps.JoinInput) { j.Batches, j.Answers = j.Batches[:2], j.Answers[:2] },
		"answers lack":          func(j *steps.JoinInput) { j.Answers = j.Answers[:2] },
		"batches changed place": func(j *steps.JoinInput) { j.Answers = []lifecycle.Digest{j.Answers[1], j.Answers[0], j.Answers[2]} },
		"one stands twice":      func(j *steps.JoinInput) { j.Answers = []lifecycle.Digest{j.Answers[0], j.Answers[0], j.Answers[2]} },
		"of another release":    func(j *steps.JoinInput) { j.Release = g.second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := join
			change(&changed)
			_, err := do(t, steps.JoinAnswers, g.evaluation.Join, changed)
			require.Error(t, err)
			require.False(t, lifecycle.KindOf(err).Retryable(), "%v", err)
		})
	}
	in.Batch = &steps.Batch{From: 100, To: 111}
	_, err := do(t, steps.AnswerBatch, g.evaluation.Answer, in)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}

func TestABatchIsNotAskedOfACanary(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	suite := g.plan(t, g.first, "").Suite
	claim, err := g.Registry.TakeClaim(t.Context(), "docs", lifecycle.PromotionLoop, someOwner(), by)
	require.NoError(t, err)
	_, err = g.Registry.SetFirstStable(t.Context(), registry.FirstStable{Service: "docs", Fence: claim.Fence, Release: g.first, By: by, Reason: "first"})
	require.NoError(t, err)
	promotion := activities.Promotion{Registry: g.Registry, Captured: g.captured}
	_, err = do(t, steps.StartRollout, promotion.StartRollout, steps.RolloutInput{Service: "docs", Claim: claim, Release: g.second, By: by})
	require.NoError(t, err)
	_, err = do(t, steps.SetShare, promotion.SetShare, steps.ShareInput{Service: "docs", Claim: claim, Share: 500, By: by, Reason: "step 1"})
	require.NoError(t, err)
	ended := make(chan struct{})
	g.servers.before = func(int64) { <-ended } // what is under way ends with the step
	t.Cleanup(func() { close(ended) })
	_, err = do(t, steps.AnswerBatch, g.evaluation.Answer, steps.AnswerInput{
		Service: "docs", Release: g.second, Suite: suite, By: by, Batch: &steps.Batch{From: 0, To: 10}, AtOnce: 1,
	})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	require.ErrorContains(t, err, "is a canary now")
}
