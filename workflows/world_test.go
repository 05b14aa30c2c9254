package workflows

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	sdk "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

var (
	stable    = lifecycle.DigestOf([]byte("stable"))
	candidate = lifecycle.DigestOf([]byte("candidate"))
	suite     = lifecycle.DigestOf([]byte("suite"))
)

// loops are the workflows by the names that people choose.
var loops = map[string]any{
	steps.ContinuePretraining: ContinuePretraining,
	steps.RebuildIndex:        RebuildIndex,
	steps.EvaluateRelease:     EvaluateRelease,
	steps.PromoteRelease:      PromoteRelease,
	steps.TuneFromFeedback:    TuneFromFeedback,
	steps.ArchiveInteractions: ArchiveInteractions,
	steps.BuildDataset:        BuildDataset,
}

// call is one step as it was asked for.
type call struct {
	step  string
	input any
}

// world is the steps of every loop as a test scripts them, in Temporal's test environment. What a test does
// not change goes well: the gate passes, every hold has enough, every job succeeds.
type world struct {
	*testsuite.TestWorkflowEnvironment // nil where a real server runs the loops
	t                                  *testing.T
	grant                              ed25519.PrivateKey

	service    lifecycle.Service
	searchable bool
	plan       steps.EvaluationPlan
	bindings   map[string]func(worker.ActivityRegistry)

	mu       sync.Mutex
	calls    []call
	canceled map[string]chan struct{} // by activity ID
	phases   []string                 // as the search attribute was set
}

func newWorld(t *testing.T) *world {
	t.Helper()
	var s testsuite.WorkflowTestSuite
	s.SetLogger(quiet())
	w := newScript(t)
	w.TestWorkflowEnvironment = s.NewTestWorkflowEnvironment()
	// A machine that is busy with other things may stop a workflow for seconds; that is no deadlock.
	w.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute})
	return w
}

func quiet() log.Logger { return log.NewStructuredLogger(slog.New(slog.DiscardHandler)) }

// newScript is a world without an environment.
func newScript(t *testing.T) *world {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w := &world{
		t: t, grant: private,
		service: lifecycle.Service{
			Name: "docs",
			Corpora: map[string]lifecycle.Corpus{
				"base":  {Sources: []lifecycle.Source{{Kind: "go-std"}}},
				"fresh": {Sources: []lifecycle.Source{{Kind: "folder", Path: "fresh"}}},
			},
			Retrieval: lifecycle.Retrieval{Corpora: []string{"base", "fresh"}},
			Rollout:   lifecycle.RolloutPolicy{Steps: []lifecycle.StepPolicy{{Share: 500}, {Share: 5000}}},
		}.WithDefaults(),
		searchable: true,
		plan: steps.EvaluationPlan{
			Candidate: candidate, Baseline: stable, Suite: suite,
			Verdict: &lifecycle.Verdict{Candidate: candidate, Baseline: stable, Suite: suite, Outcome: lifecycle.PassOutcome},
		},
		bindings: map[string]func(worker.ActivityRegistry){},
		canceled: map[string]chan struct{}{},
	}
	w.bindCommon()
	w.bindMaking()
	w.bindPromotion()
	return w
}

func (w *world) bindCommon() {
	on(w, steps.Resolve, func(context.Context, steps.ResolveInput) (steps.Resolved, error) { return w.resolved(), nil })
	on(w, steps.Claim, func(_ context.Context, in steps.ClaimInput) (lifecycle.Claim, error) {
		return lifecycle.Claim{Service: in.Service, Loop: in.Loop, Owner: in.Owner, Fence: 7}, nil
	})
	gives(w, steps.ProveStart, steps.StartProof{Why: "nobody signed it"})
	gives(w, steps.ReleaseClaim, steps.None{})
	gives(w, steps.Record, steps.None{})
	on(w, steps.PlanEvaluation, func(context.Context, steps.PlanEvaluationInput) (steps.EvaluationPlan, error) { return w.plan, nil })
	gives(w, steps.LoadRelease, steps.LoadResult{})
	on(w, steps.AnswerSuite, func(_ context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
		return steps.AnswerResult{Answers: lifecycle.DigestOf([]byte("answers of " + in.Release)), Cases: 9}, nil
	})
	gives(w, steps.PlanBatches, steps.AnswerPlan{Questions: 9, Batches: []steps.Batch{{From: 0, To: 9}}, AtOnce: 2})
	on(w, steps.AnswerBatch, func(_ context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
		return steps.AnswerResult{Answers: batchOf(in), Cases: in.Batch.To - in.Batch.From}, nil
	})
	on(w, steps.JoinAnswers, func(_ context.Context, in steps.JoinInput) (steps.AnswerResult, error) {
		return steps.AnswerResult{Answers: lifecycle.DigestOf([]byte("answers of " + in.Release)), Cases: 9}, nil
	})
	gives(w, steps.LabelAnswers, steps.LabelResult{Labels: labels, Answers: 7})
	gives(w, steps.CompareAnswers, steps.CompareResult{Comparisons: compared, Pairs: 9})
	on(w, steps.JudgeGate, func(_ context.Context, in steps.JudgeGateInput) (lifecycle.Verdict, error) {
		return lifecycle.Verdict{
			Candidate: in.Plan.Candidate, Baseline: in.Plan.Baseline, Suite: in.Plan.Suite, Outcome: lifecycle.PassOutcome,
		}, nil
	})
}

func (w *world) resolved() steps.Resolved {
	return steps.Resolved{
		Service: w.service, Version: 3, Digest: w.service.Digest(), SearchAttributes: w.searchable,
		GrantKey: w.grant.Public().(ed25519.PublicKey),
	}
}

func (w *world) bindMaking() {
	on(w, steps.CheckCorpus, func(_ context.Context, in steps.CheckCorpusInput) (steps.BuildDatasetResult, error) {
		return steps.BuildDatasetResult{Dataset: datasetOf(in.Corpus), Documents: 10, HeldOut: 1}, nil
	})
	on(w, steps.ScreenData, func(_ context.Context, in steps.ScreenInput) (steps.ScreenResult, error) {
		return screenedClean(in), nil
	})
	gives(w, steps.FindBaseModel, steps.BaseModel{})
	on(w, steps.RunJob, func(_ context.Context, in steps.RunJobInput) (steps.RunJobResult, error) { return succeeded(in), nil })
	gives(w, steps.MakeRelease, steps.MakeReleaseResult{Release: candidate})
	gives(w, steps.BuildIndex, steps.IndexResult{Index: lifecycle.DigestOf([]byte("index")), Chunks: 5})
	gives(w, steps.CurateFeedback, steps.TuningResult{Dataset: datasetOf("feedback"), Items: 20, Deficit: "wrong"})
	gives(w, steps.OpenLadder, lifecycle.LadderRecord{ID: "ladder"})
	gives(w, steps.PlanArchive, steps.ArchivePlan{Archive: []string{"2026-01-30", "2026-01-31"}, Forget: []string{"2025-12-30", "2026-01-30"}})
	on(w, steps.ArchiveDay, func(_ context.Context, in steps.ArchiveDayInput) (steps.ArchivedDay, error) {
		return steps.ArchivedDay{Day: in.Day, Artifact: lifecycle.DigestOf([]byte(in.Day)), Interactions: 5}, nil
	})
	gives(w, steps.ForgetDay, steps.None{})
}

func (w *world) bindPromotion() {
	gives(w, steps.StartRollout, steps.None{})
	gives(w, steps.UnloadUnused, steps.None{})
	gives(w, steps.RecordStep, steps.None{})
	gives(w, steps.FirstStable, steps.EndResult{Generation: 1})
	gives(w, steps.PlanRollout, lifecycle.RolloutPlan{Basis: "no traffic was captured lately"})
	gives(w, steps.CheckFreeze, steps.FreezeResult{})
	gives(w, steps.AwaitThaw, steps.FreezeResult{})
	gives(w, steps.SetShare, steps.ShareResult{})
	gives(w, steps.SetShadow, steps.None{})
	gives(w, steps.HoldShadow, shadowEnds(steps.HoldEnough))
	gives(w, steps.RecordShadow, steps.None{})
	gives(w, steps.HoldStep, steps.HoldResult{Reason: steps.HoldEnough, Verdict: lifecycle.StepVerdict{Decision: lifecycle.Promote}})
	gives(w, steps.MakeStable, steps.EndResult{Generation: 9})
	gives(w, steps.RollBack, steps.EndResult{Generation: 9, Touched: lifecycle.Touched{Conversations: 4}})
}

func datasetOf(corpus string) lifecycle.Digest {
	return lifecycle.DigestOf([]byte("dataset " + corpus))
}

// screenedClean is a screen that finds nothing.
func screenedClean(in steps.ScreenInput) steps.ScreenResult {
	return steps.ScreenResult{Datasets: in.Datasets, Screened: steps.Screened{Job: in.Job, Report: reportOf(in.Job), Cases: 9, Documents: 10}}
}

func reportOf(job string) lifecycle.Digest { return lifecycle.DigestOf([]byte("screen of " + job)) }

func modelOf(key string) lifecycle.Digest { return lifecycle.DigestOf([]byte("output of " + key)) }

func succeeded(in steps.RunJobInput) steps.RunJobResult {
	out := steps.RunJobResult{Status: lifecycle.JobStatus{Phase: lifecycle.JobSucceeded}, Outputs: map[string]lifecycle.ArtifactRef{}}
	for name, kind := range in.Spec.Outputs {
		out.Outputs[name] = lifecycle.ArtifactRef{Kind: kind, Digest: modelOf(in.Key)}
	}
	return out
}

// on says what a step does; the last word counts.
func on[In, Out any](w *world, step steps.Step[In, Out], do func(context.Context, In) (Out, error)) {
	w.bindings[step.Name] = func(r worker.ActivityRegistry) {
		step.Bind(r, func(ctx context.Context, in In) (Out, error) {
			w.mu.Lock()
			w.calls = append(w.calls, call{step.Name, in})
			w.mu.Unlock()
			return do(ctx, in)
		})
	}
}

func gives[In, Out any](w *world, step steps.Step[In, Out], out Out) {
	on(w, step, func(context.Context, In) (Out, error) { return out, nil })
}

func fails[In, Out any](w *world, step steps.Step[In, Out], kind lifecycle.Kind, message string) {
	on(w, step, func(context.Context, In) (out Out, err error) { return out, lifecycle.Errorf(kind, "%s", message) })
}

// inputs are what a step was asked for, in order.
func inputs[In, Out any](w *world, step steps.Step[In, Out]) []In {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []In
	for _, c := range w.calls {
		if c.step == step.Name {
			all = append(all, c.input.(In))
		}
	}
	return all
}

// order is the order in which some steps were asked for.
func (w *world) order(names ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, c := range w.calls {
		for _, name := range names {
			if c.step == name {
				out = append(out, name)
			}
		}
	}
	return out
}

// start runs a loop to its end.
func (w *world) start(loop string, input any) error {
	w.t.Helper()
	for _, bind := range w.bindings {
		bind(w)
	}
	for name, do := range loops {
		w.RegisterWorkflowWithOptions(do, workflow.RegisterOptions{Name: name})
	}
	w.SetOnActivityCanceledListener(func(info *activity.Info) { close(w.cancellation(info.ActivityID)) })
	w.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Run(func(args mock.Arguments) {
		phase, _ := args.Get(0).(temporal.SearchAttributes).GetKeyword(temporal.NewSearchAttributeKeyKeyword(steps.AttributePhase))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.phases = append(w.phases, phase)
	}).Maybe()
	w.ExecuteWorkflow(loop, input)
	require.True(w.t, w.IsWorkflowCompleted())
	return w.GetWorkflowError()
}

// run runs a loop and reads its result.
func run[Out any](w *world, loop string, input any) (out Out, err error) {
	w.t.Helper()
	if err := w.start(loop, input); err != nil {
		return out, err
	}
	require.NoError(w.t, w.GetWorkflowResult(&out))
	return out, nil
}

func (w *world) cancellation(activityID string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.canceled[activityID] == nil {
		w.canceled[activityID] = make(chan struct{})
	}
	return w.canceled[activityID]
}

// untilCanceled is a step that goes on until the workflow cancels it; meanwhile runs as soon as it does,
// where the environment takes cancellations and Updates.
func (w *world) untilCanceled(ctx context.Context, meanwhile func()) error {
	w.RegisterDelayedCallback(meanwhile, 0)
	<-w.cancellation(activity.GetInfo(ctx).ActivityID)
	return temporal.NewCanceledError()
}

// updated is how an Update went.
type updated struct {
	accepted bool
	rejected error
	state    steps.State
	failed   error
}

// update sends an Update; it must be called where the environment takes one.
func (w *world) update(name string, argument any) *updated {
	var u updated
	w.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{
		OnAccept: func() { u.accepted = true },
		OnReject: func(err error) { u.rejected = err },
		OnComplete: func(result any, err error) {
			u.failed = err
			u.state, _ = result.(steps.State)
		},
	}, argument)
	return &u
}

func (w *world) state() steps.State {
	w.t.Helper()
	value, err := w.QueryWorkflow(steps.StateQuery)
	require.NoError(w.t, err)
	var state steps.State
	require.NoError(w.t, value.Get(&state))
	return state
}

// details is the Markdown that the Temporal UI shows.
func (w *world) details() string {
	w.t.Helper()
	value, err := w.QueryWorkflow("__temporal_workflow_metadata")
	require.NoError(w.t, err)
	var metadata sdk.WorkflowMetadata
	require.NoError(w.t, value.Get(&metadata))
	return metadata.GetCurrentDetails()
}

func onlyService() map[string]string { return map[string]string{"service": "docs"} }

func raw(t *testing.T, text string) converter.RawValue {
	t.Helper()
	payload, err := converter.GetDefaultDataConverter().ToPayload(map[string]any{})
	require.NoError(t, err)
	payload.Data = []byte(strings.TrimSpace(text))
	return converter.NewRawValue(payload)
}

func startUnder(id string) client.StartWorkflowOptions { return client.StartWorkflowOptions{ID: id} }
