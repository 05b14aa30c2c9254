package workflows

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	history "go.temporal.io/api/history/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Names that stand in stored histories instead of a machine's.
const (
	recorderNamespace = "refit-histories"
	recorderIdentity  = "recorder"
)

// recording is one run on a real server: what the steps do, and what people do meanwhile.
type recording struct {
	loop, name string
	input      any
	memo       map[string]any
	script     func(w *world)
	meanwhile  func(r *recorder)
	status     enums.WorkflowExecutionStatus
}

func (r recording) file() string { return filepath.Join(histories, r.loop+"."+r.name+".json") }

// recorder drives one recording.
type recorder struct {
	*world
	client client.Client
	run    client.WorkflowRun
	ctx    context.Context
}

// TestRecordHistories is the recorder and no test: it runs what recordings lists on the server of the stack
// file that REFIT_RECORD_HISTORIES names, and stores the histories that are not there yet. One that is
// there is never written again; see testdata/README.md.
func TestRecordHistories(t *testing.T) {
	stackFile := os.Getenv("REFIT_RECORD_HISTORIES")
	if stackFile == "" {
		t.Skip("REFIT_RECORD_HISTORIES names no stack file")
	}
	worker.SetStickyWorkflowCacheSize(0) // a sticky queue's name holds the machine's, and is in the history
	c := recorderClient(t, stackFile)
	for _, one := range recordings() {
		t.Run(one.loop+" "+one.name, func(t *testing.T) {
			if _, err := os.Stat(one.file()); err == nil {
				t.Skip("it is there already")
			}
			record(t, c, one)
		})
	}
}

func recorderClient(t *testing.T, stackFile string) client.Client {
	t.Helper()
	raw, err := os.ReadFile(stackFile)
	require.NoError(t, err)
	var stack struct {
		Temporal struct {
			Address string `json:"address"`
		} `json:"temporal"`
	}
	require.NoError(t, json.Unmarshal(raw, &stack))
	c, err := client.Dial(client.Options{
		HostPort: stack.Temporal.Address, Namespace: recorderNamespace, Identity: recorderIdentity, Logger: quiet(),
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	prepareNamespace(t, c)
	return c
}

func prepareNamespace(t *testing.T, c client.Client) {
	t.Helper()
	ctx := t.Context()
	_, err := c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: recorderNamespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if err != nil {
		require.ErrorContains(t, err, "already exists")
	}
	attributes := map[string]enums.IndexedValueType{}
	for _, name := range []string{steps.AttributeService, steps.AttributeRelease, steps.AttributePhase, steps.AttributeLoop} {
		attributes[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	require.Eventually(t, func() bool {
		_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: recorderNamespace, SearchAttributes: attributes,
		})
		if err != nil {
			t.Logf("search attributes: %v", err)
		}
		listed, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: recorderNamespace})
		return err == nil && len(listed.GetCustomAttributes()) >= len(attributes)
	}, time.Minute, time.Second)
}

func record(t *testing.T, c client.Client, one recording) {
	w := newScript(t)
	one.script(w)
	w.work(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: one.loop + "/" + one.name, TaskQueue: steps.Queue,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, Memo: one.memo,
	}, one.loop, one.input)
	require.NoError(t, err)
	if one.meanwhile != nil {
		one.meanwhile(&recorder{world: w, client: c, run: run, ctx: ctx})
	}
	_ = run.Get(ctx, nil) // how it ended is asked below
	described, err := c.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
	require.NoError(t, err)
	require.Equal(t, one.status, described.GetWorkflowExecutionInfo().GetStatus())
	store(t, ctx, c, run, one.file())
}

// work lets workers do the script until the test ends.
func (w *world) work(t *testing.T, c client.Client) {
	t.Helper()
	start := func(queue string, options worker.Options, register func(worker.Worker)) {
		options.MaxHeartbeatThrottleInterval = 100 * time.Millisecond
		one := worker.New(c, queue, options)
		register(one)
		require.NoError(t, one.Start())
		t.Cleanup(one.Stop)
	}
	start(steps.Queue, worker.Options{BuildID: recorderIdentity}, func(to worker.Worker) {
		for name, do := range loops {
			to.RegisterWorkflowWithOptions(do, workflow.RegisterOptions{Name: name})
		}
	})
	for _, queue := range []string{steps.QueueIO, steps.QueueData, steps.JobsQueue("local")} {
		start(queue, worker.Options{DisableWorkflowWorker: true, BuildID: recorderIdentity}, func(to worker.Worker) {
			for _, bind := range w.bindings {
				bind(to)
			}
		})
	}
}

func store(t *testing.T, ctx context.Context, c client.Client, run client.WorkflowRun, file string) {
	t.Helper()
	var whole history.History
	events := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		whole.Events = append(whole.Events, event)
	}
	out, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&whole)
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NotContains(t, string(out), host)
	require.NoError(t, os.WriteFile(file, append(out, '\n'), 0o644))
	t.Logf("%s: %d events", file, len(whole.Events))
}

// heldOut is a step of a real worker that goes on until the workflow cancels it.
func heldOut(ctx context.Context) error {
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for {
		activity.RecordHeartbeat(ctx)
		select {
		case <-beat.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func held(ctx context.Context) (steps.HoldResult, error) { return steps.HoldResult{}, heldOut(ctx) }

// await waits until the script was asked for a step so often.
func await[In, Out any](r *recorder, step steps.Step[In, Out], times int) {
	require.Eventually(r.t, func() bool { return len(inputs(r.world, step)) >= times }, time.Minute, 20*time.Millisecond)
}

func (r *recorder) awaitState(is func(steps.State) bool) {
	require.Eventually(r.t, func() bool {
		value, err := r.client.QueryWorkflow(r.ctx, r.run.GetID(), r.run.GetRunID(), steps.StateQuery)
		var state steps.State
		return err == nil && value.Get(&state) == nil && is(state)
	}, time.Minute, 50*time.Millisecond)
}

func (r *recorder) does(name string, argument any) {
	handle, err := r.client.UpdateWorkflow(r.ctx, client.UpdateWorkflowOptions{
		WorkflowID: r.run.GetID(), RunID: r.run.GetRunID(), UpdateName: name, Args: []any{argument},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(r.t, err)
	require.NoError(r.t, handle.Get(r.ctx, nil))
}

func (r *recorder) approves(step int) {
	owner := inputs(r.world, steps.Claim)[0].Owner
	grant := lifecycle.Grant{
		WorkflowID: owner.WorkflowID, FirstRunID: owner.FirstRunID, Step: step, Release: candidate,
		Approver: "bob", Expires: time.Now().Add(time.Hour).UTC(), Nonce: "n",
	}
	r.does(steps.ApproveUpdate, steps.Approval{Key: "n", Grant: grant.Sign(r.grant)})
}
