package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestDaysAreArchivedBeforeAnyIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := run[steps.ArchiveResult](w, steps.ArchiveInteractions, onlyService())
	require.NoError(t, err)
	require.Equal(t, []string{"PlanArchive", "ArchiveDay", "ArchiveDay", "ForgetDay", "ForgetDay", "ReleaseClaim"},
		w.order("PlanArchive", "ArchiveDay", "ForgetDay", "ReleaseClaim"))
	require.Len(t, out.Archived, 2)
	require.Equal(t, []string{"2025-12-30", "2026-01-30"}, out.Forgotten)
	require.Equal(t, w.service.Capture.Retention, inputs(w, steps.PlanArchive)[0].Retention, "the declaration's, pinned")
	require.Equal(t, "done", w.state().Phase)
}

func TestADayWithLateRowsIsKeptForTheNextRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lateRows(w)
	out, err := run[steps.ArchiveResult](w, steps.ArchiveInteractions, onlyService())
	require.NoError(t, err)
	require.Equal(t, []string{"2025-12-30"}, out.Kept)
	require.Equal(t, []string{"2026-01-30"}, out.Forgotten)
}

func TestWhatCannotBeArchivedIsNotForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fails(w, steps.ArchiveDay, lifecycle.Refused, "no right to write")
	err := w.start(steps.ArchiveInteractions, onlyService())
	require.Equal(t, lifecycle.Refused, steps.KindOf(err))
	require.Empty(t, inputs(w, steps.ForgetDay))
}
