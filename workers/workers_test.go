package workers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func limited() worker.Options {
	return worker.Options{Interceptors: []interceptor.WorkerInterceptor{&payloadLimit{}}}
}

func TestAnOversizedResultOfAStepIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		bytes int
		want  lifecycle.Kind
	}{
		"what fits passes":         {steps.MaxPayload - 2, ""}, // two quotes stand around it
		"one byte more is refused": {steps.MaxPayload - 1, lifecycle.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment().SetWorkerOptions(limited())
			env.RegisterActivityWithOptions(func(context.Context) (string, error) {
				return strings.Repeat("x", tc.bytes), nil
			}, activity.RegisterOptions{Name: "Say"})
			_, err := env.ExecuteActivity("Say")
			require.Equal(t, tc.want, steps.KindOf(err), "%v", err)
			var app *temporal.ApplicationError
			if errors.As(err, &app) {
				require.True(t, app.NonRetryable(), "else it is tried again for ever")
			}
		})
	}
}

func TestALongErrorIsCutAndKeepsItsKind(t *testing.T) {
	t.Parallel()
	for kind, text := range map[lifecycle.Kind]string{
		lifecycle.Refused: strings.Repeat("x", 1<<20), lifecycle.Unavailable: strings.Repeat("ü", 1<<20), lifecycle.Corrupt: "what stood there: \xff",
	} {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment().SetWorkerOptions(limited())
		env.RegisterActivityWithOptions(func(context.Context) error {
			return steps.ToTemporal(lifecycle.Errorf(kind, "%s", text))
		}, activity.RegisterOptions{Name: "Fail"})
		_, err := env.ExecuteActivity("Fail")
		require.Equal(t, kind, steps.KindOf(err))
		require.Less(t, len(err.Error()), 2*maxMessage)
		require.True(t, utf8.ValidString(err.Error()), "else it could not be sent")
		var app *temporal.ApplicationError
		require.ErrorAs(t, err, &app)
		require.Equal(t, !kind.Retryable(), app.NonRetryable())
	}
}

func TestAnOversizedResultOfAWorkflowIsRefused(t *testing.T) {
	t.Parallel()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(limited())
	env.RegisterWorkflowWithOptions(func(workflow.Context) (string, error) {
		return strings.Repeat("x", steps.MaxPayload), nil
	}, workflow.RegisterOptions{Name: "Say"})
	env.ExecuteWorkflow("Say")
	require.Equal(t, lifecycle.Invalid, steps.KindOf(env.GetWorkflowError()), "%v", env.GetWorkflowError())
}

func TestQueues(t *testing.T) {
	t.Parallel()
	lazy, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1"})
	require.NoError(t, err)
	t.Cleanup(lazy.Close)
	for name, tc := range map[string]struct {
		queues, engines []string
		workers         int
		want            lifecycle.Kind
	}{
		"all of them by default":                      {engines: []string{"local", "slurm"}, workers: 5},
		"only the ones that were asked for":           {queues: []string{steps.QueueIO}, engines: []string{"local"}, workers: 1},
		"a job queue of an engine":                    {queues: []string{"refit-jobs-local"}, engines: []string{"local"}, workers: 1},
		"no queue of an engine that is not reachable": {queues: []string{"refit-jobs-slurm"}, engines: []string{"local"}, want: lifecycle.Invalid},
		"no queue that nobody knows":                  {queues: []string{"refit-oi"}, want: lifecycle.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made, err := New(Config{Client: lazy, Queues: tc.queues, Engines: tc.engines})
			require.Equal(t, tc.want, lifecycle.KindOf(err), "%v", err)
			if err == nil {
				require.Len(t, made.running, tc.workers)
				return
			}
			require.ErrorContains(t, err, "worker.queues", "the message names the setting")
			require.ErrorContains(t, err, steps.QueueData, "and what could be given")
		})
	}
}

// names collects what is registered.
type names struct {
	worker.WorkflowRegistry
	worker.ActivityRegistry
	workflows, activities []string
}

func (n *names) RegisterWorkflowWithOptions(_ any, options workflow.RegisterOptions) {
	n.workflows = append(n.workflows, options.Name)
}

func (n *names) RegisterActivityWithOptions(_ any, options activity.RegisterOptions) {
	n.activities = append(n.activities, options.Name)
}

func TestEveryLoopAndEveryStepIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	var seen names
	Register(&seen)
	require.ElementsMatch(t, []string{
		steps.ContinuePretraining, steps.RebuildIndex, steps.EvaluateRelease, steps.PromoteRelease, steps.TuneFromFeedback, steps.BuildDataset,
		steps.ArchiveInteractions,
	}, seen.workflows)
	var cfg Config
	cfg.Activities.BindIO(&seen)
	cfg.Activities.BindData(&seen)
	cfg.Activities.BindJobs(&seen)
	once := map[string]bool{}
	for _, name := range seen.activities {
		require.False(t, once[name], "%s is registered twice", name)
		once[name] = true
	}
	for _, name := range []string{
		steps.CheckCorpus.Name, steps.RunJob.Name, steps.BuildIndex.Name, steps.PlanEvaluation.Name, steps.AnswerSuite.Name,
		steps.JudgeGate.Name, steps.HoldStep.Name, steps.CurateFeedback.Name, steps.OpenLadder.Name, steps.RollBack.Name,
	} {
		require.True(t, once[name], name)
	}
}
