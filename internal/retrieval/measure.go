package retrieval

import (
	"context"
	"iter"
	"math"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Query asks for the one document that answers it.
type Query struct {
	ID       string
	Group    string // queries of one group are not independent
	Text     string
	Document string
}

// measuredDepth: documents looked at for each query.
const measuredDepth = 10

// Measured is how one query fared, so that two ways of searching can be compared query by query.
type Measured struct {
	Query          string  `json:"query"`
	Group          string  `json:"group"`
	Rank           int     `json:"rank"` // of the right document from 1; 0: not among the first ten
	RecallAt5      float64 `json:"recall_at_5"`
	RecallAt10     float64 `json:"recall_at_10"`
	ReciprocalRank float64 `json:"reciprocal_rank"` // 0 where the rank is 0
	NDCGAt10       float64 `json:"ndcg_at_10"`      // with one right document: 1/log2(1+rank)
}

// Scores are means over queries.
type Scores struct {
	Queries    int     `json:"queries"`
	RecallAt5  float64 `json:"recall_at_5"`
	RecallAt10 float64 `json:"recall_at_10"`
	MRR        float64 `json:"mrr"` // over the first ten
	NDCGAt10   float64 `json:"ndcg_at_10"`
}

// DocumentSearcher is what is measured; a Searcher is one.
type DocumentSearcher interface {
	SearchDocuments(ctx context.Context, query string, k int) ([]string, error)
}

// Evaluate puts every query. A search that fails ends it: a mean over the rest would be a better one. No query at
// all is Invalid.
func Evaluate(ctx context.Context, search DocumentSearcher, queries iter.Seq[Query]) ([]Measured, Scores, error) {
	var all []Measured
	var s Scores
	for q := range queries {
		found, err := search.SearchDocuments(ctx, q.Text, measuredDepth)
		if err != nil {
			return nil, Scores{}, lifecycle.Wrap(err, "put query %s", q.ID)
		}
		m := measure(q, found)
		all = append(all, m)
		s.RecallAt5 += m.RecallAt5
		s.RecallAt10 += m.RecallAt10
		s.MRR += m.ReciprocalRank
		s.NDCGAt10 += m.NDCGAt10
	}
	if len(all) == 0 {
		return nil, Scores{}, lifecycle.Errorf(lifecycle.Invalid, "there is no query to measure with")
	}
	s.Queries = len(all)
	for _, mean := range []*float64{&s.RecallAt5, &s.RecallAt10, &s.MRR, &s.NDCGAt10} {
		*mean /= float64(len(all))
	}
	return all, s, nil
}

func measure(q Query, found []string) Measured {
	m := Measured{Query: q.ID, Group: q.Group, Rank: slices.Index(found[:min(len(found), measuredDepth)], q.Document) + 1}
	if m.Rank == 0 {
		return m
	}
	m.RecallAt10 = 1
	if m.Rank <= 5 {
		m.RecallAt5 = 1
	}
	m.ReciprocalRank = 1 / float64(m.Rank)
	m.NDCGAt10 = 1 / math.Log2(1+float64(m.Rank))
	return m
}
