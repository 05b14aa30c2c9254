package retrieval

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

func sequence(docs ...Document) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// hashed embeds by the hashes of words: enough to see that vectors go where they should.
type hashed struct {
	dimension int
	fail      error
	batches   *[]int
}

func (h hashed) Embed(_ context.Context, texts []string) ([][]float32, error) {
	if h.batches != nil {
		*h.batches = append(*h.batches, len(texts))
	}
	out := make([][]float32, len(texts))
	for i, text := range texts {
		out[i] = make([]float32, h.dimension)
		for _, term := range Tokens(text) {
			sum := fnv.New32a()
			_, _ = sum.Write([]byte(term))
			out[i][sum.Sum32()%uint32(h.dimension)]++
		}
	}
	return out, h.fail
}

// given embeds every batch by the same vectors.
type given [][]float32

func (g given) Embed(context.Context, []string) ([][]float32, error) { return g, nil }

type tree fstest.MapFS

type treeFile struct {
	tree tree
	name string
	data []byte
}

func (t tree) Create(name string) (io.WriteCloser, error) { return &treeFile{tree: t, name: name}, nil }
func (f *treeFile) Write(p []byte) (int, error)           { f.data = append(f.data, p...); return len(p), nil }
func (f *treeFile) Close() error                          { f.tree[f.name] = &fstest.MapFile{Data: f.data}; return nil }

func build(t testing.TB, options Options, docs ...Document) *Index {
	t.Helper()
	x, err := Build(t.Context(), sequence(docs...), options)
	require.NoError(t, err)
	return x
}

func searcher(t testing.TB, x *Index, options SearchOptions) *Searcher {
	t.Helper()
	s, err := x.Searcher(options)
	require.NoError(t, err)
	return s
}

func written(t testing.TB, x *Index) tree {
	t.Helper()
	out := tree{}
	require.NoError(t, x.Write(out))
	return out
}

var shelf = []Document{
	{"http.Client", "http.Client", "Sends requests over connections that it keeps. Follows redirects and holds cookies."},
	{"http.Server", "http.Server", "Accepts connections and answers requests with a handler."},
	{"sql.DB", "sql.DB", "A pool of connections to a database. Safe for many goroutines at once."},
	{"json.Decoder", "json.Decoder", "Reads JSON values from a stream. DisallowUnknownFields makes it strict."},
	{"empty", "Empty", " \n "},
}

func TestTokensKnowIdentifiers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"NewHTTPClient":         {"newhttpclient", "new", "http", "client"},
		"Use http.Client.Do.":   {"use", "http", "client", "do", "http.client.do"},
		"max_idle_conns":        {"max_idle_conns", "max", "idle", "conn"},
		"End. Begin":            {"end", "begin"},
		"queries, query; boxes": {"query", "query", "box"},
		"stopping stopped":      {"stop", "stop"},
		"writes writing write":  {"writ", "writ", "writ"},
		"class status this is":  {"class", "status", "this", "is"},
		"Größe naïve":           {"größ", "naïv"},
		"... -- .x.":            {"x"},
		strings.Repeat("a", 65): nil,
	} {
		require.Equal(t, want, Tokens(text), text)
	}
}

func TestChunksEndWhereTheTextDoes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		size, overlap int
		text          string
		want          []string
	}{
		"short":           {40, 0, "  one line \n", []string{"one line"}},
		"paragraph first": {40, 0, "First one. It is here.\n\nSecond one. It is there.", []string{"First one. It is here.", "Second one. It is there."}},
		"then sentence":   {28, 0, "This ends here. And this is too long.", []string{"This ends here.", "And this is too long."}},
		"then word":       {12, 0, "no full stop in here", []string{"no full stop", "in here"}},
		"then anywhere":   {4, 0, "ééééééé", []string{"éééé", "ééé"}},
		"overlap":         {20, 8, "alpha beta gamma delta epsilon", []string{"alpha beta gamma", "gamma delta epsilon"}},
		"nothing":         {10, 0, " \n\t ", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, s := range (Chunking{Size: tc.size, Overlap: tc.overlap}).cut(tc.text) {
				got = append(got, tc.text[s.from:s.to])
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestChunksCoverTheText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab é. \n世"))).Draw(t, "text")
		c := Chunking{Size: rapid.IntRange(1, 30).Draw(t, "size")}
		c.Overlap = rapid.IntRange(0, c.Size-1).Draw(t, "overlap")
		covered := 0
		for _, s := range c.cut(text) {
			piece := text[s.from:s.to]
			if n := utf8.RuneCountInString(piece); n == 0 || n > c.Size || !utf8.ValidString(piece) || strings.TrimSpace(piece) != piece {
				t.Fatalf("chunk %q of size %d", piece, c.Size)
			}
			if s.from > covered && strings.TrimSpace(text[covered:s.from]) != "" {
				t.Fatalf("%q is in no chunk", text[covered:s.from])
			}
			if s.to <= covered {
				t.Fatalf("chunk %q adds nothing", piece)
			}
			covered = s.to
		}
		if strings.TrimSpace(text[covered:]) != "" {
			t.Fatalf("%q is in no chunk", text[covered:])
		}
	})
}

func TestSearchFindsByWords(t *testing.T) {
	t.Parallel()
	s := searcher(t, build(t, Options{}, shelf...), SearchOptions{})
	for query, want := range map[string]string{
		"database pooling": "sql.DB", "follow a redirect": "http.Client", "strict JSON": "json.Decoder",
		"unknown field": "json.Decoder", "handlers": "http.Server", "http.Client": "http.Client",
	} {
		hits, err := s.Search(t.Context(), query, 3)
		require.NoError(t, err)
		require.NotEmpty(t, hits, query)
		require.Equal(t, want, hits[0].Document, query)
		require.Equal(t, want+"#0", hits[0].Chunk)
		require.Equal(t, 1, hits[0].LexicalRank)
		require.Zero(t, hits[0].DenseRank)
		require.Positive(t, hits[0].Score)
	}
	for _, query := range []string{"", "zebra", "\xff.\xfe."} {
		hits, err := s.Search(t.Context(), query, 3)
		require.NoError(t, err)
		require.Empty(t, hits)
	}
	hits, err := s.Search(t.Context(), "connections", 2)
	require.NoError(t, err)
	require.Len(t, hits, 2)
}

func TestBM25AgreesWithItsFormula(t *testing.T) {
	t.Parallel()
	x := build(t, Options{}, Document{"a", "", "cat cat dog"}, Document{"b", "", "dog"}, Document{"c", "", "bird bird"})
	hits, err := searcher(t, x, SearchOptions{}).Search(t.Context(), "cat dog cat", 5)
	require.NoError(t, err)
	// By hand: 3 chunks of 2 terms on average; idf ln(1+2.5/1.5) for cat and ln(1+1.5/2.5) for dog, times 2.2 tf over
	// tf + 1.2 (0.25 + 0.75 length/2), with tf 2 and 1 and length 3 in a, tf 1 and length 1 in b.
	require.Equal(t, []string{"a", "b"}, []string{hits[0].Document, hits[1].Document})
	require.InDelta(t, 1.572561, hits[0].Score, 1e-5)
	require.InDelta(t, 0.590862, hits[1].Score, 1e-5)
}

func TestFusionAddsReciprocalRanks(t *testing.T) {
	t.Parallel()
	e := hashed{dimension: 512}
	x := build(t, Options{Embedder: e, EmbedderName: "e1"}, shelf...)
	require.Equal(t, Info{Documents: 4, Chunks: 4, Terms: x.info.Terms, Postings: x.info.Postings, Chunking: Chunking{Size: 1200},
		BM25: BM25{1.2, 0.75}, Dimension: 512, Embedder: "e1"}, x.Info())
	hits, err := searcher(t, x, SearchOptions{Embedder: e, DenseWeight: 2}).Search(t.Context(), "connections to a database", 10)
	require.NoError(t, err)
	require.Equal(t, "sql.DB", hits[0].Document)
	for _, h := range hits {
		want := 0.0
		if h.LexicalRank > 0 {
			want += 1 / (60 + float64(h.LexicalRank))
		}
		if h.DenseRank > 0 {
			want += 2 / (60 + float64(h.DenseRank))
		}
		require.InDelta(t, want, h.Score, 1e-12)
		require.Positive(t, want)
	}
	dense, err := searcher(t, x, SearchOptions{Mode: Dense, Embedder: e}).Search(t.Context(), shelf[3].Title+"\n"+shelf[3].Text, 1)
	require.NoError(t, err)
	require.Equal(t, "json.Decoder", dense[0].Document)
	require.InDelta(t, 1, dense[0].Score, 1e-5, "a text is like itself")
	require.Equal(t, shelf[3].Text, dense[0].Text)
}

func TestAHybridSearchNeverBecomesALexicalOne(t *testing.T) {
	t.Parallel()
	broken := errors.New("gone")
	x := build(t, Options{Embedder: hashed{dimension: 8}}, shelf...)
	_, err := x.Searcher(SearchOptions{})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	_, err = build(t, Options{}, shelf...).Searcher(SearchOptions{Mode: Hybrid, Embedder: hashed{dimension: 8}})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	_, err = x.Searcher(SearchOptions{Mode: "magic"})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	_, err = searcher(t, x, SearchOptions{Embedder: hashed{dimension: 8, fail: broken}}).Search(t.Context(), "json", 1)
	require.ErrorIs(t, err, broken)
	_, err = searcher(t, x, SearchOptions{Embedder: hashed{dimension: 9}}).Search(t.Context(), "json", 1)
	require.Error(t, err, "another embedder than the index was built with")
	hits, err := searcher(t, x, SearchOptions{Mode: Lexical}).Search(t.Context(), "json", 1)
	require.NoError(t, err)
	require.Equal(t, "json.Decoder", hits[0].Document)
}

func TestBuildRefusesWhatCannotBeIndexed(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk")
	for name, tc := range map[string]struct {
		docs    iter.Seq2[Document, error]
		options Options
	}{
		"nothing":          {sequence(), Options{}},
		"only white space": {sequence(shelf[4]), Options{}},
		"no ID":            {sequence(Document{Text: "x"}), Options{}},
		"ID again":         {sequence(shelf[0], shelf[0]), Options{}},
		"overlap":          {sequence(shelf...), Options{Chunking: Chunking{Size: 10, Overlap: 10}}},
		"k1":               {sequence(shelf...), Options{BM25: BM25{K1: -1}}},
		"no numbers":       {sequence(shelf...), Options{Embedder: given{{}, {}, {}, {}}}},
		"other lengths":    {sequence(shelf...), Options{Embedder: given{{1}, {1}, {1, 2}, {1}}}},
		"not finite":       {sequence(shelf...), Options{Embedder: given{{1}, {float32(math.NaN())}, {1}, {1}}}},
		"a vector too few": {sequence(shelf...), Options{Embedder: given{{1}, {1}, {1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Build(t.Context(), tc.docs, tc.options)
			require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
		})
	}
	_, err := Build(t.Context(), func(yield func(Document, error) bool) { yield(Document{}, broken) }, Options{})
	require.ErrorIs(t, err, broken)
	_, err = Build(t.Context(), sequence(shelf...), Options{Embedder: hashed{dimension: 3, fail: broken}})
	require.ErrorIs(t, err, broken)
}

func TestAnIndexComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]Embedder{"lexical": nil, "hybrid": hashed{dimension: 16}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := Options{Chunking: Chunking{Size: 30, Overlap: 5}, Embedder: e, EmbedderName: "e1"}
			first, second := written(t, build(t, options, shelf...)), written(t, build(t, options, shelf...))
			require.Equal(t, first, second, "equal documents give equal bytes")
			x := build(t, options, shelf...)
			opened, err := Open(fstest.MapFS(first))
			require.NoError(t, err)
			require.Equal(t, x, opened)
		})
	}
}

func TestOpenRefusesOneFlippedBit(t *testing.T) {
	t.Parallel()
	good := written(t, build(t, Options{Embedder: hashed{dimension: 4}}, shelf...))
	for name, file := range good {
		for at := 0; at < len(file.Data); at += 7 {
			bad := tree{}
			for n, f := range good {
				bad[n] = &fstest.MapFile{Data: slices.Clone(f.Data)}
			}
			bad[name].Data[at] ^= 1
			x, err := Open(fstest.MapFS(bad))
			if name == HeaderFile && err == nil {
				// What the header alone knows may change unseen here; the artifact's manifest guards it.
				require.NotNil(t, x)
				continue
			}
			require.Error(t, err, "%s byte %d", name, at)
		}
		bad := tree{}
		for n, f := range good {
			if n != name {
				bad[n] = f
			}
		}
		_, err := Open(fstest.MapFS(bad))
		require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
	}
}

func TestTheEmbedderIsAskedInBatches(t *testing.T) {
	t.Parallel()
	var batches []int
	var seen []string
	build(t, Options{Embedder: hashed{dimension: 4, batches: &batches}, Batch: 3, Progress: func(done, all int) {
		seen = append(seen, fmt.Sprintf("%d/%d", done, all))
	}}, shelf...)
	require.Equal(t, []int{3, 1}, batches)
	require.Equal(t, []string{"3/4", "4/4"}, seen)
}

type fixed map[string][]string

func (f fixed) SearchDocuments(_ context.Context, query string, _ int) ([]string, error) {
	if found, ok := f[query]; ok {
		return found, nil
	}
	return nil, errors.New("no answer")
}

func TestEvaluateMeasuresEachQuery(t *testing.T) {
	t.Parallel()
	search := fixed{"first": {"a", "b"}, "third": {"x", "y", "a"}, "sixth": {"1", "2", "3", "4", "5", "a"}, "never": {"x"}}
	var queries []Query
	for _, text := range []string{"first", "third", "sixth", "never"} {
		queries = append(queries, Query{ID: text, Text: text, Document: "a"})
	}
	all, scores, err := Evaluate(t.Context(), search, slices.Values(queries))
	require.NoError(t, err)
	require.Equal(t, []int{1, 3, 6, 0}, []int{all[0].Rank, all[1].Rank, all[2].Rank, all[3].Rank})
	require.Equal(t, 4, scores.Queries)
	require.InDelta(t, 0.5, scores.RecallAt5, 1e-9)
	require.InDelta(t, 0.75, scores.RecallAt10, 1e-9)
	require.InDelta(t, (1+1.0/3+1.0/6)/4, scores.MRR, 1e-9)
	require.InDelta(t, (1+0.5+0.3562071871)/4, scores.NDCGAt10, 1e-9)
	_, _, err = Evaluate(t.Context(), search, slices.Values([]Query{{ID: "q", Text: "unknown"}}))
	require.Error(t, err)
	_, _, err = Evaluate(t.Context(), search, slices.Values([]Query(nil)))
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
}

func TestDocumentsAreAsGoodAsTheirBestChunk(t *testing.T) {
	t.Parallel()
	long := Document{"long", "", strings.Repeat("connections and more connections here. ", 20)}
	s := searcher(t, build(t, Options{Chunking: Chunking{Size: 50}}, append([]Document{long}, shelf...)...), SearchOptions{})
	found, err := s.SearchDocuments(t.Context(), "connections", 3)
	require.NoError(t, err)
	require.Len(t, found, 3)
	require.Equal(t, "long", found[0])
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(found))), 3)
}
