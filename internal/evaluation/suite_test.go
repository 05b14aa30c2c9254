package evaluation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

var words = strings.Fields("the client sends request when server gives answer back with some value inside every header field that holds plain text written once before reader closes stream after error then tries again until context ends")

func documents(n int, order func(i int) int) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for i := range n {
			k := order(i)
			var text []string
			for j := range 60 {
				text = append(text, words[hash(uint64(k), fmt.Sprint(j))%uint64(len(words))])
			}
			d := Document{ID: fmt.Sprintf("doc-%03d", k), Source: fmt.Sprintf("source-%d", k%60), Text: strings.Join(text, " ") + "."}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func queries(n int) iter.Seq2[Query, error] {
	return func(yield func(Query, error) bool) {
		for i := range n {
			if !yield(Query{ID: fmt.Sprint(i), Group: fmt.Sprint("g", i%20), Text: fmt.Sprint("what is ", i), Document: fmt.Sprint("doc-", i)}, nil) {
				return
			}
		}
	}
}

func plans(n int, order func(int) int) []Plan {
	c := func(name, kind string) lifecycle.Capability {
		return lifecycle.Capability{Name: name, Kind: kind, Items: 50, Margin: 0.05}
	}
	return []Plan{
		{Capability: c("base-bits", BitsPerByte), Documents: documents(n, order)},
		{Capability: c("words", NextToken), Documents: documents(n, order)},
		{Capability: c("gaps", Cloze), Documents: documents(n, order)},
		{Capability: c("find", Retrieval), Queries: queries(80)},
	}
}

type folder struct{ fstest.MapFS }

type file struct {
	bytes.Buffer
	close func([]byte)
}

func (f *file) Close() error { f.close(f.Bytes()); return nil }

func (m folder) Create(name string) (io.WriteCloser, error) {
	return &file{close: func(b []byte) { m.MapFS[name] = &fstest.MapFile{Data: bytes.Clone(b)} }}, nil
}

func TestASuiteIsTheSameWhateverTheOrderOfDocuments(t *testing.T) {
	t.Parallel()
	same := func(i int) int { return i }
	write := func(order func(int) int, seed uint64) folder {
		s, err := Build(seed, Window{}, plans(120, order)...)
		require.NoError(t, err)
		f := folder{fstest.MapFS{}}
		require.NoError(t, s.Write(f))
		got, err := ReadSuite(f.MapFS)
		require.NoError(t, err)
		require.Equal(t, s, got)
		return f
	}
	a, b := write(same, 1), write(func(i int) int { return 119 - i }, 1)
	require.Equal(t, a, b)
	require.NotEqual(t, a, write(same, 2), "another seed draws other cases")
}

// The digest is that of the first release of this form: built suites keep it, and with it their verdicts.
func TestABuiltSuiteKeepsItsDigest(t *testing.T) {
	t.Parallel()
	s, err := Build(1, Window{}, plans(120, func(i int) int { return i })...)
	require.NoError(t, err)
	digest, err := s.Digest()
	require.NoError(t, err)
	require.EqualValues(t, "615bbb0206f908eab12bc70b5d1a2512cc66f6d392ec3d5e557f66b0d78d163b", digest)
}

func TestCasesAskWhatTheirKindSays(t *testing.T) {
	t.Parallel()
	s, err := Build(7, Window{Bytes: 120}, plans(120, func(i int) int { return i })...)
	require.NoError(t, err)
	require.Len(t, s.Cases, 200)
	groups := map[string]bool{}
	for _, c := range s.Cases[:50] {
		groups[c.Group] = true
	}
	require.Len(t, groups, 50, "of 60 sources each gives one case before any gives a second")
	for _, c := range s.Cases {
		require.LessOrEqual(t, len(c.Text), 120)
		require.NotEmpty(t, c.Group)
		switch c.Capability {
		case "gaps":
			require.Len(t, c.Choices, 4)
			require.Contains(t, c.Choices, c.Want)
		case "words":
			require.False(t, strings.HasSuffix(c.Text, " "))
			require.Contains(t, words, c.Want)
		case "base-bits":
			require.Empty(t, c.Want)
			require.GreaterOrEqual(t, len(c.Text), minContext)
		}
	}
	_, err = Build(7, Window{}, Plan{Capability: lifecycle.Capability{Name: "x", Kind: Cloze, Margin: 1}, Documents: documents(0, nil)})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "no case at all: %v", err)
}

func TestABrokenSuiteIsNotRead(t *testing.T) {
	t.Parallel()
	s, err := Build(1, Window{}, plans(60, func(i int) int { return i })...)
	require.NoError(t, err)
	for what, spoil := range map[string]func(folder){
		"no cases":          func(f folder) { delete(f.MapFS, CasesFile) },
		"a case is missing": func(f folder) { d := f.MapFS[CasesFile]; d.Data = d.Data[bytes.IndexByte(d.Data, '\n')+1:] },
		"a case stands twice": func(f folder) {
			d := f.MapFS[CasesFile]
			d.Data = append(d.Data, d.Data[:bytes.IndexByte(d.Data, '\n')+1]...)
		},
		"an unknown field": func(f folder) {
			f.MapFS[SuiteFile].Data = bytes.Replace(f.MapFS[SuiteFile].Data, []byte(`"seed"`), []byte(`"sead"`), 1)
		},
		"another version": func(f folder) {
			f.MapFS[SuiteFile].Data = bytes.Replace(f.MapFS[SuiteFile].Data, []byte(`"version": 1`), []byte(`"version": 3`), 1)
		},
		"no margin": func(f folder) {
			f.MapFS[SuiteFile].Data = bytes.Replace(f.MapFS[SuiteFile].Data, []byte("0.05"), []byte("0"), 1)
		},
		"a cut line": func(f folder) { d := f.MapFS[CasesFile]; d.Data = d.Data[:len(d.Data)-5] },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := folder{fstest.MapFS{}}
			require.NoError(t, s.Write(f))
			spoil(f)
			_, err := ReadSuite(f.MapFS)
			require.Error(t, err)
		})
	}
}

func FuzzReadSuite(f *testing.F) {
	f.Add([]byte(`{"version":1,"seed":1,"capabilities":[{"name":"a","kind":"cloze","metric":"accuracy","margin":1,"items":1}]}`),
		[]byte(`{"id":"1","capability":"a","group":"g","text":"t","want":"w","choices":["w","v"]}`+"\n"))
	f.Fuzz(func(t *testing.T, head, cases []byte) {
		s, err := ReadSuite(fstest.MapFS{SuiteFile: {Data: head}, CasesFile: {Data: cases}})
		if err == nil && (len(s.Cases) == 0 || s.Check() != nil) {
			t.Fatal("a suite was read that does not check")
		}
	})
}

// table is a model whose tokens are words with their leading space; it knows each word's probability.
type table struct {
	likely map[string]float64
	said   string
	err    error
	from   int // tokens that it does not score
}

func (m table) Complete(context.Context, string, int) (string, error) { return m.said, m.err }

func (m table) Score(_ context.Context, text string) ([]float64, []int, error) {
	var logprobs []float64
	var offsets []int
	at := 0
	for i, word := range strings.SplitAfter(text, " ") {
		if i > m.from {
			p := m.likely[strings.TrimSpace(word)]
			if p == 0 {
				p = 0.25
			}
			logprobs, offsets = append(logprobs, math.Log(p)), append(offsets, at-1)
		}
		at += len(word)
	}
	return logprobs, offsets, m.err
}

type index []string

func (x index) SearchDocuments(context.Context, string, int) ([]string, error) { return x, nil }

func TestScoresOfCases(t *testing.T) {
	t.Parallel()
	cloze := Case{ID: "c", Capability: "x", Text: "a b", Want: "right", Choices: []string{"left", "right", "up"}}
	for what, tc := range map[string]struct {
		kind  string
		c     Case
		model table
		index Searcher
		want  Answer
		fails bool
	}{
		"bits: two tokens of a quarter are four bits": {kind: BitsPerByte, c: Case{ID: "c", Text: "a bcd efg"}, want: Answer{Case: "c", Score: -0.5, Bits: 4, Bytes: 8}},
		"bits of a text that was cut":                 {kind: BitsPerByte, c: Case{ID: "c", Text: strings.Repeat("word ", 20)}, model: table{from: 10}, fails: true},
		"bits without any score":                      {kind: BitsPerByte, c: Case{ID: "c", Text: "word"}, fails: true},
		"bits of what is no number":                   {kind: BitsPerByte, c: Case{ID: "c", Text: "a b"}, model: table{likely: map[string]float64{"b": math.NaN()}}, fails: true},
		"the next word":                               {kind: NextToken, c: Case{ID: "c", Text: "a", Want: "bc"}, model: table{said: " bc. De"}, want: Answer{Case: "c", Score: 1, Said: "bc"}},
		"another word":                                {kind: NextToken, c: Case{ID: "c", Text: "a", Want: "bc"}, model: table{said: " b"}, want: Answer{Case: "c", Said: "b"}},
		"no word":                                     {kind: NextToken, c: Case{ID: "c", Text: "a", Want: "bc"}, want: Answer{Case: "c"}},
		"an answer that failed":                       {kind: NextToken, c: Case{ID: "c", Want: "bc"}, model: table{err: io.ErrUnexpectedEOF}, fails: true},
		"the likeliest is right":                      {kind: Cloze, c: cloze, model: table{likely: map[string]float64{"right": 0.5}}, want: Answer{Case: "c", Capability: "x", Score: 1, Said: "right"}},
		"the likeliest is wrong":                      {kind: Cloze, c: cloze, model: table{likely: map[string]float64{"up": 0.5}}, want: Answer{Case: "c", Capability: "x", Said: "up"}},
		"found":                                       {kind: Retrieval, c: Case{ID: "c", Want: "d"}, index: index{"a", "d"}, want: Answer{Case: "c", Score: 1, Rank: 2}},
		"found too far down":                          {kind: Retrieval, c: Case{ID: "c", Want: "d"}, index: index{"1", "2", "3", "4", "5", "d"}, want: Answer{Case: "c", Rank: 6}},
		"not found":                                   {kind: Retrieval, c: Case{ID: "c", Want: "d"}, index: index{}, want: Answer{Case: "c"}},
		"no index":                                    {kind: Retrieval, c: Case{ID: "c", Want: "d"}, fails: true},
		"an unknown kind":                             {kind: "vibes", c: Case{ID: "c"}, fails: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			got, err := Ask(t.Context(), tc.kind, tc.c, tc.model, tc.index)
			if tc.fails {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.InDelta(t, tc.want.Score, got.Score, 1e-12)
			require.InDelta(t, tc.want.Bits, got.Bits, 1e-9)
			got.Score, got.Bits = tc.want.Score, tc.want.Bits
			require.Equal(t, tc.want, got)
		})
	}
}

func TestAnswersAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	a := Answers{Suite: lifecycle.DigestOf([]byte("s")), Release: lifecycle.DigestOf([]byte("r")), List: []Answer{{Case: "a", Capability: "c", Score: -1.5, Bits: 3}, {Case: "b", Said: "<x>\n"}}}
	var out bytes.Buffer
	require.NoError(t, a.Write(&out))
	raw := out.String()
	got, err := ReadAnswers(strings.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, a, got)
	for _, broken := range []string{"", "{}", raw + "x\n", raw[:len(raw)-4], strings.Replace(raw, `"case"`, `"cast"`, 1)} {
		_, err := ReadAnswers(strings.NewReader(broken))
		require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%q: %v", broken, err)
	}
}
