package activities

import (
	"go.temporal.io/sdk/worker"

	"github.com/refitml/refit/internal/steps"
)

// Set is every step of every loop.
type Set struct {
	Common     Common
	Datasets   Datasets
	Jobs       Jobs
	Releases   Releases
	Index      Index
	Evaluation Evaluation
	Promotion  Promotion
	Tuning     Tuning
	Archive    Archive
}

// BindIO registers the quick steps and those that hold a share.
func (s Set) BindIO(w worker.ActivityRegistry) {
	steps.Resolve.Bind(w, s.Common.Resolve)
	steps.ProveStart.Bind(w, s.Common.ProveStart)
	steps.Claim.Bind(w, s.Common.Claim)
	steps.ReleaseClaim.Bind(w, s.Common.ReleaseClaim)
	steps.Record.Bind(w, s.Common.Record)
	steps.AwaitDataset.Bind(w, s.Common.AwaitDataset)
	steps.AwaitVerdict.Bind(w, s.Common.AwaitVerdict)
	steps.FindBaseModel.Bind(w, s.Releases.FindBaseModel)
	steps.MakeRelease.Bind(w, s.Releases.MakeRelease)
	steps.UnloadUnused.Bind(w, s.Promotion.UnloadUnused)
	steps.StartRollout.Bind(w, s.Promotion.StartRollout)
	steps.FirstStable.Bind(w, s.Promotion.FirstStable)
	steps.PlanRollout.Bind(w, s.Promotion.PlanRollout)
	steps.CheckFreeze.Bind(w, s.Promotion.CheckFreeze)
	steps.AwaitThaw.Bind(w, s.Promotion.AwaitThaw)
	steps.SetShare.Bind(w, s.Promotion.SetShare)
	steps.HoldStep.Bind(w, s.Promotion.HoldStep)
	steps.RecordStep.Bind(w, s.Promotion.RecordStep)
	steps.SetShadow.Bind(w, s.Promotion.SetShadow)
	steps.HoldShadow.Bind(w, s.Promotion.HoldShadow)
	steps.RecordShadow.Bind(w, s.Promotion.RecordShadow)
	steps.MakeStable.Bind(w, s.Promotion.MakeStable)
	steps.RollBack.Bind(w, s.Promotion.RollBack)
	steps.OpenLadder.Bind(w, s.Tuning.OpenLadder)
}

// BindData registers the long steps.
func (s Set) BindData(w worker.ActivityRegistry) {
	steps.CheckCorpus.Bind(w, s.Datasets.CheckCorpus)
	steps.ScreenData.Bind(w, s.Datasets.Screen)
	steps.BuildIndex.Bind(w, s.Index.Build)
	steps.PlanEvaluation.Bind(w, s.Evaluation.Plan)
	steps.AnswerSuite.Bind(w, s.Evaluation.Answer)
	steps.PlanBatches.Bind(w, s.Evaluation.PlanBatches)
	steps.AnswerBatch.Bind(w, s.Evaluation.Answer)
	steps.JoinAnswers.Bind(w, s.Evaluation.Join)
	steps.CompareAnswers.Bind(w, s.Evaluation.Compare)
	steps.LabelAnswers.Bind(w, s.Evaluation.Label)
	steps.JudgeGate.Bind(w, s.Evaluation.Judge)
	steps.LoadRelease.Bind(w, s.Promotion.LoadRelease)
	steps.CurateFeedback.Bind(w, s.Tuning.Curate)
	steps.PlanArchive.Bind(w, s.Archive.Plan)
	steps.ArchiveDay.Bind(w, s.Archive.Day)
	steps.ForgetDay.Bind(w, s.Archive.ForgetDay)
}

// BindJobs registers what runs where a job engine is reachable.
func (s Set) BindJobs(w worker.ActivityRegistry) {
	steps.RunJob.Bind(w, s.Jobs.Run)
}
