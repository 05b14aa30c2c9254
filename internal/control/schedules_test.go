package control_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func cadences(list ...lifecycle.Cadence) func(*lifecycle.Service) {
	return func(s *lifecycle.Service) { s.Cadences = list }
}

var (
	nightly = lifecycle.Cadence{Loop: lifecycle.IndexLoop, Cron: "30 2 * * *", TimeZone: "Europe/Berlin"}
	weekly  = lifecycle.Cadence{Loop: lifecycle.PretrainingLoop, Cron: "0 3 * * 1", Jitter: lifecycle.Duration(5 * time.Minute), Overlap: "buffer-one"}
)

func (w *world) schedule(loop lifecycle.Loop) *control.ScheduleInfo {
	w.t.Helper()
	for _, s := range do(w, control.Schedules, control.SchedulesInput{Service: svc}) {
		if s.Loop == loop {
			return &s
		}
	}
	return nil
}

func TestApplyingReconcilesSchedules(t *testing.T) {
	w := newTemporalWorld(t)
	created := w.apply(cadences(nightly, weekly))
	require.Empty(t, created.Warning)
	require.Equal(t, []control.ScheduleChange{{ID: "docs/pretraining", Change: "created"}, {ID: "docs/index", Change: "created"}}, created.Schedules)

	described, err := w.temporal.ScheduleClient().GetHandle(w.ctx, "docs/index").Describe(w.ctx)
	require.NoError(t, err)
	require.Equal(t, "Europe/Berlin", described.Schedule.Spec.TimeZoneName)
	require.Equal(t, time.Hour, described.Schedule.Policy.CatchupWindow)
	next := described.Info.NextActionTimes[0].In(described.Info.NextActionTimes[0].Location())
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	require.Equal(t, "02:30", next.In(berlin).Format("15:04"))

	same := w.apply(cadences(nightly, weekly))
	require.False(t, same.Version.Changed)
	require.Empty(t, same.Changes)
	for _, s := range same.Schedules {
		require.Equal(t, "unchanged", s.Change, s.ID)
	}

	// A person's pause and note outlive an update of the very schedule.
	do(w, control.ChangeSchedule, control.ChangeScheduleInput{Service: svc, Loop: lifecycle.IndexLoop, Action: "pause", Note: "holidays"})
	later := nightly
	later.Cron = "45 2 * * *"
	updated := w.apply(cadences(later, weekly))
	require.Equal(t, []control.ScheduleChange{{ID: "docs/pretraining", Change: "unchanged"}, {ID: "docs/index", Change: "updated"}}, updated.Schedules)
	require.Contains(t, updated.Changes, `cadences.index.cron: "30 2 * * *" -> "45 2 * * *"`)
	index := w.schedule(lifecycle.IndexLoop)
	require.True(t, index.Paused)
	require.Equal(t, "holidays (alice)", index.Note)
	require.Equal(t, "02:45", index.Next.In(berlin).Format("15:04"))

	dry := do(w, control.Apply, control.ApplyInput{Service: declared(w, cadences(later)), DryRun: true})
	require.Equal(t, []control.ScheduleChange{{ID: "docs/pretraining", Change: "removed"}, {ID: "docs/index", Change: "unchanged"}}, dry.Schedules)
	require.NotNil(t, w.schedule(lifecycle.PretrainingLoop), "a dry run changes nothing")
	require.Equal(t, updated.Version.Version, do(w, control.Status, control.StatusInput{Service: svc}).Version)

	removed := w.apply(cadences(later))
	require.Equal(t, dry.Schedules, removed.Schedules)
	require.Nil(t, w.schedule(lifecycle.PretrainingLoop))

	var recorded []string
	for _, e := range do(w, control.Ledger, control.LedgerInput{Service: svc, Kinds: []lifecycle.LedgerKind{lifecycle.ScheduleReconciled}}) {
		recorded = append(recorded, e.Subject+" "+e.Reason)
	}
	require.Equal(t, []string{"docs/pretraining created", "docs/index created", "docs/index updated", "docs/pretraining removed"}, recorded)
}

func declared(w *world, change func(*lifecycle.Service)) lifecycle.Service {
	w.t.Helper()
	service, err := w.Registry.Service(w.ctx, svc)
	require.NoError(w.t, err)
	change(&service)
	return service
}

func TestReconcilingLeavesWhatAPersonMadeAlone(t *testing.T) {
	w := newTemporalWorld(t)
	_, err := w.temporal.ScheduleClient().Create(w.ctx, client.ScheduleOptions{
		ID: "docs/tuning", Action: &client.ScheduleWorkflowAction{ID: "mine", Workflow: "Mine", TaskQueue: "mine"},
	})
	require.NoError(t, err)
	require.Empty(t, w.apply().Schedules, "what is not Refit's is not removed")
	require.NotNil(t, w.schedule(lifecycle.TuningLoop))

	out := w.apply(cadences(lifecycle.Cadence{Loop: lifecycle.TuningLoop, Cron: "0 1 * * *"}))
	require.True(t, out.Version.Changed, "the declaration is stored")
	require.Contains(t, out.Warning, "not made by Refit")
}

func TestScheduleIsPausedResumedAndTriggered(t *testing.T) {
	w := newTemporalWorld(t)
	w.apply(cadences(nightly))
	change := func(action string) string {
		return do(w, control.ChangeSchedule, control.ChangeScheduleInput{Service: svc, Loop: lifecycle.IndexLoop, Action: action}).Change
	}
	require.Equal(t, "paused", change("pause"))
	require.True(t, w.schedule(lifecycle.IndexLoop).Paused)
	require.Equal(t, "resumed", change("resume"))
	require.False(t, w.schedule(lifecycle.IndexLoop).Paused)
	require.Equal(t, "triggered", change("trigger"))
	require.Eventually(t, func() bool { return w.schedule(lifecycle.IndexLoop).Runs == 1 }, patience, 50*time.Millisecond)

	refused(w, lifecycle.Invalid, control.ChangeSchedule, control.ChangeScheduleInput{Service: svc, Loop: lifecycle.IndexLoop, Action: "stop"})
	refused(w, lifecycle.Invalid, control.ChangeSchedule, control.ChangeScheduleInput{Service: svc, Loop: lifecycle.PromotionLoop, Action: "pause"})
	refused(w, lifecycle.NotFound, control.ChangeSchedule, control.ChangeScheduleInput{Service: svc, Loop: lifecycle.TuningLoop, Action: "pause"})
	refused(w, lifecycle.NotFound, control.Schedules, control.SchedulesInput{Service: "nobody"})
}

func TestApplyWithoutTemporalSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	out := w.apply(cadences(nightly))
	require.True(t, out.Version.Changed)
	require.Contains(t, out.Warning, "not reconciled")
	require.Empty(t, w.apply().Warning, "without cadences nothing is missing")
}

func TestApplyGivesAllFaultsAtOnce(t *testing.T) {
	w := newWorld(t)
	service := lifecycle.Service{Name: "Docs", Cadences: []lifecycle.Cadence{{Loop: lifecycle.IndexLoop, Cron: "daily", TimeZone: "Eurupe/Berlin"}}}
	message := refused(w, lifecycle.Invalid, control.Apply, control.ApplyInput{Service: service})
	for _, path := range []string{"service:", "cadences[0].cron:", "cadences[0].time_zone:"} {
		require.Contains(t, message, path)
	}
	services := do(w, control.Services, struct{}{})
	require.Empty(t, services)
}

func TestApplyNamesWhatChanged(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, []string{"new service"}, w.apply().Changes)
	out := w.apply(func(s *lifecycle.Service) {
		s.Rollout.Steps[0].Share = 200
		s.Description = "documents"
		s.Evaluation.Capabilities = []lifecycle.Capability{}
	})
	require.Equal(t, []string{`description: none -> "documents"`, `rollout.steps[0].share_bp: 100 -> 200`}, out.Changes)
}
