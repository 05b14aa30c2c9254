package steps

import (
	"fmt"

	"github.com/refitml/refit/internal/lifecycle"
)

// Workflow type names, as people choose them in the Temporal UI.
const (
	ContinuePretraining = "ContinuePretraining"
	RebuildIndex        = "RebuildIndex"
	EvaluateRelease     = "EvaluateRelease"
	PromoteRelease      = "PromoteRelease"
	TuneFromFeedback    = "TuneFromFeedback"
	ArchiveInteractions = "ArchiveInteractions"
	BuildDataset        = "BuildDataset"
)

// PretrainingInput starts ContinuePretraining.
type PretrainingInput struct {
	Service    string            `json:"service"`
	Corpus     string            `json:"corpus,omitempty"`     // fresh domain; default "fresh"
	Replay     string            `json:"replay,omitempty"`     // old domain; default "base"
	From       string            `json:"from,omitempty"`       // model artifact to continue from; default: the newest base, trained first if there is none
	Stage      string            `json:"stage,omitempty"`      // "base" trains only the base; default "continued"
	Parameters RawParameters     `json:"parameters,omitempty"` // of the job, over those of the service
	By         string            `json:"by,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"` // put on the model artifact
}

// ServiceName says which service is meant.
func (in PretrainingInput) ServiceName() string { return in.Service }

// PretrainingResult is what a run of ContinuePretraining made.
type PretrainingResult struct {
	Base    lifecycle.Digest `json:"base"`    // model artifact
	Model   lifecycle.Digest `json:"model"`   // model artifact; equals Base at stage base
	Dataset lifecycle.Digest `json:"dataset"` // the corpus that was learned
	Release lifecycle.Digest `json:"release"` // made of the model and the newest index
	Screens []Screened       `json:"screens,omitempty"`
}

// Screened is what came of holding a job's training data against the suites.
type Screened struct {
	Job       string           `json:"job"`
	Report    lifecycle.Digest `json:"report"` // names every hit
	Cases     int              `json:"cases"`  // that were looked for
	Documents int              `json:"documents"`
	Hits      int              `json:"hits"`              // documents that hold a case
	Removed   int              `json:"removed,omitempty"` // documents that the job is not given
	Learned   int              `json:"learned,omitempty"` // hits in what the model to continue from was trained on already
}

// BuildDatasetInput starts BuildDataset.
type BuildDatasetInput struct {
	Service string `json:"service"`
	Corpus  string `json:"corpus"`
	By      string `json:"by,omitempty"`
}

// ServiceName says which service is meant.
func (in BuildDatasetInput) ServiceName() string { return in.Service }

// BuildDatasetResult is a checked corpus.
type BuildDatasetResult struct {
	Dataset   lifecycle.Digest `json:"dataset"`
	Documents int              `json:"documents"`
	HeldOut   int              `json:"held_out"`
	Dropped   int              `json:"dropped"`
	Bytes     int64            `json:"bytes"`
}

// DatasetWorkflowID makes parents of the same declaration share one run.
func DatasetWorkflowID(service, corpus string, declaration lifecycle.Digest) string {
	return fmt.Sprintf("dataset/%s/%s/%s", service, corpus, declaration.Short())
}

// CheckCorpusInput reads, checks and stores one corpus.
type CheckCorpusInput struct {
	Service string           `json:"service"`
	Corpus  string           `json:"corpus"`
	Policy  lifecycle.Corpus `json:"policy"`
	By      lifecycle.Actor  `json:"by"`
}

// BaseModelInput asks for the newest base model of a service.
type BaseModelInput struct {
	Service string `json:"service"`
	Model   string `json:"model,omitempty"` // a wanted one, by digest; must exist
}

// BaseModel is what there is to continue from. An empty digest means that none was trained yet.
type BaseModel struct {
	Model   lifecycle.Digest `json:"model"`
	Dataset lifecycle.Digest `json:"dataset"` // that it was trained on
}

// ScreenInput holds datasets against the suites of a service, before a job trains on them.
type ScreenInput struct {
	Service  string                      `json:"service"`
	Job      string                      `json:"job"`
	Policy   lifecycle.Contamination     `json:"policy"`
	Datasets map[string]lifecycle.Digest `json:"datasets"`          // by the names that the job gives them
	Learned  []string                    `json:"learned,omitempty"` // of the datasets that the model to continue from was trained on
	By       lifecycle.Actor             `json:"by"`
}

// ScreenResult is what a job may be trained on. Where Missing names corpora, nothing was held against anything yet:
// the suite cannot be made before each has a dataset.
type ScreenResult struct {
	Missing  []string                    `json:"missing,omitempty"`
	Datasets map[string]lifecycle.Digest `json:"datasets,omitempty"` // what was given, or it without the documents that hit
	Screened Screened                    `json:"screened"`
}

// RunJobInput runs one try of a job to its end.
type RunJobInput struct {
	Service string            `json:"service"`
	Key     string            `json:"key"` // the same for every try; made by workflow code
	Try     int               `json:"try"`
	Spec    lifecycle.JobSpec `json:"spec"`
	Labels  map[string]string `json:"labels,omitempty"` // put on the outputs
	By      lifecycle.Actor   `json:"by"`
}

// RunJobResult is how a try ended; outputs only where it succeeded.
type RunJobResult struct {
	Status  lifecycle.JobStatus              `json:"status"`
	Outputs map[string]lifecycle.ArtifactRef `json:"outputs,omitempty"`
}

// MakeReleaseInput bundles artifacts into a release. Empty digests mean the newest of the service,
// for an index: none where the service retrieves nothing.
type MakeReleaseInput struct {
	Service string           `json:"service"`
	Model   lifecycle.Digest `json:"model,omitempty"`
	Index   lifecycle.Digest `json:"index,omitempty"`
	By      lifecycle.Actor  `json:"by"`
}

// MakeReleaseResult names the release; it may have been there before.
type MakeReleaseResult struct {
	Release lifecycle.Digest `json:"release"`
}

// Steps of the data and training loops.
var (
	CheckCorpus   = Step[CheckCorpusInput, BuildDatasetResult]{"CheckCorpus", transfer}
	ScreenData    = Step[ScreenInput, ScreenResult]{"ScreenData", transfer}
	FindBaseModel = Step[BaseModelInput, BaseModel]{"FindBaseModel", quick}
	RunJob        = Step[RunJobInput, RunJobResult]{"RunJob", job}
	MakeRelease   = Step[MakeReleaseInput, MakeReleaseResult]{"MakeRelease", quick}
)
