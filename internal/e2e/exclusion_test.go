package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestOnePromotionAtATimeWhicheverWayItIsStarted(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 1, step{5000, 5})
	first := s.promote("--approval")
	s.awaitPhase(first, "waiting for approval")

	s.checkBusyCommand(first, "promote", s.service)
	input := map[string]string{"service": s.service, "release": string(s.candidate)}
	s.checkBusy(first, s.startInUI(steps.PromoteRelease, input))
	s.checkBusy(first, s.triggerOwnSchedule(steps.PromoteRelease, input))
	s.checkOneHolder(lifecycle.PromotionLoop, first)

	s.refit(nil, "abort", s.service, "--reason", "the test is over")
	result, err := ended[steps.PromotionResult](s.world, first)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, result.Phase)
	s.checkRecord()
}

func TestOneTrainingAtATimeWhicheverWayItIsStarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSharedStack(t))
	w.startConsole()
	w.worker.start()
	release := w.path("go-on")
	w.apply(fmt.Sprintf(`service: %s
serving: {engine: static, endpoints: [{url: "http://127.0.0.1:1"}]}
corpora: {base: {sources: [{kind: folder, path: %q}]}}
training:
  command: [sh, -c, 'until [ -e %s ]; do sleep 0.1; done; mkdir "$REFIT_OUTPUTS/model" && echo weights > "$REFIT_OUTPUTS/model/model"']
cadences: [{loop: pretraining, cron: "0 3 1 1 *"}]
`, w.service, w.writeCorpus("notes", 60, 2), release))

	var first started
	w.refit(&first, "train", w.service, "--stage", "base")
	w.awaitPhase(first, "pretrain")
	w.checkBusyCommand(first, "train", w.service)
	w.checkBusy(first, w.startInUI(steps.ContinuePretraining, map[string]string{"service": w.service}))
	w.refit(nil, "schedule", "trigger", w.service, "pretraining")
	w.checkBusy(first, w.scheduled(w.service+"/pretraining"))
	w.checkOneHolder(lifecycle.PretrainingLoop, first)

	require.NoError(t, os.WriteFile(release, nil, 0o600))
	result, err := ended[steps.PretrainingResult](w, first)
	require.NoError(t, err)
	require.True(t, result.Release.Valid())
	w.checkRecord()
}

// checkBusyCommand runs a command that must be refused with the holder's name.
func (w *world) checkBusyCommand(holder started, args ...string) {
	w.t.Helper()
	o := w.try(append(args, "-o", "json")...)
	require.Equal(w.t, lifecycle.Busy.ExitCode(), o.code, "%s\n%s", o.stdout, o.stderr)
	var said struct {
		Error struct {
			Kind   lifecycle.Kind    `json:"kind"`
			Fields map[string]string `json:"fields"`
		} `json:"error"`
	}
	require.NoError(w.t, json.Unmarshal([]byte(o.stdout), &said), o.stdout)
	require.Equal(w.t, lifecycle.Busy, said.Error.Kind)
	require.Equal(w.t, holder.WorkflowID, said.Error.Fields["workflow_id"])
}

// checkBusy waits for a workflow's end, which must be Busy with the holder's name and address.
func (w *world) checkBusy(holder, second started) {
	w.t.Helper()
	_, err := ended[json.RawMessage](w, second)
	var app *temporal.ApplicationError
	require.True(w.t, errors.As(err, &app), "%v", err)
	require.Equal(w.t, string(lifecycle.Busy), app.Type(), app.Message())
	require.Contains(w.t, app.Message(), holder.WorkflowID)
	var fields map[string]string
	require.NoError(w.t, app.Details(&fields))
	require.Equal(w.t, holder.WorkflowID, fields["workflow_id"])
	require.Equal(w.t, holder.RunID, fields["first_run_id"])
	require.Contains(w.t, fields["url"], w.Temporal.UIURL)
}

// checkOneHolder says that the claim was taken once and is the first run's.
func (w *world) checkOneHolder(loop lifecycle.Loop, holder started) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	claims, err := w.registry.Claims(ctx, w.service)
	require.NoError(w.t, err)
	require.Len(w.t, claims, 1)
	require.Equal(w.t, loop, claims[0].Loop)
	require.Equal(w.t, lifecycle.Owner{Namespace: w.namespace, WorkflowID: holder.WorkflowID, FirstRunID: holder.RunID}, claims[0].Owner)
	last := lifecycle.LedgerEntry{}
	for _, e := range entriesOf(w.ledger(), lifecycle.ClaimTaken, lifecycle.ClaimTakenOver, lifecycle.ClaimReleased) {
		if e.Subject == string(loop) {
			last = e
		}
	}
	require.Equal(w.t, lifecycle.ClaimTaken, last.Kind)
}

// startInUI starts a workflow as a person does in the Temporal UI: over its HTTP API, under an ID of their own.
func (w *world) startInUI(workflow string, input any) started {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(w.t, err)
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	page, err := browser.Get(w.Temporal.UIURL + "/api/v1/settings")
	require.NoError(w.t, err)
	page.Body.Close()
	raw, err := json.Marshal(input)
	require.NoError(w.t, err)
	body, err := json.Marshal(map[string]any{
		"workflowType": map[string]string{"name": workflow}, "taskQueue": map[string]string{"name": steps.Queue},
		"input": map[string]any{"payloads": []any{map[string]any{
			"metadata": map[string][]byte{"encoding": []byte("json/plain")}, "data": raw,
		}}},
	})
	require.NoError(w.t, err)
	id := "person-" + strings.ToLower(rand.Text())
	request, err := http.NewRequest(http.MethodPost, w.Temporal.UIURL+"/api/v1/namespaces/"+w.namespace+"/workflows/"+id, bytes.NewReader(body))
	require.NoError(w.t, err)
	request.Header.Set("Content-Type", "application/json")
	for _, c := range page.Cookies() {
		if c.Name == "_csrf" {
			request.Header.Set("X-Csrf-Token", c.Value)
		}
	}
	answer, err := browser.Do(request)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	var said struct {
		RunID   string `json:"runId"`
		Message string `json:"message"`
	}
	require.NoError(w.t, json.NewDecoder(answer.Body).Decode(&said))
	require.Equal(w.t, http.StatusOK, answer.StatusCode, said.Message)
	return started{id, said.RunID}
}

// triggerOwnSchedule makes a Schedule that nobody but the test knows, and triggers it.
func (w *world) triggerOwnSchedule(workflow string, input any) started {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	handle, err := w.temporal.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: "nightly", Spec: client.ScheduleSpec{CronExpressions: []string{"0 3 1 1 *"}},
		Action: &client.ScheduleWorkflowAction{ID: "promote/" + w.service, Workflow: workflow, TaskQueue: steps.Queue, Args: []any{input}},
	})
	require.NoError(w.t, err)
	require.NoError(w.t, handle.Trigger(ctx, client.ScheduleTriggerOptions{Overlap: enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL}))
	return w.scheduled("nightly")
}

// scheduled waits until a Schedule has started a workflow.
func (w *world) scheduled(id string) started {
	w.t.Helper()
	var run started
	await(w.t, "schedule "+id+" to start its workflow", func() (bool, any) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		described, err := w.temporal.ScheduleClient().GetHandle(ctx, id).Describe(ctx)
		if err != nil || len(described.Info.RecentActions) == 0 {
			return false, err
		}
		result := described.Info.RecentActions[0].StartWorkflowResult
		run = started{result.WorkflowID, result.FirstExecutionRunID}
		return true, nil
	})
	return run
}
