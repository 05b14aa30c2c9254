package workflows

import (
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// TuneFromFeedback turns what users reported into a curated dataset and opens the ladder record of the
// most reported deficit, which says which lever may be tried next. Weights stay shut without recorded
// evidence that prompt and retrieval hit their ceiling.
func TuneFromFeedback(ctx workflow.Context, raw converter.RawValue) (steps.TuningResult, error) {
	in, err := steps.Decode[steps.TuningInput](raw)
	if err != nil {
		return steps.TuningResult{}, err
	}
	l, err := openExclusive(ctx, raw, in.Service, lifecycle.TuningLoop, in.By)
	if err != nil {
		return steps.TuningResult{}, err
	}
	out, err := l.tune(ctx)
	return out, l.close(ctx, err)
}

func (l *loop) tune(ctx workflow.Context) (steps.TuningResult, error) {
	l.note(ctx, "curating", "feedback since the last dataset")
	out, err := steps.CurateFeedback.Run(ctx, steps.CurateInput{Service: l.service.Name, Policy: l.service.Feedback, By: l.by, Contamination: l.service.Training.Contamination})
	if err != nil {
		return out, err
	}
	if out.Dataset == "" || out.Deficit == "" { // too little was said, or nothing that is wrong
		l.note(ctx, "done", out.Reason)
		return out, nil
	}
	ladder, err := steps.OpenLadder.Run(ctx, steps.OpenLadderInput{
		Service: l.service.Name, Deficit: out.Deficit, Dataset: out.Dataset, By: l.by,
	})
	if err != nil {
		return out, err
	}
	lever, why := ladder.NextLever()
	out.Ladder, out.Lever, out.Reason = ladder.ID, lever, why
	l.note(ctx, "done", "deficit "+out.Deficit+": next lever "+string(lever)+", because "+why)
	return out, nil
}
