package demo

import (
	"context"
	"encoding/json"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// migrateTime is how long a registry that answers may still be on its way to this Refit's schema.
const migrateTime = 30 * time.Second

// apply declares the service.
func (r *run) apply(ctx context.Context) error {
	began := time.Now()
	out, err := control.Call(ctx, r.client, control.Apply, control.ApplyInput{Service: r.service})
	for err != nil && lifecycle.KindOf(err).Retryable() && time.Since(began) < migrateTime {
		if waited := wait(ctx, followEvery); waited != nil {
			return waited
		}
		out, err = control.Call(ctx, r.client, control.Apply, control.ApplyInput{Service: r.service})
	}
	if err != nil {
		return err
	}
	if out.Warning != "" {
		return lifecycle.Errorf(lifecycle.Unavailable, "%s", out.Warning)
	}
	r.view.say("service %s, version %d, %d cadences", r.service.Name, out.Version.Version, len(out.Schedules))
	return nil
}

func (r *run) trainBase(ctx context.Context) error {
	err := r.loop(ctx, steps.ContinuePretraining, steps.PretrainingInput{Service: r.service.Name, Stage: "base"}, &r.state.Base)
	if err == nil {
		r.view.say("base model %s on dataset %s", r.state.Base.Base.Short(), r.state.Base.Dataset.Short())
		r.sayScreens(r.state.Base.Screens)
	}
	return err
}

// sayScreens tells what training data held of the suites' cases.
func (r *run) sayScreens(screens []steps.Screened) {
	for _, s := range screens {
		r.view.say("  job %s: %d of %d documents held one of %d cases and were taken out", s.Job, s.Removed, s.Documents, s.Cases)
	}
}

func (r *run) buildIndex(ctx context.Context) error {
	err := r.loop(ctx, steps.RebuildIndex, steps.IndexInput{Service: r.service.Name}, &r.state.Index)
	if err != nil {
		return err
	}
	i := r.state.Index
	if i.Queries == 0 {
		return lifecycle.Errorf(lifecycle.Underpowered, "index %s was built, but no query measured it", i.Index.Short())
	}
	r.state.Summary.Retrieval = RetrievalLine{Hybrid: i.Hybrid, Lexical: i.Lexical}
	r.view.say("%d chunks, measured with %d queries: recall@5 %.3f, nDCG@10 %.3f; lexical search alone %.3f, %.3f",
		i.Chunks, i.Queries, i.Hybrid.RecallAt5, i.Hybrid.NDCGAt10, i.Lexical.RecallAt5, i.Lexical.NDCGAt10)
	return nil
}

// promoteBase makes base and index the first stable release: nothing serves yet, so there is no canary.
func (r *run) promoteBase(ctx context.Context) error {
	if r.state.Index.Release == "" {
		return lifecycle.Errorf(lifecycle.NotFound, "the index came without a release of base and index")
	}
	out, err := r.promotion(ctx, r.state.Index.Release, "the first release")
	if err != nil {
		return err
	}
	if out.Phase != lifecycle.RolloutPromoted {
		return lifecycle.Errorf(lifecycle.Conflict, "the first release ended as %s: %s", out.Phase, out.Reason)
	}
	r.addRelease("base", out.Release, "first stable", out.Reason)
	return nil
}

func (r *run) trainCandidate(ctx context.Context) error {
	return r.train(ctx, "candidate", nil, &r.state.Candidate)
}

// train continues from the base. Parameters go over the service's.
func (r *run) train(ctx context.Context, name string, parameters json.RawMessage, out *steps.PretrainingResult) error {
	err := r.loop(ctx, steps.ContinuePretraining, steps.PretrainingInput{
		Service: r.service.Name, From: string(r.state.Base.Base), Parameters: parameters, Labels: map[string]string{"demo": name},
	}, out)
	if err == nil {
		r.view.say("%s: model %s, release %s", name, out.Model.Short(), out.Release.Short())
		r.sayScreens(out.Screens)
	}
	return err
}

// promotion starts a promotion and follows it to its end.
func (r *run) promotion(ctx context.Context, release lifecycle.Digest, reason string) (steps.PromotionResult, error) {
	var out steps.PromotionResult
	// Last week's traffic says nothing of the demonstration's, which comes when it is needed.
	promoting, err := control.Call(ctx, r.client, control.Promote, control.PromoteInput{
		Service: r.service.Name, Release: string(release), Reason: reason, Late: true,
	})
	started, err := joined(promoting.Started, err)
	if err != nil {
		return out, err
	}
	err = r.follow(ctx, started, &out)
	if lifecycle.Is(err, lifecycle.Conflict) { // it serves already: an earlier run was stopped just before it knew
		return r.promotedBefore(ctx, release, err)
	}
	return out, err
}

func (r *run) promotedBefore(ctx context.Context, release lifecycle.Digest, cause error) (steps.PromotionResult, error) {
	status, err := control.Call(ctx, r.client, control.Status, control.StatusInput{Service: r.service.Name})
	if err != nil || status.Route.Stable != release {
		return steps.PromotionResult{}, cause
	}
	out := steps.PromotionResult{Release: release, Phase: lifecycle.RolloutPromoted, Reason: "it was promoted before"}
	if last := status.Rollout; last != nil && last.Release == release {
		out.Reason, out.Steps, out.Touched = last.Reason, last.Steps, last.Touched
	}
	return out, nil
}
