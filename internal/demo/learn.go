package demo

import (
	"context"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// tune counts what the users said and lets it become a dataset and a ladder record.
func (r *run) tune(ctx context.Context) error {
	sent := map[string]int{}
	for _, tally := range r.state.Traffic {
		for kind, n := range tally.Thumbs {
			sent[kind] += n
		}
	}
	counted, err := control.Call(ctx, r.client, control.Feedback, control.FeedbackInput{Service: r.service.Name})
	if err != nil {
		return err
	}
	for _, kind := range []string{"thumbs-up", "thumbs-down", "correction"} {
		r.view.say("%-12s %d taken by the gateway, %d stored", kind, sent[kind], counted.Counts[kind])
	}
	if err := r.loop(ctx, steps.TuneFromFeedback, steps.TuningInput{Service: r.service.Name}, &r.state.Tuning); err != nil {
		return err
	}
	out := r.state.Tuning
	if out.Dataset == "" || out.Ladder == "" {
		return lifecycle.Errorf(lifecycle.Underpowered, "feedback made no dataset: %s", out.Reason)
	}
	r.view.say("dataset %s of %d items (%d dropped); ladder record %s for %q: next lever %s: %s",
		out.Dataset.Short(), out.Items, out.Dropped, short(out.Ladder), out.Deficit, out.Lever, out.Reason)
	r.state.Summary.Feedback = FeedbackLine{
		ThumbsUp: counted.Counts["thumbs-up"], ThumbsDown: counted.Counts["thumbs-down"], Dataset: out.Dataset,
	}
	return nil
}

func short(id string) string { return id[:min(12, len(id))] }
