package control

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// catchupWindow is how late a missed run may still start.
const catchupWindow = time.Hour

// memo fields of the schedules that Refit made. Reconciling touches no other schedule.
const (
	memoService = "refit-service"
	memoDigest  = "refit-digest" // of the cadence as it was applied
)

// scheduleNote is what Refit's own schedules start with; a person's note is left alone.
const scheduleNote = "made by refit apply"

// ScheduleChange is one thing that reconciling did.
type ScheduleChange struct {
	ID     string `json:"id"`
	Change string `json:"change"` // "created", "updated", "removed", "unchanged"
}

func scheduleID(service string, loop lifecycle.Loop) string { return service + "/" + string(loop) }

func workflowOf(loop lifecycle.Loop) string {
	return map[lifecycle.Loop]string{
		lifecycle.PretrainingLoop: steps.ContinuePretraining,
		lifecycle.IndexLoop:       steps.RebuildIndex,
		lifecycle.EvaluationLoop:  steps.EvaluateRelease,
		lifecycle.TuningLoop:      steps.TuneFromFeedback,
	}[loop]
}

// reconcile makes Temporal's schedules those of the declaration. It never touches whether a schedule is
// paused, nor a person's note, and removes only what it made.
func (c *Control) reconcile(ctx context.Context, service lifecycle.Service) ([]ScheduleChange, error) {
	if c.cfg.Temporal == nil {
		if len(service.Cadences) == 0 {
			return nil, nil
		}
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "this place has no Temporal")
	}
	changes := []ScheduleChange{}
	err := c.cfg.Registry.WithLock(ctx, "schedules/"+service.Name, func(ctx context.Context) error {
		wanted := map[string]bool{}
		for _, cadence := range service.Cadences {
			change, err := c.applySchedule(ctx, service.Name, cadence)
			if err != nil {
				return err
			}
			wanted[change.ID] = true
			changes = append(changes, change)
		}
		removed, err := c.removeSchedules(ctx, service.Name, wanted)
		changes = append(changes, removed...)
		return err
	})
	return changes, err
}

func (c *Control) applySchedule(ctx context.Context, service string, cadence lifecycle.Cadence) (ScheduleChange, error) {
	id := scheduleID(service, cadence.Loop)
	raw, err := json.Marshal(cadence)
	if err != nil {
		return ScheduleChange{}, err
	}
	digest := string(lifecycle.DigestOf(raw))
	action := &client.ScheduleWorkflowAction{
		ID: id, Workflow: workflowOf(cadence.Loop), TaskQueue: steps.Queue,
		Args: []any{map[string]string{"service": service, "by": "schedule/" + string(cadence.Loop)}},
		Memo: map[string]any{memoDigest: digest},
	}
	spec := client.ScheduleSpec{
		CronExpressions: []string{cadence.Cron}, TimeZoneName: cadence.TimeZone, Jitter: cadence.Jitter.D(),
	}
	overlap := enums.SCHEDULE_OVERLAP_POLICY_SKIP
	if cadence.Overlap == "buffer-one" {
		overlap = enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE
	}
	_, err = c.cfg.Temporal.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: id, Spec: spec, Action: action, Overlap: overlap, CatchupWindow: catchupWindow, Note: scheduleNote,
		Memo: map[string]any{memoService: service, memoDigest: digest},
	})
	if err == nil {
		return ScheduleChange{id, "created"}, nil
	}
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return ScheduleChange{}, temporalError(err, "create schedule "+id)
	}
	change := ScheduleChange{id, "unchanged"}
	err = c.cfg.Temporal.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			if appliedDigest(in.Description) == digest {
				return nil, temporal.ErrSkipScheduleUpdate
			}
			change.Change = "updated"
			next := in.Description.Schedule // keeps State: pause and note are a person's
			next.Action, next.Spec = action, &spec
			next.Policy = &client.SchedulePolicies{Overlap: overlap, CatchupWindow: catchupWindow}
			return &client.ScheduleUpdate{Schedule: &next}, nil
		},
	})
	if err != nil && !errors.Is(err, temporal.ErrSkipScheduleUpdate) {
		return ScheduleChange{}, temporalError(err, "update schedule "+id)
	}
	return change, nil
}

// appliedDigest reads the digest from the action's memo: a schedule's own memo cannot be updated.
func appliedDigest(description client.ScheduleDescription) string {
	action, ok := description.Schedule.Action.(*client.ScheduleWorkflowAction)
	if !ok {
		return ""
	}
	payload, ok := action.Memo[memoDigest].(*commonpb.Payload)
	if !ok {
		return ""
	}
	return payloadText(payload)
}

func payloadText(payload *commonpb.Payload) string {
	var text string
	if json.Unmarshal(payload.GetData(), &text) != nil {
		return ""
	}
	return text
}

func (c *Control) removeSchedules(ctx context.Context, service string, wanted map[string]bool) ([]ScheduleChange, error) {
	all, err := c.ownSchedules(ctx, service)
	if err != nil {
		return nil, err
	}
	var changes []ScheduleChange
	for _, s := range all {
		if wanted[s.ID] {
			continue
		}
		if err := c.cfg.Temporal.ScheduleClient().GetHandle(ctx, s.ID).Delete(ctx); err != nil {
			return changes, temporalError(err, "remove schedule "+s.ID)
		}
		changes = append(changes, ScheduleChange{s.ID, "removed"})
	}
	return changes, nil
}

func (c *Control) ownSchedules(ctx context.Context, service string) ([]*client.ScheduleListEntry, error) {
	list, err := c.cfg.Temporal.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: 100})
	if err != nil {
		return nil, temporalError(err, "list schedules")
	}
	var own []*client.ScheduleListEntry
	for list.HasNext() {
		entry, err := list.Next()
		if err != nil {
			return nil, temporalError(err, "list schedules")
		}
		made := entry.Memo.GetFields()[memoService]
		if made != nil && payloadText(made) == service {
			own = append(own, entry)
		}
	}
	return own, nil
}

// SchedulesInput names a service.
type SchedulesInput struct {
	Service string `json:"service"`
}

// ScheduleInfo is one cadence as Temporal keeps it.
type ScheduleInfo struct {
	ID       string    `json:"id"`
	Loop     string    `json:"loop"`
	Workflow string    `json:"workflow"`
	Paused   bool      `json:"paused"`
	Note     string    `json:"note"`
	Next     time.Time `json:"next,omitzero"`
	Last     time.Time `json:"last,omitzero"`
}

// Schedules lists a service's cadences.
var Schedules = UseCase[SchedulesInput, []ScheduleInfo]{"schedules", Viewer, (*Control).schedules}

func (c *Control) schedules(ctx context.Context, _ Caller, in SchedulesInput) ([]ScheduleInfo, error) {
	if c.cfg.Temporal == nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "this place has no Temporal")
	}
	entries, err := c.ownSchedules(ctx, in.Service)
	infos := []ScheduleInfo{}
	for _, e := range entries {
		_, loop, _ := strings.Cut(e.ID, "/")
		info := ScheduleInfo{ID: e.ID, Loop: loop, Workflow: e.WorkflowType.Name, Paused: e.Paused, Note: e.Note}
		if len(e.NextActionTimes) > 0 {
			info.Next = e.NextActionTimes[0]
		}
		if n := len(e.RecentActions); n > 0 {
			info.Last = e.RecentActions[n-1].ActualTime
		}
		infos = append(infos, info)
	}
	return infos, err
}

// ChangeScheduleInput pauses, resumes or triggers one cadence.
type ChangeScheduleInput struct {
	Service string         `json:"service"`
	Loop    lifecycle.Loop `json:"loop"`
	Action  string         `json:"action"` // "pause", "resume", "trigger"
	Note    string         `json:"note,omitempty"`
}

// ChangeSchedule does what a person asks of a cadence.
var ChangeSchedule = UseCase[ChangeScheduleInput, ScheduleChange]{"change-schedule", Operator, (*Control).changeSchedule}

func (c *Control) changeSchedule(ctx context.Context, caller Caller, in ChangeScheduleInput) (ScheduleChange, error) {
	if c.cfg.Temporal == nil {
		return ScheduleChange{}, lifecycle.Errorf(lifecycle.Unavailable, "this place has no Temporal")
	}
	if workflowOf(in.Loop) == "" {
		return ScheduleChange{}, lifecycle.Errorf(lifecycle.Invalid, "loop: %q; give pretraining, index, evaluation or tuning", in.Loop)
	}
	id := scheduleID(in.Service, in.Loop)
	handle := c.cfg.Temporal.ScheduleClient().GetHandle(ctx, id)
	note := strings.TrimSpace(in.Note + " (" + caller.Name + ")")
	var err error
	switch in.Action {
	case "pause":
		err = handle.Pause(ctx, client.SchedulePauseOptions{Note: note})
	case "resume":
		err = handle.Unpause(ctx, client.ScheduleUnpauseOptions{Note: note})
	case "trigger":
		err = handle.Trigger(ctx, client.ScheduleTriggerOptions{Overlap: enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL})
	default:
		return ScheduleChange{}, lifecycle.Errorf(lifecycle.Invalid, "action: %q; give pause, resume or trigger", in.Action)
	}
	if err != nil {
		return ScheduleChange{}, temporalError(err, in.Action+" schedule "+id)
	}
	return ScheduleChange{id, in.Action + "d"}, nil
}
