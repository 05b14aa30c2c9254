package control

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

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

// What became of a schedule.
const (
	scheduleCreated   = "created"
	scheduleUpdated   = "updated"
	scheduleRemoved   = "removed"
	scheduleUnchanged = "unchanged"
)

// ScheduleChange is one thing that reconciling or a person did.
type ScheduleChange struct {
	ID     string `json:"id"`
	Change string `json:"change"` // "created", "updated", "removed", "unchanged", "paused", "resumed", "triggered"
}

func scheduleID(service string, loop lifecycle.Loop) string { return service + "/" + string(loop) }

// cadenceLoops are the loops that may have a cadence.
func cadenceLoops() []lifecycle.Loop {
	return []lifecycle.Loop{lifecycle.PretrainingLoop, lifecycle.IndexLoop, lifecycle.EvaluationLoop, lifecycle.TuningLoop, lifecycle.ArchiveLoop}
}

func workflowOf(loop lifecycle.Loop) string {
	return map[lifecycle.Loop]string{
		lifecycle.PretrainingLoop: steps.ContinuePretraining,
		lifecycle.IndexLoop:       steps.RebuildIndex,
		lifecycle.EvaluationLoop:  steps.EvaluateRelease,
		lifecycle.TuningLoop:      steps.TuneFromFeedback,
		lifecycle.ArchiveLoop:     steps.ArchiveInteractions,
	}[loop]
}

// reconcile makes Temporal's schedules those of the declaration. It never touches whether a schedule is
// paused, nor a person's note, and removes only what it made. Dry, it only says what it would do.
func (c *Control) reconcile(ctx context.Context, service lifecycle.Service, by lifecycle.Actor, dry bool) ([]ScheduleChange, error) {
	if c.cfg.Temporal == nil {
		if len(service.Cadences) == 0 {
			return nil, nil
		}
		return nil, noTemporal("reconcile schedules")
	}
	changes := []ScheduleChange{}
	err := c.cfg.Registry.WithLock(ctx, "schedules/"+service.Name, func(ctx context.Context) error {
		for _, loop := range cadenceLoops() {
			change, err := c.reconcileLoop(ctx, service, loop, dry)
			if err != nil {
				return err
			}
			if change.Change == "" {
				continue
			}
			changes = append(changes, change)
			if dry || change.Change == scheduleUnchanged {
				continue
			}
			if err := c.recordSchedule(ctx, service.Name, change, by); err != nil {
				return err
			}
		}
		return nil
	})
	return changes, err
}

// reconcileLoop gives no change where nothing is declared and nothing is there.
func (c *Control) reconcileLoop(ctx context.Context, service lifecycle.Service, loop lifecycle.Loop, dry bool) (ScheduleChange, error) {
	var cadence *lifecycle.Cadence
	for i := range service.Cadences {
		if service.Cadences[i].Loop == loop {
			cadence = &service.Cadences[i]
		}
	}
	id := scheduleID(service.Name, loop)
	there, err := c.describeSchedule(ctx, id)
	switch {
	case err != nil:
		return ScheduleChange{}, err
	case cadence == nil && (there == nil || madeFor(there) != service.Name):
		return ScheduleChange{}, nil
	case cadence == nil:
		return ScheduleChange{id, scheduleRemoved}, c.removeSchedule(ctx, id, dry)
	}
	digest, err := cadenceDigest(*cadence)
	if err != nil {
		return ScheduleChange{}, err
	}
	switch {
	case there == nil:
		return ScheduleChange{id, scheduleCreated}, c.createSchedule(ctx, service.Name, *cadence, digest, dry)
	case appliedDigest(*there) == digest:
		return ScheduleChange{id, scheduleUnchanged}, nil
	case madeFor(there) != service.Name:
		return ScheduleChange{}, lifecycle.Errorf(lifecycle.Conflict, "schedule %s is there and not made by Refit; remove it or name the service otherwise", id)
	default:
		return ScheduleChange{id, scheduleUpdated}, c.updateSchedule(ctx, service.Name, *cadence, digest, dry)
	}
}

// describeSchedule gives nil where there is none. It asks the schedule itself: a list lags behind.
func (c *Control) describeSchedule(ctx context.Context, id string) (*client.ScheduleDescription, error) {
	described, err := c.cfg.Temporal.ScheduleClient().GetHandle(ctx, id).Describe(ctx)
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, temporalError(err, "describe schedule "+id)
	}
	return described, nil
}

func cadenceDigest(cadence lifecycle.Cadence) (string, error) {
	raw, err := json.Marshal(cadence)
	if err != nil {
		return "", err
	}
	return string(lifecycle.DigestOf(raw)), nil
}

// scheduleParts are what a cadence asks of Temporal. The action's memo holds the digest: a schedule's own memo
// cannot be updated.
func scheduleParts(service string, cadence lifecycle.Cadence, digest string) (*client.ScheduleWorkflowAction, client.ScheduleSpec, enums.ScheduleOverlapPolicy) {
	action := &client.ScheduleWorkflowAction{
		ID: scheduleID(service, cadence.Loop), Workflow: workflowOf(cadence.Loop), TaskQueue: steps.Queue,
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
	return action, spec, overlap
}

func (c *Control) createSchedule(ctx context.Context, service string, cadence lifecycle.Cadence, digest string, dry bool) error {
	if dry {
		return nil
	}
	action, spec, overlap := scheduleParts(service, cadence, digest)
	_, err := c.cfg.Temporal.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: action.ID, Spec: spec, Action: action, Overlap: overlap, CatchupWindow: catchupWindow, Note: scheduleNote,
		Memo: map[string]any{memoService: service},
	})
	if err != nil {
		return temporalError(err, "create schedule "+action.ID)
	}
	return nil
}

func (c *Control) updateSchedule(ctx context.Context, service string, cadence lifecycle.Cadence, digest string, dry bool) error {
	if dry {
		return nil
	}
	action, spec, overlap := scheduleParts(service, cadence, digest)
	err := c.cfg.Temporal.ScheduleClient().GetHandle(ctx, action.ID).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			next := in.Description.Schedule // keeps State: pause and note are a person's
			next.Action, next.Spec = action, &spec
			next.Policy = &client.SchedulePolicies{Overlap: overlap, CatchupWindow: catchupWindow}
			return &client.ScheduleUpdate{Schedule: &next}, nil
		},
	})
	if err != nil {
		return temporalError(err, "update schedule "+action.ID)
	}
	return nil
}

func (c *Control) removeSchedule(ctx context.Context, id string, dry bool) error {
	if dry {
		return nil
	}
	if err := c.cfg.Temporal.ScheduleClient().GetHandle(ctx, id).Delete(ctx); err != nil {
		return temporalError(err, "remove schedule "+id)
	}
	return nil
}

func (c *Control) recordSchedule(ctx context.Context, service string, change ScheduleChange, by lifecycle.Actor) error {
	return c.cfg.Registry.AppendLedger(ctx, lifecycle.LedgerEntry{
		Service: service, Kind: lifecycle.ScheduleReconciled, Subject: change.ID, Actor: by, Reason: change.Change,
	}, "")
}

func noTemporal(doing string) error {
	return lifecycle.Errorf(lifecycle.Unavailable, "%s: this place has no Temporal", doing)
}

// madeFor is the service that Refit made a schedule for; empty where a person made it.
func madeFor(description *client.ScheduleDescription) string {
	payload := description.Memo.GetFields()[memoService]
	if payload == nil {
		return ""
	}
	return payloadText(payload)
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

// SchedulesInput names a service.
type SchedulesInput struct {
	Service string `json:"service"`
}

// ScheduleInfo is one cadence as Temporal keeps it.
type ScheduleInfo struct {
	ID       string         `json:"id"`
	Loop     lifecycle.Loop `json:"loop"`
	Workflow string         `json:"workflow"`
	Paused   bool           `json:"paused"`
	Note     string         `json:"note"`
	Next     time.Time      `json:"next,omitzero"`
	Last     time.Time      `json:"last,omitzero"`
	Runs     int            `json:"runs"`    // that it started
	Skipped  int            `json:"skipped"` // because one was running: a normal outcome
	Missed   int            `json:"missed"`  // because the catch-up window was over
}

// Schedules lists a service's cadences.
var Schedules = UseCase[SchedulesInput, []ScheduleInfo]{"schedules", Viewer, (*Control).schedules}

func (c *Control) schedules(ctx context.Context, _ Caller, in SchedulesInput) ([]ScheduleInfo, error) {
	if c.cfg.Temporal == nil {
		return nil, noTemporal("list schedules")
	}
	if _, err := c.cfg.Registry.ServiceVersion(ctx, in.Service); err != nil {
		return nil, err
	}
	infos := []ScheduleInfo{}
	for _, loop := range cadenceLoops() {
		there, err := c.describeSchedule(ctx, scheduleID(in.Service, loop))
		if err != nil {
			return nil, err
		}
		if there != nil {
			infos = append(infos, scheduleInfo(in.Service, loop, there))
		}
	}
	return infos, nil
}

func scheduleInfo(service string, loop lifecycle.Loop, d *client.ScheduleDescription) ScheduleInfo {
	info := ScheduleInfo{
		ID: scheduleID(service, loop), Loop: loop, Workflow: workflowOf(loop),
		Runs: d.Info.NumActions, Skipped: d.Info.NumActionsSkippedOverlap, Missed: d.Info.NumActionsMissedCatchupWindow,
	}
	if state := d.Schedule.State; state != nil {
		info.Paused, info.Note = state.Paused, state.Note
	}
	if len(d.Info.NextActionTimes) > 0 {
		info.Next = d.Info.NextActionTimes[0]
	}
	if n := len(d.Info.RecentActions); n > 0 {
		info.Last = d.Info.RecentActions[n-1].ActualTime
	}
	return info
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
		return ScheduleChange{}, noTemporal(in.Action + " a schedule")
	}
	if workflowOf(in.Loop) == "" {
		return ScheduleChange{}, lifecycle.Errorf(lifecycle.Invalid, "loop: %q; give one of %v", in.Loop, cadenceLoops())
	}
	id := scheduleID(in.Service, in.Loop)
	handle := c.cfg.Temporal.ScheduleClient().GetHandle(ctx, id)
	note := strings.TrimSpace(in.Note + " (" + caller.Name + ")")
	change := ScheduleChange{ID: id}
	var decision lifecycle.LedgerKind // starting a run is none: the run records itself
	var err error
	switch in.Action {
	case "pause":
		decision, change.Change, err = lifecycle.Paused, "paused", handle.Pause(ctx, client.SchedulePauseOptions{Note: note})
	case "resume":
		decision, change.Change, err = lifecycle.Resumed, "resumed", handle.Unpause(ctx, client.ScheduleUnpauseOptions{Note: note})
	case "trigger":
		change.Change, err = "triggered", handle.Trigger(ctx, client.ScheduleTriggerOptions{Overlap: enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL})
	default:
		return ScheduleChange{}, lifecycle.Errorf(lifecycle.Invalid, "action: %q; give pause, resume or trigger", in.Action)
	}
	if err != nil {
		return ScheduleChange{}, temporalError(err, in.Action+" schedule "+id)
	}
	if decision == "" {
		return change, nil
	}
	err = c.cfg.Registry.AppendLedger(ctx, lifecycle.LedgerEntry{
		Service: in.Service, Kind: decision, Subject: id, Actor: caller.actor(), Reason: in.Note,
	}, "")
	return change, lifecycle.Wrap(err, "schedule %s is %s, but the ledger does not say so", id, change.Change)
}
