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
	Verdict   *lifecycle.Verdict `json:"verdict,omitempty"` // the answer, where it was given before
}

// AnswerInput lets one release answer a suite.
type AnswerInput struct {
	Service string           `json:"service"`
	Release lifecycle.Digest `json:"release"`
	Suite   lifecycle.Digest `json:"suite"`
	By      lifecycle.Actor  `json:"by"`
}

// AnswerResult is an artifact with one answer a case.
type AnswerResult struct {
	Answers lifecycle.Digest `json:"answers"`
	Cases   int              `json:"cases"`
	Reused  bool             `json:"reused"`
}

// JudgeGateInput compares answers.
type JudgeGateInput struct {
	Service          string           `json:"service"`
	Plan             EvaluationPlan   `json:"plan"`
	CandidateAnswers lifecycle.Digest `json:"candidate_answers"`
	BaselineAnswers  lifecycle.Digest `json:"baseline_answers,omitempty"`
	By               lifecycle.Actor  `json:"by"`
}

// Steps of the evaluation loop.
var (
	PlanEvaluation = Step[PlanEvaluationInput, EvaluationPlan]{"PlanEvaluation", transfer}
	AnswerSuite    = Step[AnswerInput, AnswerResult]{"AnswerSuite", transfer}
	JudgeGate      = Step[JudgeGateInput, lifecycle.Verdict]{"JudgeGate", transfer}
)
