package workflows

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

const (
	completed = enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
	failed    = enums.WORKFLOW_EXECUTION_STATUS_FAILED
	canceled  = enums.WORKFLOW_EXECUTION_STATUS_CANCELED
)

func asItIs(*world) {}

// recordings are the histories that replay is tested on. None continues as new, because no loop does; doc.go
// says why none has to.
func recordings() []recording {
	return slices.Concat(promotionRecordings(), interventionRecordings(), policyRecordings(), makingRecordings(), []recording{
		{loop: steps.EvaluateRelease, name: "straight", input: onlyService(), script: unjudged, status: completed},
		{loop: steps.EvaluateRelease, name: "in-batches", input: onlyService(), script: fiveBatches, status: completed},
		{loop: steps.EvaluateRelease, name: "a-batch-retried", input: onlyService(), script: func(w *world) {
			fiveBatches(w)
			retriedOnce(w, steps.AnswerBatch, steps.AnswerResult{Answers: suite, Cases: 9})
		}, status: completed},
		{loop: steps.EvaluateRelease, name: "answered-before", input: onlyService(), script: func(w *world) {
			unjudged(w)
			gives(w, steps.PlanBatches, steps.AnswerPlan{Answers: suite, Questions: 45})
		}, status: completed},
		{loop: steps.EvaluateRelease, name: "a-batch-failed", input: onlyService(), script: thirdBatchFails, status: failed},
		{loop: steps.EvaluateRelease, name: "judged-before", input: onlyService(), script: asItIs, status: completed},
		{loop: steps.EvaluateRelease, name: "failed", input: onlyService(), script: func(w *world) {
			unjudged(w)
			fails(w, steps.JudgeGate, lifecycle.Corrupt, "an answer does not match its digest")
		}, status: failed},
		{loop: steps.EvaluateRelease, name: "misspelt", input: map[string]string{"service": "docs", "relaese": "x"}, script: asItIs, status: failed},
		{loop: steps.TuneFromFeedback, name: "straight", input: onlyService(), script: asItIs, status: completed},
		{loop: steps.TuneFromFeedback, name: "too-little", input: onlyService(), script: func(w *world) {
			gives(w, steps.CurateFeedback, steps.TuningResult{Items: 3, Reason: "3 items of 20"})
		}, status: completed},
		{loop: steps.ArchiveInteractions, name: "straight", input: onlyService(), script: asItIs, status: completed},
		{loop: steps.ArchiveInteractions, name: "late-rows", input: onlyService(), script: lateRows, status: completed},
		{loop: steps.ArchiveInteractions, name: "retried", input: onlyService(), script: func(w *world) {
			retriedOnce(w, steps.ArchiveDay, steps.ArchivedDay{Day: "2026-01-30", Artifact: suite, Interactions: 5})
		}, status: completed},
		{loop: steps.ArchiveInteractions, name: "busy", input: onlyService(), script: busy, status: failed},
		{loop: steps.TuneFromFeedback, name: "busy", input: onlyService(), script: busy, status: failed},
	})
}

func lateRows(w *world) {
	on(w, steps.ForgetDay, func(_ context.Context, in steps.ArchiveDayInput) (steps.None, error) {
		if in.Day == "2025-12-30" {
			return steps.None{}, lifecycle.Errorf(lifecycle.Conflict, "the day holds more than its archive")
		}
		return steps.None{}, nil
	})
}

func unjudged(w *world) { w.plan.Verdict = nil }

func busy(w *world) {
	on(w, steps.Claim, func(context.Context, steps.ClaimInput) (lifecycle.Claim, error) {
		return lifecycle.Claim{}, &lifecycle.Error{
			Kind: lifecycle.Busy, Message: "held by workflow first", Fields: map[string]string{"workflow_id": "first"},
		}
	})
}

func promotionRecordings() []recording {
	holdEnds := func(reason steps.HoldReason) func(*world) {
		return func(w *world) { gives(w, steps.HoldStep, ends(reason)) }
	}
	all := []recording{
		{name: "straight", script: unjudged, status: completed},
		{name: "first", script: func(w *world) { w.plan.Baseline, w.plan.Verdict.Baseline = "", "" }, status: completed},
		{name: "refused-at-the-gate", script: func(w *world) { w.plan.Verdict.Outcome = lifecycle.RegressOutcome }, status: failed},
		{name: "busy", script: busy, status: failed},
		{name: "rolled-back", script: holdEnds(steps.HoldHarm), status: completed},
		{name: "invalid", script: holdEnds(steps.HoldInvalid), status: completed},
		{name: "fenced", script: holdEnds(steps.HoldFenced), status: completed},
		{name: "from-the-shadow", script: beginsInTheShadow, status: completed},
		{name: "stopped-in-the-shadow", script: func(w *world) {
			beginsInTheShadow(w)
			gives(w, steps.HoldShadow, shadowEnds(steps.HoldHarm))
		}, status: completed},
		{name: "retried", script: func(w *world) {
			retriedOnce(w, steps.PlanEvaluation, w.plan)
			retriedOnce(w, steps.SetShare, steps.ShareResult{})
			retriedOnce(w, steps.HoldStep, ends(steps.HoldEnough))
		}, status: completed},
		{name: "shared-evaluation", script: func(w *world) {
			unjudged(w)
			gives(w, steps.AwaitVerdict, lifecycle.Verdict{
				Candidate: candidate, Baseline: stable, Suite: suite, Outcome: lifecycle.PassOutcome,
			})
			w.evaluateWhile(steps.AwaitVerdict.Name)
		}, status: completed},
	}
	for i := range all {
		all[i].loop, all[i].input = steps.PromoteRelease, onlyService()
	}
	return all
}

// retriedOnce lets a step fail at its first attempt, as when a database is away.
func retriedOnce[In, Out any](w *world, step steps.Step[In, Out], out Out) {
	on(w, step, func(ctx context.Context, _ In) (Out, error) {
		if activity.GetInfo(ctx).Attempt == 1 {
			var none Out
			return none, lifecycle.Errorf(lifecycle.Unavailable, "the registry does not answer")
		}
		return out, nil
	})
}

// evaluateWhile starts the evaluation that the promotion will ask for before it asks, and lets it go on until
// the promotion waits for it.
func (w *world) evaluateWhile(waits string) {
	on(w, steps.AnswerBatch, func(ctx context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
		ctx, end := context.WithCancel(ctx)
		defer end()
		go func() {
			_ = heldOut(ctx)
		}()
		look := time.NewTicker(50 * time.Millisecond)
		defer look.Stop()
		for len(w.order(waits)) == 0 {
			select {
			case <-look.C:
			case <-ctx.Done():
				return steps.AnswerResult{}, ctx.Err()
			}
		}
		return steps.AnswerResult{Answers: in.Suite}, nil
	})
	var started atomic.Bool
	on(w, steps.Resolve, func(ctx context.Context, _ steps.ResolveInput) (steps.Resolved, error) {
		if !started.Swap(true) {
			_, err := activity.GetClient(ctx).ExecuteWorkflow(ctx, client.StartWorkflowOptions{
				ID: steps.EvaluationWorkflowID("docs", candidate, stable, suite), TaskQueue: steps.Queue,
			}, steps.EvaluateRelease, onlyService())
			if err != nil {
				return steps.Resolved{}, err
			}
		}
		return w.resolved(), nil
	})
}

func interventionRecordings() []recording {
	all := []recording{
		{name: "paused-and-approved", script: func(w *world) {
			w.service.Rollout.Steps[1].Approval = true
			w.holds(held, held, enough, held, enough)
		}, meanwhile: func(r *recorder) {
			await(r, steps.HoldStep, 1)
			r.does(steps.PauseUpdate, by("alice", "p"))
			await(r, steps.HoldStep, 2)
			r.does(steps.ResumeUpdate, by("alice", "r"))
			r.awaitState(func(s steps.State) bool { return s.Rollout != nil && s.Rollout.AwaitsApproval })
			r.approves(1)
		}, status: completed},
		{name: "rejected", script: func(w *world) { w.service.Rollout.Steps[0].Approval = true }, meanwhile: func(r *recorder) {
			r.awaitState(func(s steps.State) bool { return s.Rollout != nil && s.Rollout.AwaitsApproval })
			r.does(steps.RejectUpdate, by("bob", "k"))
		}, status: completed},
		{name: "aborted", script: func(w *world) { w.holds(held) }, meanwhile: func(r *recorder) {
			await(r, steps.HoldStep, 1)
			r.does(steps.AbortUpdate, by("alice", "k"))
		}, status: completed},
		{name: "aborted-while-it-loads", script: func(w *world) {
			on(w, steps.LoadRelease, func(ctx context.Context, _ steps.LoadInput) (steps.LoadResult, error) {
				return steps.LoadResult{}, heldOut(ctx)
			})
		}, meanwhile: func(r *recorder) {
			await(r, steps.LoadRelease, 1)
			r.does(steps.AbortUpdate, by("alice", "k"))
		}, status: completed},
		{name: "asked-at-the-bound", script: func(w *world) {
			w.service.Rollout.AtBound = "ask"
			w.holds(func(context.Context) (steps.HoldResult, error) { return ends(steps.HoldTime), nil }, held, enough)
		}, meanwhile: func(r *recorder) {
			await(r, steps.HoldStep, 2)
			r.does(steps.ResumeUpdate, by("alice", "k"))
		}, status: completed},
		{name: "canceled", script: func(w *world) { w.holds(held) }, meanwhile: func(r *recorder) {
			await(r, steps.HoldStep, 1)
			require.NoError(r.t, r.client.CancelWorkflow(r.ctx, r.run.GetID(), r.run.GetRunID()))
		}, status: canceled},
	}
	for i := range all {
		all[i].loop, all[i].input = steps.PromoteRelease, onlyService()
	}
	return all
}

// untilToldOrOver is a step that goes on until the function that it comes with is called.
func untilToldOrOver() (wait func(context.Context) error, over func()) {
	told := make(chan struct{})
	return func(ctx context.Context) error {
		waiting, end := context.WithCancel(ctx)
		defer end()
		go func() {
			select {
			case <-told:
				end()
			case <-waiting.Done():
			}
		}()
		err := heldOut(waiting)
		if ctx.Err() == nil {
			return nil
		}
		return err
	}, sync.OnceFunc(func() { close(told) })
}

func policyRecordings() []recording {
	thaws := func(w *world) (over func()) {
		wait, over := untilToldOrOver()
		on(w, steps.AwaitThaw, func(ctx context.Context, _ steps.FreezeInput) (steps.FreezeResult, error) {
			return steps.FreezeResult{}, wait(ctx)
		})
		return over
	}
	late := func(w *world) { gives(w, steps.PlanRollout, latePlan) }
	isFrozen := func(s steps.State) bool { return s.Frozen != nil }
	var over, overBetween func()
	all := []recording{
		{name: "frozen-at-the-start", input: onlyService(), script: func(w *world) { w.frozenAt(1) }, status: failed},
		{name: "planned-too-late", input: onlyService(), script: late, status: failed},
		{name: "accepted-late", input: map[string]any{"service": "docs", "accept_late": true}, script: late, status: completed},
		{name: "waited-in-a-freeze", input: waiting(), script: func(w *world) { w.frozenAt(1) }, status: completed},
		{name: "frozen-in-the-middle", input: onlyService(), script: func(w *world) {
			over = thaws(w)
			w.holds(holdsFrozen, held, enough, enough)
		}, meanwhile: func(r *recorder) {
			await(r, steps.HoldStep, 2)
			r.awaitState(isFrozen)
			over()
		}, status: completed},
		{name: "frozen-between-steps", input: onlyService(), script: func(w *world) {
			overBetween = thaws(w)
			w.frozenAt(3)
			w.holds(enough, held, enough)
		}, meanwhile: func(r *recorder) {
			await(r, steps.HoldStep, 2)
			r.awaitState(isFrozen)
			overBetween()
		}, status: completed},
		{name: "harm-in-a-freeze", input: onlyService(), script: func(w *world) {
			thaws(w)
			w.holds(holdsFrozen, func(context.Context) (steps.HoldResult, error) { return ends(steps.HoldHarm), nil })
		}, status: completed},
		{name: "broke-the-glass", input: waiting(), script: func(w *world) {
			w.frozenAt(1)
			thaws(w)
		}, meanwhile: func(r *recorder) {
			r.awaitState(isFrozen)
			owner := inputs(r.world, steps.Claim)[0].Owner
			grant := lifecycle.Grant{
				Purpose: lifecycle.BreakGlass, WorkflowID: owner.WorkflowID, FirstRunID: owner.FirstRunID, Release: candidate,
				Approver: "bob", Reason: "answers are wrong now", Expires: time.Now().Add(time.Hour).UTC(), Nonce: "n",
			}
			r.does(steps.BreakGlassUpdate, steps.Approval{Key: "n", Grant: grant.Sign(r.grant)})
		}, status: completed},
	}
	all = append(all, starterRecordings()...)
	for i := range all {
		all[i].loop = steps.PromoteRelease
	}
	return all
}

// starterRecordings are promotions of which it is proven who started them, or is not, and one whose share a freeze held in the
// very moment in which it was raised.
func starterRecordings() []recording {
	fourEyes := func(w *world) {
		w.service.Rollout.FourEyes = true
		w.service.Rollout.Steps[0].Approval = true
	}
	approve := func(r *recorder, key, who string) {
		owner := inputs(r.world, steps.Claim)[0].Owner
		grant := lifecycle.Grant{
			WorkflowID: owner.WorkflowID, FirstRunID: owner.FirstRunID, Release: candidate, Approver: who, Expires: time.Now().Add(time.Hour).UTC(), Nonce: key,
		}
		r.does(steps.ApproveUpdate, steps.Approval{Key: key, Grant: grant.Sign(r.grant)})
	}
	waits := func(s steps.State) bool { return s.Rollout != nil && s.Rollout.AwaitsApproval }
	proof := lifecycle.Grant{Purpose: lifecycle.StartedBy, Approver: "alice", Nonce: "n"}
	return []recording{
		{name: "started-by-a-grant", input: map[string]string{"service": "docs", "by": "alice"}, memo: map[string]any{steps.StartedByMemo: proof}, script: func(w *world) {
			fourEyes(w)
			gives(w, steps.ProveStart, steps.StartProof{By: "alice"})
		}, meanwhile: func(r *recorder) {
			r.awaitState(waits)
			approve(r, "b", "bob")
		}, status: completed},
		{name: "approved-by-two", input: map[string]string{"service": "docs", "by": "alice"}, script: fourEyes, meanwhile: func(r *recorder) {
			r.awaitState(waits)
			approve(r, "b", "bob")
			approve(r, "c", "carol")
		}, status: completed},
		{name: "frozen-while-a-share-is-raised", input: onlyService(), script: func(w *world) {
			on(w, steps.SetShare, func(context.Context, steps.ShareInput) (steps.ShareResult, error) {
				if len(inputs(w, steps.SetShare)) == 2 {
					return steps.ShareResult{Frozen: &weekend}, nil
				}
				return steps.ShareResult{}, nil
			})
			w.holds(enough, held, enough)
		}, status: completed},
	}
}

func makingRecordings() []recording {
	refused := func(w *world) { fails(w, steps.CheckCorpus, lifecycle.Refused, "half of it are duplicates") }
	again, lost, broken := ended(lifecycle.JobRetry, 75), ended(lifecycle.JobLost, -1), ended(lifecycle.JobFailed, 1)
	corpus := map[string]string{"service": "docs", "corpus": "base"}
	return []recording{
		{loop: steps.ContinuePretraining, name: "straight", input: onlyService(), script: asItIs, status: completed},
		{loop: steps.ContinuePretraining, name: "refused", input: onlyService(), script: refused, status: failed},
		{loop: steps.ContinuePretraining, name: "retried", input: onlyService(), script: func(w *world) {
			w.tries(again, lost, broken)
		}, status: completed},
		{loop: steps.ContinuePretraining, name: "canceled", input: onlyService(), script: func(w *world) {
			on(w, steps.RunJob, func(ctx context.Context, _ steps.RunJobInput) (steps.RunJobResult, error) {
				return steps.RunJobResult{}, heldOut(ctx)
			})
		}, meanwhile: func(r *recorder) {
			await(r, steps.RunJob, 1)
			require.NoError(r.t, r.client.CancelWorkflow(r.ctx, r.run.GetID(), r.run.GetRunID()))
		}, status: canceled},
		// The test environment ends a cancelled step at once; only a real server waits for what it says.
		{loop: steps.ContinuePretraining, name: "canceled-and-the-job-said-so", input: onlyService(), script: func(w *world) {
			on(w, steps.RunJob, func(ctx context.Context, _ steps.RunJobInput) (steps.RunJobResult, error) {
				_ = heldOut(ctx)
				return ended(lifecycle.JobCanceled, 143), nil
			})
		}, meanwhile: func(r *recorder) {
			await(r, steps.RunJob, 1)
			require.NoError(r.t, r.client.CancelWorkflow(r.ctx, r.run.GetID(), r.run.GetRunID()))
		}, status: canceled},
		{loop: steps.ContinuePretraining, name: "screened", input: onlyService(), script: contaminated, status: completed},
		{loop: steps.ContinuePretraining, name: "screened-once-there-is-a-suite", input: onlyService(), script: drawnLate, status: completed},
		{loop: steps.ContinuePretraining, name: "contaminated", input: onlyService(), script: func(w *world) {
			fails(w, steps.ScreenData, lifecycle.Refused, "3 of 10 documents hold cases")
		}, status: failed},
		{loop: steps.RebuildIndex, name: "screened", input: onlyService(), script: contaminated, status: completed},
		{loop: steps.RebuildIndex, name: "straight", input: onlyService(), script: asItIs, status: completed},
		{loop: steps.RebuildIndex, name: "failed", input: onlyService(), script: func(w *world) {
			w.tries(broken, broken, broken)
		}, status: failed},
		{loop: steps.BuildDataset, name: "straight", input: corpus, script: asItIs, status: completed},
		{loop: steps.BuildDataset, name: "refused", input: corpus, script: refused, status: failed},
	}
}
