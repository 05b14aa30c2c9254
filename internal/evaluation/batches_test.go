package evaluation

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// sampled is a suite of cases, of which those of one capability are asked several times.
func sampled(cases, samples int) Suite {
	s := Suite{Version: SuiteVersion, Capabilities: []Capability{
		{Name: "once"}, {Name: "often", Sampling: &Sampling{Samples: samples}},
	}}
	for i := range cases {
		s.Cases = append(s.Cases, Case{ID: fmt.Sprint("case-", i), Capability: s.Capabilities[i%2].Name})
	}
	return s
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
		spans := s.Spans(least, most)
		require.LessOrEqual(t, len(spans), most)
		next := 0
		for i, span := range spans {
			require.Equal(t, next, span.From)
			next = span.To
			part, err := s.Within(span)
			require.NoError(t, err)
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
		n, err := s.Join(&joined, Answers{Suite: "s", Release: "r"}, spans, func(at int) (Answers, error) {
			part, err := s.Within(spans[at])
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
	spans := sampled(1_000_000, 1).Spans(100, 200)
	require.Len(t, spans, 200)
	require.Equal(t, Span{0, 5000}, spans[0])
	require.Len(t, sampled(80, 1).Spans(100, 200), 1)
}

func TestJoinNoticesWhatIsNotThereOnce(t *testing.T) {
	t.Parallel()
	s := sampled(40, 3)
	spans := s.Spans(20, 100)
	require.Greater(t, len(spans), 2)
	good := func(at int) Answers {
		part, err := s.Within(spans[at])
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
			_, err := s.Join(&bytes.Buffer{}, Answers{Suite: "s", Release: "r"}, asked, func(at int) (Answers, error) {
				a := good(max(0, slices.Index(spans, asked[at])))
				if tc.part != nil {
					a = tc.part(at, a)
				}
				return a, nil
			})
			require.Error(t, err)
		})
	}
	_, err := s.Join(&bytes.Buffer{}, Answers{}, spans, func(int) (Answers, error) {
		return Answers{}, lifecycle.Errorf(lifecycle.Unavailable, "away")
	})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
}
