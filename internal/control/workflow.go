package control

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// StartInput starts a loop by its workflow type.
type StartInput struct {
	Workflow string          `json:"workflow"` // steps.ContinuePretraining, ...
	Input    json.RawMessage `json:"input"`    // as a person would write it in the Temporal UI
}

// Started names a running workflow.
type Started struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	URL        string `json:"url,omitempty"`
}

// Start starts a loop other than a promotion. The claim, not the ID, keeps a second one out.
var Start = UseCase[StartInput, Started]{"start", Operator, (*Control).startLoop}

// customaryID is the ID that a loop is started under here; exclusion does not rest on it.
func customaryID(workflow, service string) (string, bool) {
	prefix, ok := map[string]string{
		steps.ContinuePretraining: "pretrain/",
		steps.RebuildIndex:        "index/",
		steps.EvaluateRelease:     "evaluate/",
		steps.TuneFromFeedback:    "tune/",
		steps.ArchiveInteractions: "archive/",
		steps.BuildDataset:        "dataset/",
		steps.PromoteRelease:      "promote/",
	}[workflow]
	return prefix + service, ok
}

func (c *Control) startLoop(ctx context.Context, caller Caller, in StartInput) (Started, error) {
	var input map[string]any
	if err := json.Unmarshal(in.Input, &input); err != nil {
		return Started{}, lifecycle.Errorf(lifecycle.Invalid, "input: %v; give an object with at least a service", err)
	}
	for key := range input {
		// A loop reads names of fields without regard to case: with two of them it could be another service's.
		if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return Started{}, lifecycle.Errorf(lifecycle.Invalid, "input: unknown field %q", key)
		}
	}
	service, _ := input["service"].(string)
	if err := lifecycle.CheckServiceName(service); err != nil {
		return Started{}, err
	}
	id, ok := customaryID(in.Workflow, service)
	if !ok || in.Workflow == steps.PromoteRelease {
		return Started{}, lifecycle.Errorf(lifecycle.Invalid, "workflow: %q cannot be started here", in.Workflow)
	}
	if _, err := c.cfg.Registry.ServiceVersion(ctx, service); err != nil {
		return Started{}, err
	}
	input["by"] = caller.Name
	return c.start(ctx, caller, in.Workflow, id, input)
}

func (c *Control) start(ctx context.Context, caller Caller, workflow, id string, input any) (Started, error) {
	if c.cfg.Temporal == nil {
		return Started{}, lifecycle.Errorf(lifecycle.Unavailable, "start %s: this place has no Temporal", workflow)
	}
	sent, memo, err := c.proof(caller, id, input)
	if err != nil {
		return Started{}, err
	}
	run, err := c.cfg.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: steps.Queue,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		WorkflowIDReusePolicy:                    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		Memo:                                     memo,
	}, workflow, sent)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return Started{}, &lifecycle.Error{
			Kind:    lifecycle.Busy,
			Message: "workflow " + id + " is running already: " + c.link(id, running.RunId),
			Fields:  map[string]string{"workflow_id": id, "run_id": running.RunId},
		}
	}
	if err != nil {
		return Started{}, lifecycle.Errorf(lifecycle.Unavailable, "start %s: %w", workflow, err)
	}
	return Started{run.GetID(), run.GetRunID(), c.link(run.GetID(), run.GetRunID())}, nil
}

// proof gives a start's input as it is sent, and the memo that proves who sent it; without a grant key there is none.
func (c *Control) proof(caller Caller, id string, input any) (json.RawMessage, map[string]any, error) {
	raw, err := json.Marshal(input)
	if err == nil {
		raw, err = json.Marshal(json.RawMessage(raw)) // as the client of Temporal writes it
	}
	if err != nil {
		return nil, nil, lifecycle.Errorf(lifecycle.Internal, "encode the input of %s: %w", id, err)
	}
	if len(c.cfg.GrantKey) != ed25519.PrivateKeySize || caller.Name == "" {
		return raw, nil, nil
	}
	grant := lifecycle.Grant{
		Purpose: lifecycle.StartedBy, WorkflowID: id, Approver: caller.Name, Input: lifecycle.DigestOf(raw),
		Expires: c.cfg.Now().Add(lifecycle.StartTime), Nonce: rand.Text(),
	}
	return raw, map[string]any{steps.StartedByMemo: grant.Sign(c.cfg.GrantKey)}, nil
}

// WatchInput names a workflow.
type WatchInput struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id,omitempty"`
}

// Watched is how a workflow stands now.
type Watched struct {
	Status   string              `json:"status"` // "Running", "Completed", "Failed", "Canceled", "Terminated", "TimedOut"
	State    *steps.State        `json:"state,omitempty"`
	Progress *lifecycle.Progress `json:"progress,omitempty"` // of a running job
	Retries  []Retry             `json:"retries,omitempty"`  // steps that failed and are tried again
	Touched  *lifecycle.Touched  `json:"touched,omitempty"`  // what a rollout's canary answered so far, as far as it is stored
	Result   json.RawMessage     `json:"result,omitempty"`
	Error    *lifecycle.Error    `json:"error,omitempty"`
}

// Retry is a step that does not get through.
type Retry struct {
	Step    string `json:"step"`
	Attempt int32  `json:"attempt"` // the next one, from 1
	Failure string `json:"failure"`
}

// Watch shows how a workflow stands; followers call it again and again.
var Watch = UseCase[WatchInput, Watched]{"watch", Viewer, (*Control).watch}

func (c *Control) watch(ctx context.Context, caller Caller, in WatchInput) (Watched, error) {
	if c.cfg.Temporal == nil {
		return Watched{}, lifecycle.Errorf(lifecycle.Unavailable, "this place has no Temporal")
	}
	described, err := c.cfg.Temporal.DescribeWorkflowExecution(ctx, in.WorkflowID, in.RunID)
	if err != nil {
		return Watched{}, temporalError(err, "describe workflow "+in.WorkflowID)
	}
	info := described.GetWorkflowExecutionInfo()
	if info.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW && in.RunID != "" {
		return c.watch(ctx, caller, WatchInput{WorkflowID: in.WorkflowID}) // it goes on in another run
	}
	out := Watched{Status: info.GetStatus().String()}
	owner := lifecycle.Owner{WorkflowID: in.WorkflowID, FirstRunID: info.GetFirstRunId()}
	if info.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		out.State = c.ask(ctx, owner)
		out.Touched = c.touched(ctx, out.State, owner.FirstRunID)
		out.Progress = progressOf(out.State, described.GetPendingActivities())
		for _, activity := range described.GetPendingActivities() {
			if failure := activity.GetLastFailure().GetMessage(); failure != "" {
				out.Retries = append(out.Retries, Retry{activity.GetActivityType().GetName(), activity.GetAttempt(), failure})
			}
		}
		return out, nil
	}
	err = c.cfg.Temporal.GetWorkflow(ctx, in.WorkflowID, info.GetExecution().GetRunId()).Get(ctx, &out.Result)
	if err != nil {
		out.Error = AsProblem(steps.FromTemporal(err))
	}
	return out, nil
}

// touched is nil where there is no rollout, or nobody who counts.
func (c *Control) touched(ctx context.Context, state *steps.State, rollout string) *lifecycle.Touched {
	if state == nil || state.Rollout == nil || c.cfg.Captured == nil {
		return nil
	}
	touched, err := c.cfg.Captured.Touched(ctx, state.Service, rollout)
	if err != nil {
		return nil
	}
	return &touched
}

// AsProblem gives an error the form in which it travels as JSON: its kind, all that it says, and its fields.
func AsProblem(err error) *lifecycle.Error {
	problem := &lifecycle.Error{Kind: lifecycle.KindOf(err), Message: err.Error()}
	var typed *lifecycle.Error
	if errors.As(err, &typed) {
		problem.Fields = typed.Fields
	}
	return problem
}

// temporalError: what does not exist is NotFound; anything else means that Temporal did not answer.
func temporalError(err error, trying string) error {
	var missing *serviceerror.NotFound
	var invalid *serviceerror.InvalidArgument
	switch {
	case errors.As(err, &missing):
		return lifecycle.Errorf(lifecycle.NotFound, "%s: %w", trying, err)
	case errors.As(err, &invalid):
		return lifecycle.Errorf(lifecycle.Invalid, "%s: %w", trying, err)
	case steps.KindOf(err) != lifecycle.Internal:
		return lifecycle.Wrap(steps.FromTemporal(err), "%s", trying)
	default:
		return lifecycle.Errorf(lifecycle.Unavailable, "%s: %w", trying, err)
	}
}

// WorkflowURL is a run's page in the Temporal UI.
func WorkflowURL(ui, namespace, workflowID, runID string) string {
	link := strings.TrimSuffix(ui, "/") + "/namespaces/" + url.PathEscape(namespace) + "/workflows/" + url.PathEscape(workflowID)
	if runID != "" {
		link += "/" + url.PathEscape(runID)
	}
	return link
}

// StartURL is the Temporal UI's start form with all but the input filled in.
func StartURL(ui, namespace, workflow, workflowID string) string {
	query := url.Values{"workflowId": {workflowID}, "taskQueue": {steps.Queue}, "workflowType": {workflow}}
	return strings.TrimSuffix(ui, "/") + "/namespaces/" + url.PathEscape(namespace) + "/workflows/start-workflow?" + query.Encode()
}

// WorkflowsURL lists the namespace's workflows in the Temporal UI; empty where the UI is not known.
func (c *Control) WorkflowsURL() string {
	if c.cfg.TemporalUI == "" {
		return ""
	}
	return strings.TrimSuffix(WorkflowURL(c.cfg.TemporalUI, c.cfg.Namespace, "", ""), "/")
}
