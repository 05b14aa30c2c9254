package retrieval

import (
	"cmp"
	"context"
	"iter"
	"math"
	"slices"
	"strconv"

	"github.com/refitml/refit/internal/lifecycle"
)

// Embedder gives one vector a text, in the order of texts, all of one length.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// BM25 holds the parameters of the lexical ranking. The zero value works.
type BM25 struct {
	K1 float64 `json:"k1"` // how soon more of a term counts no more; default 1.2
	B  float64 `json:"b"`  // how much length counts, up to 1; default 0.75; negative means not at all
}

func (b BM25) withDefaults() (BM25, error) {
	b.K1 = cmp.Or(b.K1, 1.2)
	b.B = max(0, cmp.Or(b.B, 0.75))
	return b, b.check()
}

func (b BM25) check() error {
	if !(b.K1 > 0) || math.IsInf(b.K1, 0) || !(b.B >= 0 && b.B <= 1) {
		return lifecycle.Errorf(lifecycle.Invalid, "BM25 with k1 %g and b %g; give k1 over 0 and b up to 1", b.K1, b.B)
	}
	return nil
}

// Options says how an index is built. The zero value builds a lexical one.
type Options struct {
	Chunking     Chunking
	BM25         BM25
	Embedder     Embedder                   // nil: a lexical index
	EmbedderName string                     // stands in the index, so that queries are embedded by the same one: the artifact's digest
	Batch        int                        // texts embedded at once; default 64
	Progress     func(embedded, chunks int) // called after each batch; nil: nobody looks
}

// Info says what an index is.
type Info struct {
	Documents int      `json:"documents"`
	Chunks    int      `json:"chunks"`
	Terms     int      `json:"terms"`
	Postings  int      `json:"postings"`
	Chunking  Chunking `json:"chunking"`
	BM25      BM25     `json:"bm25"`
	Dimension int      `json:"dimension"` // of vectors; 0: there are none
	Embedder  string   `json:"embedder"`  // name given when it was built; empty where there are no vectors
}

// chunk is one passage; text[from:to] of its document.
type chunk struct {
	Document string `json:"document"`
	Title    string `json:"title"`
	Number   int    `json:"number"` // in its document, from 0
	From     int    `json:"from"`   // byte of the document's text
	Text     string `json:"text"`
}

func (c chunk) id() string { return c.Document + "#" + strconv.Itoa(c.Number) }

// embedded is what the embedder is given.
func (c chunk) embedded() string {
	if c.Title == "" {
		return c.Text
	}
	return c.Title + "\n" + c.Text
}

type posting struct {
	chunk int32
	count int32
}

// Index is a built index. It is immutable.
type Index struct {
	info     Info
	chunks   []chunk
	lengths  []int32              // in terms, of each chunk
	average  float64              // of lengths
	postings map[string][]posting // by term; ordered by chunk
	vectors  []float32            // Dimension a chunk, one after another
}

// Info says what the index is.
func (x *Index) Info() Info { return x.info }

// Bounds of an index.
const (
	maxChunks    = 1 << 24
	maxDimension = 1 << 14
	maxTitle     = 1 << 16 // bytes of a title or an ID
)

// Build makes an index over documents, in their order. A document without ID or with one that was there before is
// Invalid; one without text gets no chunk. Vectors that are not finite or differ in length are Invalid.
func Build(ctx context.Context, docs iter.Seq2[Document, error], options Options) (*Index, error) {
	chunking, err := options.Chunking.withDefaults()
	if err != nil {
		return nil, err
	}
	ranking, err := options.BM25.withDefaults()
	if err != nil {
		return nil, err
	}
	x := &Index{info: Info{Chunking: chunking, BM25: ranking}, postings: map[string][]posting{}}
	seen := map[string]bool{}
	for d, err := range docs {
		if err != nil {
			return nil, lifecycle.Wrap(err, "read a document for the index")
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if d.ID == "" || seen[d.ID] || len(d.ID) > maxTitle || len(d.Title) > maxTitle {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "document %.80q: its ID is empty, too long or was there before, or its title is too long", d.ID)
		}
		seen[d.ID] = true
		for n, s := range chunking.cut(d.Text) {
			x.add(chunk{Document: d.ID, Title: d.Title, Number: n, From: s.from, Text: d.Text[s.from:s.to]})
		}
		if len(x.chunks) > maxChunks {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "over %d chunks; make them larger or split the corpus", maxChunks)
		}
	}
	if len(x.chunks) == 0 {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "there is no text to index")
	}
	x.count()
	if options.Embedder != nil {
		return x, x.embed(ctx, options)
	}
	return x, nil
}

func (x *Index) add(c chunk) {
	at := int32(len(x.chunks))
	x.chunks = append(x.chunks, c)
	tokens := Tokens(c.embedded())
	x.lengths = append(x.lengths, int32(len(tokens)))
	for _, term := range tokens {
		list := x.postings[term]
		if n := len(list); n > 0 && list[n-1].chunk == at {
			list[n-1].count++
			continue
		}
		x.postings[term] = append(list, posting{at, 1})
	}
}

// count fills in what follows from chunks and postings.
func (x *Index) count() {
	x.info.Chunks, x.info.Terms = len(x.chunks), len(x.postings)
	x.info.Documents, x.info.Postings = 0, 0
	for i, c := range x.chunks {
		if i == 0 || c.Document != x.chunks[i-1].Document {
			x.info.Documents++
		}
	}
	for _, list := range x.postings {
		x.info.Postings += len(list)
	}
	total := 0
	for _, n := range x.lengths {
		total += int(n)
	}
	x.average = max(1, float64(total)/float64(max(1, len(x.chunks)))) // texts of symbols only have no terms
}

func (x *Index) embed(ctx context.Context, options Options) error {
	batch := options.Batch
	if batch <= 0 {
		batch = 64
	}
	x.info.Embedder = options.EmbedderName
	for from := 0; from < len(x.chunks); from += batch {
		part := x.chunks[from:min(from+batch, len(x.chunks))]
		texts := make([]string, len(part))
		for i, c := range part {
			texts[i] = c.embedded()
		}
		vectors, err := options.Embedder.Embed(ctx, texts)
		if err != nil {
			return lifecycle.Wrap(err, "embed chunks %d to %d", from, from+len(part)-1)
		}
		if len(vectors) != len(texts) {
			return lifecycle.Errorf(lifecycle.Invalid, "the embedder gave %d vectors for %d texts", len(vectors), len(texts))
		}
		for _, v := range vectors {
			if x.info.Dimension == 0 {
				x.info.Dimension = len(v)
				x.vectors = make([]float32, 0, min(len(v), maxDimension)*len(x.chunks))
			}
			if v, err = normalised(v, x.info.Dimension); err != nil {
				return err
			}
			x.vectors = append(x.vectors, v...)
		}
		if options.Progress != nil {
			options.Progress(from+len(part), len(x.chunks))
		}
	}
	return nil
}

// normalised gives v with length 1; the zero vector stays, and is like nothing.
func normalised(v []float32, dimension int) ([]float32, error) {
	if len(v) != dimension || dimension == 0 || dimension > maxDimension {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "a vector of %d numbers where %d are asked for (1 to %d)", len(v), dimension, maxDimension)
	}
	sum := 0.0
	for _, f := range v {
		sum += float64(f) * float64(f)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "a vector that is not finite")
	}
	out := slices.Clone(v)
	if sum == 0 {
		return out, nil
	}
	scale := 1 / math.Sqrt(sum)
	for i, f := range out {
		out[i] = float32(float64(f) * scale)
	}
	return out, nil
}
