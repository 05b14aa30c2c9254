package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func (w *world) pretrain(input any) (steps.PretrainingResult, error) {
	w.t.Helper()
	return run[steps.PretrainingResult](w, steps.ContinuePretraining, input)
}

func dataset(digest lifecycle.Digest) lifecycle.ArtifactRef {
	return lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: digest}
}

func model(digest lifecycle.Digest) lifecycle.ArtifactRef {
	return lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: digest}
}

func TestPretrainingTrainsABaseFirstWhereThereIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.pretrain(onlyService())
	require.NoError(t, err)

	jobs := inputs(w, steps.RunJob)
	require.Len(t, jobs, 2)
	base, continued := jobs[0], jobs[1]
	require.Equal(t, map[string]lifecycle.ArtifactRef{"dataset": dataset(datasetOf("base"))}, base.Spec.Inputs)
	require.Equal(t, map[string]string{
		"stage": "base", "dataset": string(datasetOf("base")), "contamination": string(reportOf("pretrain")),
	}, base.Labels)
	require.Equal(t, map[string]lifecycle.ArtifactRef{
		"dataset": dataset(datasetOf("fresh")), "replay": dataset(datasetOf("base")), "model": model(modelOf(base.Key)),
	}, continued.Spec.Inputs, "old text is replayed beside the fresh")
	require.NotEqual(t, base.Key, continued.Key)
	require.Equal(t, steps.PretrainingResult{
		Base: modelOf(base.Key), Model: modelOf(continued.Key), Dataset: datasetOf("fresh"), Release: candidate,
		Screens: []steps.Screened{
			{Job: "pretrain", Report: reportOf("pretrain"), Cases: 9, Documents: 10},
			{Job: "continue", Report: reportOf("continue"), Cases: 9, Documents: 10},
		},
	}, out)
	require.Equal(t, modelOf(continued.Key), inputs(w, steps.MakeRelease)[0].Model)
	require.Equal(t, string(candidate), w.state().Release)
}

func TestPretrainingContinuesFromTheBaseThatThereIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	there := steps.BaseModel{Model: modelOf("old base"), Dataset: datasetOf("old text")}
	gives(w, steps.FindBaseModel, there)
	out, err := w.pretrain(map[string]any{"service": "docs", "from": "1234"})
	require.NoError(t, err)
	require.Equal(t, "1234", inputs(w, steps.FindBaseModel)[0].Model)
	jobs := inputs(w, steps.RunJob)
	require.Len(t, jobs, 1)
	require.Equal(t, model(there.Model), jobs[0].Spec.Inputs["model"])
	require.Equal(t, dataset(there.Dataset), jobs[0].Spec.Inputs["replay"])
	require.Equal(t, there.Model, out.Base)
}

func TestPretrainingOfTheBaseOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gives(w, steps.FindBaseModel, steps.BaseModel{Model: modelOf("old base")})
	out, err := w.pretrain(map[string]any{"service": "docs", "stage": "base"})
	require.NoError(t, err)
	require.Len(t, inputs(w, steps.RunJob), 1)
	require.Equal(t, out.Base, out.Model)
	require.Equal(t, datasetOf("base"), out.Dataset)
}

func TestPretrainingRefusesAnInputThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for name, input := range map[string]string{
		"an unknown stage":         `{"service": "docs", "stage": "tuned"}`,
		"parameters as a list":     `{"service": "docs", "parameters": [1]}`,
		"parameters as a number":   `{"service": "docs", "parameters": 1}`,
		"parameters as text":       `{"service": "docs", "parameters": "steps=5"}`,
		"a label that is a number": `{"service": "docs", "labels": {"a": 1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			require.Equal(t, lifecycle.Invalid, steps.KindOf(w.start(steps.ContinuePretraining, raw(t, input))))
			require.Empty(t, w.calls)
		})
	}
}

func TestPretrainingOverlaysParametersAndLabels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service.Training.Base = json.RawMessage(`{"steps": 100}`)
	w.service.Training.Continued = json.RawMessage(`{"steps": 50, "rate": 0.1}`)
	_, err := w.pretrain(map[string]any{
		"service": "docs", "parameters": map[string]int{"steps": 7},
		"labels": map[string]string{"why": "fresh docs", "stage": "base", "dataset": "none"},
	})
	require.NoError(t, err)
	jobs := inputs(w, steps.RunJob)
	require.JSONEq(t, `{"steps": 100}`, string(jobs[0].Spec.Parameters), "the input is about the stage that was asked for")
	require.JSONEq(t, `{"steps": 7, "rate": 0.1}`, string(jobs[1].Spec.Parameters))
	require.Equal(t, map[string]string{
		"why": "fresh docs", "stage": "continued", "dataset": string(datasetOf("fresh")), "contamination": string(reportOf("continue")),
	}, jobs[1].Labels, "what a model is does not depend on who starts the run")

	w = newWorld(t)
	w.service.Training.Continued = json.RawMessage(`{"steps": 50}`)
	_, err = w.pretrain(raw(t, `{"service": "docs", "parameters": null}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"steps": 50}`, string(inputs(w, steps.RunJob)[1].Spec.Parameters))
}

func TestADatasetThatSomebodyElseBuildsIsShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gives(w, steps.AwaitDataset, steps.BuildDatasetResult{Dataset: datasetOf("theirs")})
	id := w.taken(steps.DatasetWorkflowID("docs", "base", w.service.Digest()))
	_, err := w.pretrain(map[string]any{"service": "docs", "stage": "base"})
	require.NoError(t, err)
	require.Equal(t, []steps.SharedInput{{WorkflowID: id}}, inputs(w, steps.AwaitDataset))
	require.Empty(t, inputs(w, steps.CheckCorpus))
	require.Equal(t, dataset(datasetOf("theirs")), inputs(w, steps.RunJob)[0].Spec.Inputs["dataset"])
}

func TestASharedRunThatEndsWithoutAnAnswerIsAskedAnewAFewTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.taken(steps.DatasetWorkflowID("docs", "base", w.service.Digest()))
	fails(w, steps.AwaitDataset, lifecycle.NotFound, "terminated")
	_, err := w.pretrain(map[string]any{"service": "docs", "stage": "base"})
	require.Equal(t, lifecycle.NotFound, steps.KindOf(err))
	require.Len(t, inputs(w, steps.AwaitDataset), 3)
}

func TestNoGPUIsTouchedForACorpusThatIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fails(w, steps.CheckCorpus, lifecycle.Refused, "half of it are duplicates")
	_, err := w.pretrain(onlyService())
	require.Equal(t, lifecycle.Refused, steps.KindOf(err), "the child's kind is the run's")
	require.Empty(t, inputs(w, steps.RunJob))
	require.Len(t, inputs(w, steps.ReleaseClaim), 1)
}

// ended is a try of a job that did not succeed.
func ended(phase lifecycle.JobPhase, code int) steps.RunJobResult {
	return steps.RunJobResult{Status: lifecycle.JobStatus{Phase: phase, ExitCode: code, Reason: "because"}}
}

// tries lets the tries of the base's job end one after the other; what comes after them succeeds.
func (w *world) tries(results ...steps.RunJobResult) {
	on(w, steps.RunJob, func(_ context.Context, in steps.RunJobInput) (steps.RunJobResult, error) {
		if in.Try <= len(results) {
			return results[in.Try-1], nil
		}
		return succeeded(in), nil
	})
}

func repeated(n int, result steps.RunJobResult) (out []steps.RunJobResult) {
	for range n {
		out = append(out, result)
	}
	return out
}

func TestAJobIsTriedAgainWhereThatHelps(t *testing.T) {
	t.Parallel()
	again, lost := ended(lifecycle.JobRetry, lifecycle.JobExitRetry), ended(lifecycle.JobLost, -1)
	failed, rejected := ended(lifecycle.JobFailed, 1), ended(lifecycle.JobRejected, lifecycle.JobExitRejected)
	for name, tc := range map[string]struct {
		tries []steps.RunJobResult
		asked int
		kind  lifecycle.Kind
		says  string
	}{
		"when it asks for it":                 {[]steps.RunJobResult{again, again, again, again}, 5, "", ""},
		"when it is lost":                     {[]steps.RunJobResult{lost}, 2, "", ""},
		"when it fails twice":                 {[]steps.RunJobResult{failed, failed}, 3, "", ""},
		"when it fails after it asked for it": {[]steps.RunJobResult{again, again, again, failed, failed}, 6, "", ""},
		"but not when it fails three times": {[]steps.RunJobResult{failed, lost, failed, failed}, 4,
			lifecycle.Refused, "failed 3 times, the last time with exit code 1: because"},
		"but not when its spec is wrong": {[]steps.RunJobResult{rejected}, 1, lifecycle.Invalid, "exit code 64: because"},
		"but not when somebody ended it": {[]steps.RunJobResult{ended(lifecycle.JobCanceled, -1)}, 1, lifecycle.Refused, "canceled"},
		"but not when it says nothing":   {[]steps.RunJobResult{{}}, 1, lifecycle.Refused, `ended as ""`},
		"but not without end":            {repeated(maxTries, again), maxTries, lifecycle.Refused, "20 tries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.tries(tc.tries...)
			_, err := w.pretrain(map[string]any{"service": "docs", "stage": "base"})
			require.Equal(t, tc.kind, steps.KindOf(err))
			if tc.says != "" {
				require.ErrorContains(t, err, tc.says)
			}
			jobs := inputs(w, steps.RunJob)
			require.Len(t, jobs, tc.asked)
			for i, job := range jobs {
				require.Equal(t, i+1, job.Try)
				require.Equal(t, jobs[0].Key, job.Key, "one key for every try")
			}
		})
	}
}

func TestAJobRunsWhereItsEngineIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service.Training.Engine = "slurm"
	_, err := w.pretrain(map[string]any{"service": "docs", "stage": "base"})
	require.NoError(t, err)
	require.Equal(t, "slurm", inputs(w, steps.RunJob)[0].Spec.Engine)
	require.Contains(t, fmt.Sprint(w.state().Notes), "try 1, on engine slurm")
}
