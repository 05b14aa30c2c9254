package evaluation

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// sampled is a suite of cases, of which those of one capability are asked several times.
func sampled(cases, samples int) Suite {
	exact := Capability{Kind: Generate, Metric: "exact", Margin: 0.1, Scorer: &score.Spec{Name: "exact"}}
	once, often := exact, exact
	once.Name, once.Items = "once", (cases+1)/2
	often.Name, often.Items, often.Sampling = "often", cases/2, &Sampling{Samples: samples}
	s := Suite{Version: SuiteVersion, Capabilities: []Capability{once, often}}
	if cases == 1 {
		s.Capabilities = s.Capabilities[:1]
	}
	for i := range cases {
		id := fmt.Sprint("case-", i)
		s.Cases = append(s.Cases, Case{ID: id, Capability: s.Capabilities[i%2].Name, Group: id, Text: id, Want: "w"})
	}
	return s
}

// spansOf writes a suite into files, with cases between them that gates do not ask.
func spansOf(t require.TestingT, s Suite) SpanFiles {
	mixed := s
	mixed.Capabilities, mixed.Cases = slices.Clone(s.Capabilities), nil
	for i, c := range s.Cases {
		mixed.Cases = append(mixed.Cases, c)
		if i%3 == 0 {
			c.ID, c.Text, c.Split = c.ID+" tried", c.Text+" tried", SearchSplit
			c.Group = c.ID
			mixed.Cases = append(mixed.Cases, c)
			mixed.Capabilities[slices.IndexFunc(mixed.Capabilities, func(k Capability) bool { return k.Name == c.Capability })].Items++
		}
	}
	tree := folder{fstest.MapFS{}}
	require.NoError(t, mixed.Write(tree))
	return SpanFiles{tree.MapFS}
}

// answered gives an answer to every question of a suite.
func answered(s Suite) (list []Answer) {
	for _, q := range s.questions() {
		list = append(list, Answer{Case: s.Cases[q.at].ID, Sample: q.sample, Score: float64(len(list))})
	}
	return list
}

func TestSpansAreTheWholeSuiteOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := sampled(rapid.IntRange(1, 300).Draw(t, "cases"), rapid.IntRange(1, 20).Draw(t, "samples"))
		least, most := rapid.IntRange(1, 100).Draw(t, "least"), rapid.IntRange(1, 50).Draw(t, "most")
		files := spansOf(t, s)
		spans, questions, err := files.Cut(least, most)
		require.NoError(t, err)
		require.Equal(t, s.Questions(), questions)
		require.LessOrEqual(t, len(spans), most)
		next := 0
		for i, span := range spans {
			require.Equal(t, next, span.From)
			next = span.To
			part, err := files.Read(span)
			require.NoError(t, err)
			require.Equal(t, s.Cases[span.From:span.To], part.Cases)
			span.At = 0
			walked, err := files.Read(span)
			require.NoError(t, err)
			require.Equal(t, part.Cases, walked.Cases, "also where nobody knows where it lies")
			if i < len(spans)-1 {
				require.GreaterOrEqual(t, part.Questions(), least)
			}
		}
		require.Equal(t, len(s.Cases), next)

		// Joined, the answers of the spans are those of the suite.
		var whole, joined bytes.Buffer
		as := Answers{Suite: "s", Release: "r", List: answered(s)}
		require.NoError(t, as.Write(&whole))
		taken := 0
		n, err := files.Join(&joined, Answers{Suite: "s", Release: "r"}, spans, func(at int) (Answers, error) {
			part, err := files.Read(spans[at])
			from := taken
			taken += part.Questions()
			return Answers{Suite: "s", Release: "r", List: as.List[from:taken]}, err
		})
		require.NoError(t, err)
		require.Equal(t, len(as.List), n)
		require.Equal(t, whole.String(), joined.String())
	})
}

func TestAMillionCasesAreFewSpans(t *testing.T) {
	t.Parallel()
	spans := cutSpans(slices.Repeat([]int{1}, 1_000_000), 100, 200)
	require.Len(t, spans, 200)
	require.Equal(t, Span{From: 0, To: 5000}, spans[0])
	require.Len(t, cutSpans(slices.Repeat([]int{1}, 80), 100, 200), 1)
}

func TestJoinNoticesWhatIsNotThereOnce(t *testing.T) {
	t.Parallel()
	s := sampled(40, 3)
	files := spansOf(t, s)
	spans, _, err := files.Cut(20, 100)
	require.NoError(t, err)
	require.Greater(t, len(spans), 2)
	good := func(at int) Answers {
		part, err := files.Read(spans[at])
		require.NoError(t, err)
		return Answers{Suite: "s", Release: "r", List: answered(part)}
	}
	type change struct {
		spans func([]Span) []Span
		part  func(at int, a Answers) Answers
	}
	for name, tc := range map[string]change{
		"an answer lacks": {part: func(at int, a Answers) Answers {
			if at == 1 {
				a.List = a.List[:len(a.List)-1]
			}
			return a
		}},
		"an answer is there twice": {part: func(at int, a Answers) Answers {
			if at == 1 {
				a.List = append(a.List, a.List[0])
			}
			return a
		}},
		"one stands in place of another": {part: func(_ int, a Answers) Answers {
			a.List[0] = a.List[1]
			return a
		}},
		"two changed places": {part: func(_ int, a Answers) Answers {
			a.List[0], a.List[1] = a.List[1], a.List[0]
			return a
		}},
		"of another release": {part: func(_ int, a Answers) Answers { a.Release = "other"; return a }},
		"of another suite":   {part: func(_ int, a Answers) Answers { a.Suite = "other"; return a }},
		"a span lacks":       {spans: func(s []Span) []Span { return s[1:] }},
		"the last one lacks": {spans: func(s []Span) []Span { return s[:len(s)-1] }},
		"a span comes twice": {spans: func(s []Span) []Span { return slices.Insert(slices.Clone(s), 1, s[0]) }},
		"spans overlap":      {spans: func(s []Span) []Span { s = slices.Clone(s); s[1].From--; return s }},
		"a span is too long": {spans: func(s []Span) []Span { s = slices.Clone(s); s[len(s)-1].To++; return s }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := spans
			if tc.spans != nil {
				asked = tc.spans(spans)
			}
			_, err := files.Join(&bytes.Buffer{}, Answers{Suite: "s", Release: "r"}, asked, func(at int) (Answers, error) {
				a := good(max(0, slices.Index(spans, asked[at])))
				if tc.part != nil {
					a = tc.part(at, a)
				}
				return a, nil
			})
			require.Error(t, err)
		})
	}
	_, err = files.Join(&bytes.Buffer{}, Answers{}, spans, func(int) (Answers, error) {
		return Answers{}, lifecycle.Errorf(lifecycle.Unavailable, "away")
	})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
}

func TestARunThatTheSuiteDoesNotHaveIsRefused(t *testing.T) {
	t.Parallel()
	files := spansOf(t, sampled(40, 1))
	for _, span := range []Span{{-1, 5, 0}, {5, 5, 0}, {30, 41, 0}, {50, 60, 0}, {0, 5, 1 << 20}} {
		_, err := files.Read(span)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v: %v", span, err)
	}
	tree := files.Tree.(fstest.MapFS)
	for what, line := range map[string]string{"no case": "{", "no capability": `{"id":"x","capability":"y"}`} {
		spoilt := SpanFiles{fstest.MapFS{SuiteFile: tree[SuiteFile], CasesFile: &fstest.MapFile{Data: append([]byte(line+"\n"), tree[CasesFile].Data...)}}}
		_, err := spoilt.Read(Span{To: 5})
		require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%s: %v", what, err)
		_, _, err = spoilt.Cut(1, 1)
		require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%s: %v", what, err)
	}
	faulty := SpanFiles{fstest.MapFS{SuiteFile: tree[SuiteFile], CasesFile: &fstest.MapFile{Data: bytes.ReplaceAll(tree[CasesFile].Data, []byte(`"text":"case-7"`), []byte(`"text":""`))}}}
	_, err := faulty.Read(Span{From: 5, To: 10})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	_, err = SpanFiles{fstest.MapFS{}}.Read(Span{To: 5})
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%v", err)
}
