package activities_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// dial reaches the stack's Temporal.
func dial(t *testing.T) client.Client {
	t.Helper()
	raw, err := os.ReadFile(os.Getenv("REFIT_TEST_STACK"))
	require.NoError(t, err)
	var stack struct {
		Temporal struct {
			Address   string `json:"address"`
			Namespace string `json:"namespace"`
		} `json:"temporal"`
	}
	require.NoError(t, json.Unmarshal(raw, &stack))
	c, err := client.Dial(client.Options{
		HostPort: stack.Temporal.Address, Namespace: stack.Temporal.Namespace,
		Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// TestACancellationEndsTheJob goes through a real server: only there a heartbeat's answer says that the workflow
// no longer wants the step.
func TestACancellationEndsTheJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	jobs := w.jobs(t)
	temporalClient := dial(t)
	queue := "test-cancel-" + rand.Text()
	in := shell("canceled", fmt.Sprintf(waitingJob, t.TempDir()), nil)

	polling := worker.New(temporalClient, queue, worker.Options{MaxHeartbeatThrottleInterval: time.Second})
	steps.RunJob.Bind(polling, jobs.Run)
	polling.RegisterWorkflowWithOptions(func(ctx workflow.Context) (steps.RunJobResult, error) {
		return steps.RunJob.OnQueue(queue).Run(ctx, in)
	}, workflow.RegisterOptions{Name: "OneJob"})
	require.NoError(t, polling.Start())
	t.Cleanup(polling.Stop)

	run, err := temporalClient.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: queue, TaskQueue: queue}, "OneJob")
	require.NoError(t, err)
	engine := jobs.Engines["local"]
	var handle compute.Handle
	require.Eventually(t, func() bool { // submitting what is there finds it
		handle, err = engine.Submit(context.Background(), compute.Run{Key: in.Key, Try: 1, Spec: in.Spec})
		if err != nil {
			return false
		}
		status, err := engine.Observe(context.Background(), handle)
		return err == nil && status.Progress != nil
	}, 30*time.Second, 50*time.Millisecond)

	require.NoError(t, temporalClient.CancelWorkflow(t.Context(), queue, ""))
	err = run.Get(t.Context(), nil)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	status, err := engine.Observe(t.Context(), handle)
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobCanceled, status.Phase, "the step returned when the process was gone")
}
