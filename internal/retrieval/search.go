package retrieval

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Mode says which rankings a search uses.
type Mode string

const (
	Hybrid  Mode = "hybrid"
	Lexical Mode = "lexical"
	Dense   Mode = "dense"
)

// SearchOptions says how an index is searched. The zero value searches a lexical index.
type SearchOptions struct {
	Mode          Mode     // default Hybrid where the index has vectors, else Lexical
	Embedder      Embedder // of queries; the one that the index was built with. Not asked in mode Lexical
	Depth         int      // chunks taken from each ranking before fusion; default 100
	RankConstant  float64  // k of reciprocal rank fusion; default 60
	LexicalWeight float64  // of the ranking by words in the fusion; default 1
	DenseWeight   float64  // of the ranking by vectors in the fusion; default 1
}

// Hit is one chunk that was found. Ranks count from 1; 0 means that the ranking did not have it.
type Hit struct {
	Document    string  `json:"document"`
	Chunk       string  `json:"chunk"` // document ID, '#', number of the chunk in it
	Title       string  `json:"title"`
	Text        string  `json:"text"`
	From        int     `json:"from"` // bytes of the document's text
	To          int     `json:"to"`
	Score       float64 `json:"score"` // by which hits are ordered; larger is better. Fused, or that of the one ranking
	LexicalRank int     `json:"lexical_rank"`
	DenseRank   int     `json:"dense_rank"`
	Lexical     float64 `json:"lexical"` // BM25
	Dense       float64 `json:"dense"`   // cosine
}

// Searcher searches one index in one way. It is safe for use by many at once if its embedder is.
type Searcher struct {
	index   *Index
	options SearchOptions
}

// Searcher makes an index ready to be searched. A mode that needs vectors is Invalid without them or without an
// embedder.
func (x *Index) Searcher(options SearchOptions) (*Searcher, error) {
	if options.Mode == "" {
		options.Mode = Lexical
		if x.info.Dimension > 0 {
			options.Mode = Hybrid
		}
	}
	switch options.Mode {
	case Lexical:
	case Hybrid, Dense:
		if x.info.Dimension == 0 {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "a %s search needs vectors, and the index has none", options.Mode)
		}
		if options.Embedder == nil {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "a %s search needs the embedder %.12s of the index", options.Mode, x.info.Embedder)
		}
	default:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "mode %q; give %s, %s or %s", options.Mode, Hybrid, Lexical, Dense)
	}
	options.Depth = cmp.Or(max(0, options.Depth), 100)
	options.RankConstant = cmp.Or(max(0, options.RankConstant), 60)
	options.LexicalWeight = cmp.Or(max(0, options.LexicalWeight), 1)
	options.DenseWeight = cmp.Or(max(0, options.DenseWeight), 1)
	return &Searcher{index: x, options: options}, nil
}

// Search finds the k best chunks, best first. Fewer are no error: a query without a known term finds nothing by
// words.
func (s *Searcher) Search(ctx context.Context, query string, k int) ([]Hit, error) {
	ranked, err := s.rank(ctx, query, k)
	if err != nil {
		return nil, err
	}
	ranked = ranked[:min(max(0, k), len(ranked))]
	hits := make([]Hit, len(ranked))
	for i, r := range ranked {
		hits[i] = s.hit(r)
	}
	return hits, nil
}

// SearchDocuments finds the k best documents and gives their IDs, best first; a document is as good as its best
// chunk. As many are found as Depth chunks of each ranking hold.
func (s *Searcher) SearchDocuments(ctx context.Context, query string, k int) ([]string, error) {
	ranked, err := s.rank(ctx, query, k)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range ranked {
		if len(ids) >= k {
			break
		}
		if id := s.index.chunks[r.chunk].Document; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// ranked is a chunk on its way to a hit.
type ranked struct {
	chunk                  int32
	score                  float64
	lexical, dense         float64
	lexicalRank, denseRank int
}

func (s *Searcher) hit(r ranked) Hit {
	c := s.index.chunks[r.chunk]
	return Hit{
		Document: c.Document, Chunk: c.id(), Title: c.Title, Text: c.Text, From: c.From, To: c.From + len(c.Text),
		Score: r.score, LexicalRank: r.lexicalRank, DenseRank: r.denseRank, Lexical: r.lexical, Dense: r.dense,
	}
}

// rank gives all candidates, best first.
func (s *Searcher) rank(ctx context.Context, query string, k int) ([]ranked, error) {
	depth := max(s.options.Depth, k)
	if depth > len(s.index.chunks) {
		depth = len(s.index.chunks)
	}
	var lexical, dense []scored
	if s.options.Mode != Dense {
		lexical = s.index.lexical(query, depth)
	}
	if s.options.Mode != Lexical {
		vectors, err := s.options.Embedder.Embed(ctx, []string{query})
		if err != nil {
			return nil, lifecycle.Wrap(err, "embed a query")
		}
		if len(vectors) != 1 {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "the embedder gave %d vectors for one query", len(vectors))
		}
		vector, err := normalised(vectors[0], s.index.info.Dimension)
		if err != nil {
			return nil, lifecycle.Wrap(err, "embed a query")
		}
		dense = s.index.dense(vector, depth)
	}
	return s.fuse(lexical, dense), nil
}

// fuse orders by the sum of weight/(constant+rank) over the rankings, or by the score of the only one.
func (s *Searcher) fuse(lexical, dense []scored) []ranked {
	places := make(map[int32]int, len(lexical)+len(dense))
	out := make([]ranked, 0, len(lexical)+len(dense))
	place := func(chunk int32) *ranked {
		i, ok := places[chunk]
		if !ok {
			i = len(out)
			places[chunk] = i
			out = append(out, ranked{chunk: chunk})
		}
		return &out[i]
	}
	for i, c := range lexical {
		r := place(c.chunk)
		r.lexical, r.lexicalRank = float64(c.score), i+1
		r.score += s.options.LexicalWeight / (s.options.RankConstant + float64(i+1))
	}
	for i, c := range dense {
		r := place(c.chunk)
		r.dense, r.denseRank = float64(c.score), i+1
		r.score += s.options.DenseWeight / (s.options.RankConstant + float64(i+1))
	}
	for i := range out {
		switch s.options.Mode {
		case Lexical:
			out[i].score = out[i].lexical
		case Dense:
			out[i].score = out[i].dense
		}
	}
	slices.SortFunc(out, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.chunk, b.chunk))
	})
	return out
}

// scored is a chunk in one ranking.
type scored struct {
	chunk int32
	score float32
}

// lexical ranks by BM25 with the idf of Lucene, which is never negative.
func (x *Index) lexical(query string, depth int) []scored {
	terms := Tokens(query)
	slices.Sort(terms) // a sum of floats depends on its order
	scores := make([]float32, len(x.chunks))
	var touched []int32
	k1, b := x.info.BM25.K1, x.info.BM25.B
	for i, term := range terms {
		if i > 0 && terms[i-1] == term {
			continue // a term counts once, however often it is asked for
		}
		list := x.postings[term]
		df := float64(len(list))
		idf := math.Log1p((float64(len(x.chunks)) - df + 0.5) / (df + 0.5))
		for _, p := range list {
			tf := float64(p.count)
			norm := k1 * (1 - b + b*float64(x.lengths[p.chunk])/x.average)
			if scores[p.chunk] == 0 {
				touched = append(touched, p.chunk)
			}
			scores[p.chunk] += float32(idf * tf * (k1 + 1) / (tf + norm))
		}
	}
	best := newBest(depth)
	for _, c := range touched {
		best.offer(scored{c, scores[c]})
	}
	return best.sorted()
}

// dense ranks by cosine; what is not like the query at all (0 or less) is left out.
func (x *Index) dense(query []float32, depth int) []scored {
	best := newBest(depth)
	n := x.info.Dimension
	for i := range x.chunks {
		if score := dot(query, x.vectors[i*n:(i+1)*n]); score > 0 {
			best.offer(scored{int32(i), score})
		}
	}
	return best.sorted()
}

// dot keeps four sums, so that the processor need not wait for each addition.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// best keeps the best n of what it is offered: a heap with the worst on top.
type best struct {
	n    int
	heap worstFirst
}

func newBest(n int) *best { return &best{n: n, heap: make(worstFirst, 0, n)} }

func (b *best) offer(s scored) {
	switch {
	case len(b.heap) < b.n:
		heap.Push(&b.heap, s)
	case b.n > 0 && better(s, b.heap[0]):
		b.heap[0] = s
		heap.Fix(&b.heap, 0)
	}
}

func (b *best) sorted() []scored {
	slices.SortFunc(b.heap, func(a, b scored) int {
		if better(a, b) {
			return -1
		}
		return 1
	})
	return b.heap
}

// better orders strictly: no two chunks are equal.
func better(a, b scored) bool {
	if a.score != b.score {
		return a.score > b.score
	}
	return a.chunk < b.chunk
}

type worstFirst []scored

func (w worstFirst) Len() int           { return len(w) }
func (w worstFirst) Less(i, j int) bool { return better(w[j], w[i]) }
func (w worstFirst) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *worstFirst) Push(x any)        { *w = append(*w, x.(scored)) }
func (w *worstFirst) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}
