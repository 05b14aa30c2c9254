package steps

import (
	"fmt"

	"github.com/refitml/refit/internal/lifecycle"
)

// EvaluationInput starts EvaluateRelease.
type EvaluationInput struct {
	Service  string `json:"service"`
	Release  string `json:"release,omitempty"`  // ID or its beginning; default: the newest
	Baseline string `json:"baseline,omitempty"` // default: the stable release
	By       string `json:"by,omitempty"`
}

// ServiceName says which service is meant.
func (in EvaluationInput) ServiceName() string { return in.Service }

// EvaluationWorkflowID makes everybody who asks the same question share one answer.
func EvaluationWorkflowID(service string, candidate, baseline, suite lifecycle.Digest) string {
	return fmt.Sprintf("evaluate/%s/%s/%s/%s", service, candidate.Short(), orNone(baseline), suite.Short())
}

func orNone(d lifecycle.Digest) string {
	if d == "" {
		return "none"
	}
	return d.Short()
}

// PlanEvaluationInput resolves what to compare.
type PlanEvaluationInput struct {
	Service  string          `json:"service"`
	Release  string          `json:"release,omitempty"`
	Baseline string          `json:"baseline,omitempty"`
	By       lifecycle.Actor `json:"by"`
}

// EvaluationPlan is a question with everything pinned.
type EvaluationPlan struct {
	Candidate lifecycle.Digest   `json:"candidate"`
	Baseline  lifecycle.Digest   `json:"baseline"` // empty: nothing serves yet
	Suite     lifecycle.Digest   `json:"suite"`
	Verdict   *lifecycle.Verdict `json:"verdict,omitempty"`  // the answer, where it was given before
	Compares  bool               `json:"compares,omitempty"` // judges compare both sides' answers
	Labels    int                `json:"labels,omitempty"`   // answers that people have judged, to hold scorers against
}

// AnswerInput lets one release answer a suite, or a batch of its cases.
type AnswerInput struct {
	Service string           `json:"service"`
	Release lifecycle.Digest `json:"release"`
	Suite   lifecycle.Digest `json:"suite"`
	By      lifecycle.Actor  `json:"by"`
	Batch   *Batch           `json:"batch,omitempty"`
	AtOnce  int              `json:"at_once,omitempty"` // batches that share the release's servers
}

// Batch is a run of a suite's cases in their order: from From up to To, which is not of it.
type Batch struct {
	From int   `json:"from"`
	To   int   `json:"to"`
	At   int64 `json:"at,omitempty"` // byte of the suite's cases where it begins; 0 where that is not known
}

// AnswerPlan is how a suite is put to a release. Where Answers are there already nothing is asked.
type AnswerPlan struct {
	Answers   lifecycle.Digest `json:"answers,omitempty"`
	Questions int              `json:"questions"` // cases, each as often as it is sampled
	Batches   []Batch          `json:"batches,omitempty"`
	AtOnce    int              `json:"at_once,omitempty"` // batches at once
}

// JoinInput makes one artifact of the answers of all batches.
type JoinInput struct {
	Service string             `json:"service"`
	Release lifecycle.Digest   `json:"release"`
	Suite   lifecycle.Digest   `json:"suite"`
	Batches []Batch            `json:"batches"`
	Answers []lifecycle.Digest `json:"answers"` // of each batch
	By      lifecycle.Actor    `json:"by"`
}

// AnswerResult is an artifact with one answer a case.
type AnswerResult struct {
	Answers lifecycle.Digest `json:"answers"`
	Cases   int              `json:"cases"`
	Reused  bool             `json:"reused"`
}

// CompareInput lets judges compare both sides' answers.
type CompareInput struct {
	Service          string           `json:"service"`
	Suite            lifecycle.Digest `json:"suite"`
	Candidate        lifecycle.Digest `json:"candidate"`
	Baseline         lifecycle.Digest `json:"baseline"`
	CandidateAnswers lifecycle.Digest `json:"candidate_answers"`
	BaselineAnswers  lifecycle.Digest `json:"baseline_answers"`
	By               lifecycle.Actor  `json:"by"`
}

// CompareResult is an artifact with one comparison a pair of answers.
type CompareResult struct {
	Comparisons lifecycle.Digest `json:"comparisons"`
	Pairs       int              `json:"pairs"`
	Reused      bool             `json:"reused"`
}

// LabelInput lets a suite's scorers judge the answers that people have judged.
type LabelInput struct {
	Service string           `json:"service"`
	Suite   lifecycle.Digest `json:"suite"`
	By      lifecycle.Actor  `json:"by"`
}

// LabelResult is an artifact with one label an answer that people have judged.
type LabelResult struct {
	Labels  lifecycle.Digest `json:"labels"`
	Answers int              `json:"answers"`
	Reused  bool             `json:"reused"`
}

// JudgeGateInput compares answers.
type JudgeGateInput struct {
	Service          string           `json:"service"`
	Plan             EvaluationPlan   `json:"plan"`
	CandidateAnswers lifecycle.Digest `json:"candidate_answers"`
	BaselineAnswers  lifecycle.Digest `json:"baseline_answers,omitempty"`
	Comparisons      lifecycle.Digest `json:"comparisons,omitempty"`
	Labels           lifecycle.Digest `json:"labels,omitempty"`
	By               lifecycle.Actor  `json:"by"`
}

// Steps of the evaluation loop.
var (
	PlanEvaluation = Step[PlanEvaluationInput, EvaluationPlan]{"PlanEvaluation", transfer}
	PlanBatches    = Step[AnswerInput, AnswerPlan]{"PlanBatches", transfer}
	AnswerBatch    = Step[AnswerInput, AnswerResult]{"AnswerBatch", batch}
	JoinAnswers    = Step[JoinInput, AnswerResult]{"JoinAnswers", transfer}
	AnswerSuite    = Step[AnswerInput, AnswerResult]{"AnswerSuite", transfer} // of runs that began before there were batches
	CompareAnswers = Step[CompareInput, CompareResult]{"CompareAnswers", batch}
	LabelAnswers   = Step[LabelInput, LabelResult]{"LabelAnswers", batch}
	JudgeGate      = Step[JudgeGateInput, lifecycle.Verdict]{"JudgeGate", transfer}
)
