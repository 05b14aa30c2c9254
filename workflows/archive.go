package workflows

import (
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// ArchiveInteractions writes every day that is over to the archive, one artifact a day, and then removes the
// days past their retention from the database. A day is removed only when its archive holds all of it.
func ArchiveInteractions(ctx workflow.Context, raw converter.RawValue) (steps.ArchiveResult, error) {
	in, err := steps.Decode[steps.ArchiveInput](raw)
	if err != nil {
		return steps.ArchiveResult{}, err
	}
	l, err := openExclusive(ctx, raw, in.Service, lifecycle.ArchiveLoop, in.By)
	if err != nil {
		return steps.ArchiveResult{}, err
	}
	out, err := l.archive(ctx)
	return out, l.close(ctx, err)
}

func (l *loop) archive(ctx workflow.Context) (steps.ArchiveResult, error) {
	out := steps.ArchiveResult{Archived: []steps.ArchivedDay{}, Forgotten: []string{}}
	plan, err := steps.PlanArchive.Run(ctx, steps.PlanArchiveInput{Service: l.service.Name, Retention: l.service.Capture.Retention})
	if err != nil {
		return out, err
	}
	out.More = plan.More
	for _, day := range plan.Archive {
		l.note(ctx, "archiving", day)
		kept, err := steps.ArchiveDay.Run(ctx, steps.ArchiveDayInput{Service: l.service.Name, Day: day, By: l.by})
		if err != nil {
			return out, err
		}
		out.Archived = append(out.Archived, kept)
	}
	for _, day := range plan.Forget {
		l.note(ctx, "forgetting", day)
		_, err := steps.ForgetDay.Run(ctx, steps.ArchiveDayInput{Service: l.service.Name, Day: day, By: l.by})
		switch {
		case steps.KindOf(err) == lifecycle.Conflict: // rows came after the archive; the next run takes them
			out.Kept = append(out.Kept, day)
		case err != nil:
			return out, err
		default:
			out.Forgotten = append(out.Forgotten, day)
		}
	}
	l.note(ctx, "done", fmt.Sprintf("%d days archived, %d forgotten, %d kept for late rows", len(out.Archived), len(out.Forgotten), len(out.Kept)))
	return out, nil
}
