package steps

import "github.com/refitml/refit/internal/lifecycle"

// IndexInput starts RebuildIndex.
type IndexInput struct {
	Service string `json:"service"`
	By      string `json:"by,omitempty"`
}

// ServiceName says which service is meant.
func (in IndexInput) ServiceName() string { return in.Service }

// IndexResult is what a run of RebuildIndex made and measured.
type IndexResult struct {
	Index    lifecycle.Digest `json:"index"`
	Embedder lifecycle.Digest `json:"embedder"`
	Chunks   int              `json:"chunks"`
	Queries  int              `json:"queries"`
	Hybrid   RetrievalScores  `json:"hybrid"`
	Lexical  RetrievalScores  `json:"lexical"`
	Release  lifecycle.Digest `json:"release,omitempty"` // where a model is there already
	Screens  []Screened       `json:"screens,omitempty"`
}

// RetrievalScores are means over the measured queries.
type RetrievalScores struct {
	RecallAt5  float64 `json:"recall_at_5"`
	RecallAt10 float64 `json:"recall_at_10"`
	MRR        float64 `json:"mrr"`
	NDCGAt10   float64 `json:"ndcg_at_10"`
}

// BuildIndexInput builds and measures an index over datasets.
type BuildIndexInput struct {
	Service   string              `json:"service"`
	Datasets  []lifecycle.Digest  `json:"datasets"`
	Embedder  lifecycle.Digest    `json:"embedder"`
	Retrieval lifecycle.Retrieval `json:"retrieval"`
	By        lifecycle.Actor     `json:"by"`
}

// Steps of the index loop.
var BuildIndex = Step[BuildIndexInput, IndexResult]{"BuildIndex", transfer}
