package activities_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// rivals is a desk with two releases whose answers a judge compares. What the second one says is one word less.
func rivals(t *testing.T, cases int) (d *desk, plan steps.EvaluationPlan) {
	t.Helper()
	d = newDesk(t, `score: {name: judge-pairwise, settings: {judge: strict, criteria: says more, against: baseline}}`, cases)
	d.servers.said = func(_, question string) string { return "It is Paris, to " + question }
	d.evaluation.PartAfter = time.Nanosecond
	first := d.made(t)
	second := d.made(t, lifecycle.Rule{Kind: lifecycle.RuleDenyPattern, Value: "Paris"})
	plan = d.plan(t, second, first)
	require.True(t, plan.Compares)
	return d, plan
}

// prefers is a judge that prefers what names Paris.
func prefers(about string) string {
	var pair struct{ A, B string }
	if json.Unmarshal([]byte(about), &pair) != nil {
		return "what?"
	}
	if strings.Contains(pair.A, "Paris") {
		return `{"better": "a"}`
	}
	return `{"better": "b"}`
}

func (d *desk) comparing(t *testing.T, plan steps.EvaluationPlan) steps.CompareInput {
	t.Helper()
	return steps.CompareInput{
		Service: "docs", Suite: plan.Suite, Candidate: plan.Candidate, Baseline: plan.Baseline, By: by,
		CandidateAnswers: d.answers(t, plan.Candidate, plan.Suite).Answers, BaselineAnswers: d.answers(t, plan.Baseline, plan.Suite).Answers,
	}
}

func (d *desk) judgeCompared(t *testing.T, plan steps.EvaluationPlan, in steps.CompareInput, comparisons lifecycle.Digest) lifecycle.Verdict {
	t.Helper()
	verdict, err := do(t, steps.JudgeGate, d.evaluation.Judge, steps.JudgeGateInput{
		Service: "docs", Plan: plan, CandidateAnswers: in.CandidateAnswers, BaselineAnswers: in.BaselineAnswers, Comparisons: comparisons, By: by,
	})
	require.NoError(t, err)
	return verdict
}

func TestAJudgeComparesBothReleasesAnswersOnce(t *testing.T) {
	t.Parallel()
	d, plan := rivals(t, 60)
	in := d.comparing(t, plan)
	verdict := d.judgeCompared(t, plan, in, "")
	require.Equal(t, lifecycle.ErrorOutcome, verdict.Outcome, "nobody compared")

	_, err := do(t, steps.CompareAnswers, d.evaluation.Compare, in)
	require.NoError(t, err)
	url, asked := judging(t, prefers)
	d.evaluation.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1"}}
	stopping := newTry()
	d.evaluation.Judges["strict"] = activities.Judge{URL: d.until(t, 2*25, stopping), Model: "judge-1"}
	_, err = on(stopping, steps.CompareAnswers, d.evaluation.Compare, in)
	require.True(t, lifecycle.KindOf(err).Retryable(), "%v", err)

	// Another worker, which has nothing of it on its disk, goes on.
	other, _ := d.elsewhere(t)
	other.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1"}}
	out, err := do(t, steps.CompareAnswers, other.Compare, in)
	require.NoError(t, err)
	require.Equal(t, 60, out.Pairs)
	require.Len(t, *asked, 2*(60-20), "in both orders, but for the two parts of ten that were kept")
	verdict = d.judgeCompared(t, plan, in, out.Comparisons)
	require.Equal(t, lifecycle.RegressOutcome, verdict.Outcome, verdict.Reasons)
	require.InDelta(t, 1, verdict.Capabilities[0].Baseline, 0)
	require.InDelta(t, 0, verdict.Capabilities[0].Candidate, 0)
	report, err := d.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: verdict.Report}, "report.md", 1<<20)
	require.NoError(t, err)
	require.Contains(t, string(report), "How answers were compared in facts")

	again, err := do(t, steps.CompareAnswers, d.evaluation.Compare, in)
	require.NoError(t, err)
	require.True(t, again.Reused)
	require.Equal(t, out.Comparisons, again.Comparisons)
	other.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-2"}}
	anew, err := do(t, steps.CompareAnswers, other.Compare, in)
	require.NoError(t, err)
	require.False(t, anew.Reused, "another judge is another opinion")
	d.Registry = other.Registry
	raw, err := d.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: anew.Comparisons}, "comparisons.jsonl", 1<<20)
	require.NoError(t, err)
	compared, err := evaluation.ReadComparisons(strings.NewReader(string(raw)))
	require.NoError(t, err)
	require.Contains(t, compared.List[0].Error, "the model server answered 400", "judge-2 is not there")
}

// until is a judge that works until it was asked so often, and then lets a try be stopped.
func (d *desk) until(t *testing.T, times int64, stopped *try) string {
	t.Helper()
	n := int64(0)
	var wait func(int64)
	url, _ := judging(t, func(about string) string {
		n++
		wait(n)
		return prefers(about)
	})
	wait = stopAt(t, stopped, times)
	return url
}

// TestAJudgeIsHeldAgainstPeopleBeforeItIsBelieved: the declaration asks for an agreement, so the gate of a judge that grades as
// people do passes, and that of one that does not is an error. The judge is asked once for all releases.
func TestAJudgeIsHeldAgainstPeopleBeforeItIsBelieved(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `score: {name: judge-rubric, settings: {judge: strict, rubric: names many cities}}`, 0)
	var lines strings.Builder
	for i := range 60 {
		fmt.Fprintf(&lines, `{"text":"Which city, number %d?","human":{"said":"%d cities","score":%d}}`+"\n", i, 1+i%5, 1+i%5)
	}
	require.NoError(t, os.WriteFile(filepath.Join(d.folder, "facts.jsonl"), []byte(lines.String()), 0o600))
	d.declare.Evaluation.Agreement = lifecycle.Agreement{Minimum: 0.6, Labels: 50}
	d.servers.said = func(string, string) string { return "3 cities" }
	first := d.made(t)
	plan := d.plan(t, first, "")
	require.Equal(t, 60, plan.Labels)
	label := func() steps.LabelResult {
		out, err := do(t, steps.LabelAnswers, d.evaluation.Label, steps.LabelInput{Service: "docs", Suite: plan.Suite, By: by})
		require.NoError(t, err)
		return out
	}
	judge := func(labels lifecycle.Digest) lifecycle.Verdict {
		verdict, err := do(t, steps.JudgeGate, d.evaluation.Judge, steps.JudgeGateInput{
			Service: "docs", Plan: plan, CandidateAnswers: d.answers(t, plan.Candidate, plan.Suite).Answers, Labels: labels, By: by,
		})
		require.NoError(t, err)
		return verdict
	}
	url, _ := judging(t, func(string) string { return `{"score": 3}` })
	d.evaluation.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1"}}
	require.Contains(t, judge("").Reasons[0], "nobody held the judge against people")
	require.Contains(t, judge(label().Labels).Reasons[0], "says the same of all")

	url, asked := judging(t, func(about string) string {
		var item struct{ Answer string }
		if json.Unmarshal([]byte(about), &item) != nil {
			return "what?"
		}
		return `{"score": ` + item.Answer[:1] + `}`
	})
	d.evaluation.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1"}, "other": {URL: url, Model: "judge-1"}}
	out := label()
	require.Len(t, *asked, 60)
	require.False(t, out.Reused, "what other judges are there to be asked: another opinion")
	verdict := judge(out.Labels)
	require.Equal(t, lifecycle.PassOutcome, verdict.Outcome, verdict.Reasons)
	report, err := d.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: verdict.Report}, "report.md", 1<<20)
	require.NoError(t, err)
	require.Contains(t, string(report), "| facts | 60 | 60 | 0 | spearman | 1.00 |")
	require.True(t, label().Reused)
	require.Len(t, *asked, 60)

	d.declare.Evaluation.Agreement.Minimum = 0.7
	d.made(t)
	require.NotEqual(t, plan.Suite, d.plan(t, first, "").Suite, "what is asked of judges is part of the question")
}

// TestWhatHasNoScoreIsAskedAgainFromAnotherMachine: a run ends with answers that could not be scored; the next one, on a
// machine that has nothing of it on its disk, asks for them and for no others.
func TestWhatHasNoScoreIsAskedAgainFromAnotherMachine(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `score: {name: judge-rubric, settings: {judge: strict, rubric: names a city}}`, 12)
	d.servers.said = func(_, question string) string { return "Paris, to " + question }
	plan := d.plan(t, d.made(t), "")
	url, _ := judging(t, func(about string) string {
		for _, mute := range []string{"number 3?", "number 7?", "number 10?"} {
			if strings.Contains(about, mute) {
				return "I cannot say."
			}
		}
		return `{"score": 5}`
	})
	d.evaluation.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1"}}
	in := steps.AnswerInput{Service: "docs", Release: plan.Candidate, Suite: plan.Suite, By: by, Batch: &steps.Batch{From: 0, To: 12}}
	first, err := do(t, steps.AnswerBatch, d.evaluation.Answer, in)
	require.NoError(t, err)
	errors := 0
	for _, a := range d.read(t, first.Answers) {
		if a.Error != "" {
			errors++
		}
	}
	require.Equal(t, 3, errors)

	other, servers := d.elsewhere(t)
	servers.said = d.servers.said
	url, asked := judging(t, func(string) string { return `{"score": 3}` })
	other.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1"}}
	second, err := do(t, steps.AnswerBatch, other.Answer, in)
	require.NoError(t, err)
	require.False(t, second.Reused)
	require.Equal(t, int64(3), servers.requests(), "answers")
	require.Len(t, *asked, 3, "scores")
	for i, a := range d.read(t, second.Answers) {
		require.Empty(t, a.Error)
		want := 1.0
		if i == 3 || i == 7 || i == 10 {
			want = 0.5
		}
		require.InDelta(t, want, a.Score, 1e-9, "%s", a.Said)
	}
}
