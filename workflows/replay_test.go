package workflows

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	history "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/steps"
)

// histories is the folder with what real servers recorded; see testdata/README.md.
const histories = "testdata/histories"

func storedHistories(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(histories, "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

func readHistory(t *testing.T, file string) *history.History {
	t.Helper()
	stored, err := os.Open(file)
	require.NoError(t, err)
	defer stored.Close()
	h, err := client.HistoryFromJSON(stored, client.HistoryJSONOptions{})
	require.NoError(t, err, file)
	return h
}

// replayed runs a history through workflows: an error says where they would go another way. A type that is
// not among them is an error too.
func replayed(h *history.History, workflows map[string]any) error {
	replayer := worker.NewWorkflowReplayer()
	for name, do := range workflows {
		replayer.RegisterWorkflowWithOptions(do, workflow.RegisterOptions{Name: name})
	}
	return replayer.ReplayWorkflowHistory(quiet(), h)
}

func TestStoredHistoriesReplay(t *testing.T) {
	t.Parallel()
	for _, file := range storedHistories(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			require.NoError(t, replayed(readHistory(t, file), loops))
		})
	}
}

func TestEveryRecordingIsStored(t *testing.T) {
	t.Parallel()
	ends := map[enums.EventType]enums.WorkflowExecutionStatus{
		enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: completed,
		enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:    failed,
		enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:  canceled,
	}
	loopsSeen := map[string]int{}
	for _, one := range recordings() {
		events := readHistory(t, one.file()).GetEvents()
		require.Equal(t, one.loop, events[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName(), one.file())
		require.Equal(t, one.status, ends[events[len(events)-1].GetEventType()], one.file())
		loopsSeen[one.loop]++
	}
	for loop := range loops {
		require.GreaterOrEqual(t, loopsSeen[loop], 2, "%s: one history that goes well and one that does not", loop)
	}
}

// TestReplayNoticesAChangedWorkflow plants the changes that replay is there to find.
func TestReplayNoticesAChangedWorkflow(t *testing.T) {
	t.Parallel()
	planted := map[string]func(do func(workflow.Context, converter.RawValue) error) func(workflow.Context, converter.RawValue) error{
		"a timer before it": func(do func(workflow.Context, converter.RawValue) error) func(workflow.Context, converter.RawValue) error {
			return func(ctx workflow.Context, in converter.RawValue) error {
				if err := workflow.Sleep(ctx, time.Second); err != nil {
					return err
				}
				return do(ctx, in)
			}
		},
		"a step after it": func(do func(workflow.Context, converter.RawValue) error) func(workflow.Context, converter.RawValue) error {
			return func(ctx workflow.Context, in converter.RawValue) error {
				err := do(ctx, in)
				ctx, _ = workflow.NewDisconnectedContext(ctx)
				_, _ = steps.UnloadUnused.Run(ctx, steps.UnloadInput{Service: "docs"})
				return err
			}
		},
		"an earlier end": func(func(workflow.Context, converter.RawValue) error) func(workflow.Context, converter.RawValue) error {
			return func(workflow.Context, converter.RawValue) error { return nil }
		},
	}
	for name, plant := range planted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := map[string]any{}
			for loop, do := range withoutResults() {
				changed[loop] = plant(do)
			}
			for _, file := range storedHistories(t) {
				if strings.Contains(file, ".misspelt.") && name == "an earlier end" {
					continue // it ends at once anyway
				}
				require.Error(t, replayed(readHistory(t, file), changed), file)
			}
		})
	}
}

// withoutResults are the loops as they are; results do not matter to replay.
func withoutResults() map[string]func(workflow.Context, converter.RawValue) error {
	return map[string]func(workflow.Context, converter.RawValue) error{
		steps.ContinuePretraining: withoutResult(ContinuePretraining),
		steps.RebuildIndex:        withoutResult(RebuildIndex),
		steps.EvaluateRelease:     withoutResult(EvaluateRelease),
		steps.PromoteRelease:      withoutResult(PromoteRelease),
		steps.TuneFromFeedback:    withoutResult(TuneFromFeedback),
		steps.ArchiveInteractions: withoutResult(ArchiveInteractions),
		steps.BuildDataset:        withoutResult(BuildDataset),
	}
}

func withoutResult[Out any](do func(workflow.Context, converter.RawValue) (Out, error)) func(workflow.Context, converter.RawValue) error {
	return func(ctx workflow.Context, in converter.RawValue) error {
		_, err := do(ctx, in)
		return err
	}
}

func TestReplayNoticesAnUnknownWorkflow(t *testing.T) {
	t.Parallel()
	h := readHistory(t, filepath.Join(histories, steps.PromoteRelease+".straight.json"))
	others := map[string]any{steps.RebuildIndex: RebuildIndex}
	require.ErrorContains(t, replayed(h, others), steps.PromoteRelease)
}

// TestStoredHistoriesNameNoMachine: identities are the recorder's, queues are Refit's, and no path of a
// machine stands in them.
func TestStoredHistoriesNameNoMachine(t *testing.T) {
	t.Parallel()
	paths := regexp.MustCompile(`/(root|home|tmp|var|usr|work|Users)/`)
	identities := regexp.MustCompile(`"identity":\s*"([^"]*)"`)
	queues := regexp.MustCompile(`"taskQueue":\s*\{\s*"name":\s*"([^"]*)"`)
	for _, file := range storedHistories(t) {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Empty(t, paths.FindString(string(raw)), file)
		for _, found := range identities.FindAllStringSubmatch(string(raw), -1) {
			require.Contains(t, []string{recorderIdentity, "history-service"}, found[1], file)
		}
		for _, found := range queues.FindAllStringSubmatch(string(raw), -1) {
			require.Contains(t, []string{steps.Queue, steps.QueueIO, steps.QueueData, steps.JobsQueue("local")}, found[1], file)
		}
	}
}
