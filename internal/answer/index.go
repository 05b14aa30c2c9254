package answer

import (
	"context"
	"io/fs"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/retrieval"
)

// OpenIndex makes a stored index ready to answer from: by words and, where the index has vectors, by the
// meaning that its own embedder sees too. The gate and the gateway open indexes here, so both search alike.
func OpenIndex(files fs.FS, embed retrieval.Embedder) (Searcher, error) {
	index, err := retrieval.Open(files)
	if err != nil {
		return nil, err
	}
	search, err := index.Searcher(retrieval.SearchOptions{Embedder: embed})
	if err != nil {
		return nil, lifecycle.Wrap(err, "search the index")
	}
	return passages{search}, nil
}

// passages gives what retrieval found as the path of an answer wants it.
type passages struct{ search *retrieval.Searcher }

func (p passages) Search(ctx context.Context, query string, k int) ([]Passage, error) {
	hits, err := p.search.Search(ctx, query, k)
	if err != nil {
		return nil, err
	}
	out := make([]Passage, len(hits))
	for i, h := range hits {
		out[i] = Passage{ID: h.Chunk, Document: h.Document, Title: h.Title, Text: h.Text, Score: h.Score}
	}
	return out, nil
}
