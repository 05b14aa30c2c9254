package evaluation

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// filed writes a gate into files.
func filed(t *testing.T, g Gate) Files {
	t.Helper()
	tree := folder{fstest.MapFS{}}
	require.NoError(t, g.Suite.Write(tree))
	open := func(a Answers) func() (io.ReadCloser, error) {
		var out bytes.Buffer
		require.NoError(t, a.Write(&out))
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }
	}
	f := Files{Gate: g, Tree: tree.MapFS, Candidate: open(g.CandidateAnswer)}
	if g.Baseline != "" {
		f.Baseline = open(g.BaselineAnswer)
	}
	f.Suite, f.CandidateAnswer, f.BaselineAnswer = Suite{}, Answers{}, Answers{}
	return f
}

// Files are judged as they stream, and with the same words as in memory; what is out of order is not taken.
func TestFilesAreJudgedAsTheyStream(t *testing.T) {
	t.Parallel()
	for _, s := range scenes() {
		if len(s.trials) > 1 && s.name != "all sorts, eight" {
			continue
		}
		g := draw(rand.New(rand.NewPCG(41, 42)), s.trials...)
		g.Suite.Version = SuiteVersion
		for i := range g.Suite.Cases {
			g.Suite.Cases[i].Weight = 1 + i%2
		}
		if s.exact {
			g.Policy.Exact = []string{"c0"}
		}
		want, wantReport := Judge(g)
		f := filed(t, g)
		_, err := f.sums()
		require.NoError(t, err, "they stream")
		got, report, err := JudgeFiles(f)
		require.NoError(t, err)
		require.Equal(t, want, got)
		a, err := wantReport.JSON()
		require.NoError(t, err)
		b, err := report.JSON()
		require.NoError(t, err)
		require.JSONEq(t, string(a), string(b))
	}
}

func TestFilesOutOfOrderAreReadWhole(t *testing.T) {
	t.Parallel()
	tr := trial{kind: Cloze, items: 4200, perGroup: 5, samples: 2, baseline: 0.6, flips: 0.1, margin: 0.05}
	for what, tc := range map[string]struct {
		spoil   func(*Gate)
		outcome lifecycle.Outcome
	}{
		"as it should be": {func(*Gate) {}, lifecycle.PassOutcome},
		"a first release": {func(g *Gate) { g.Baseline = "" }, lifecycle.PassOutcome},
		"another order": {func(g *Gate) {
			g.CandidateAnswer.List = slices.Clone(g.CandidateAnswer.List)
			slices.Reverse(g.CandidateAnswer.List)
		}, lifecycle.PassOutcome},
		"a missing sample":                   {func(g *Gate) { g.CandidateAnswer.List = g.CandidateAnswer.List[1:] }, lifecycle.ErrorOutcome},
		"one answer too many":                {func(g *Gate) { g.BaselineAnswer.List = append(g.BaselineAnswer.List, Answer{Case: "x"}) }, lifecycle.ErrorOutcome},
		"another suite":                      {func(g *Gate) { g.CandidateAnswer.Suite = newRelease }, lifecycle.ErrorOutcome},
		"another release":                    {func(g *Gate) { g.CandidateAnswer.Release = oldRelease }, lifecycle.ErrorOutcome},
		"half right":                         {func(g *Gate) { g.CandidateAnswer.List[9].Score = 0.5 }, lifecycle.ErrorOutcome},
		"another capability":                 {func(g *Gate) { g.CandidateAnswer.List[9].Capability = "c1" }, lifecycle.ErrorOutcome},
		"exact limits for what is not there": {func(g *Gate) { g.Policy.Exact = []string{"c7"} }, lifecycle.ErrorOutcome},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := draw(rand.New(rand.NewPCG(43, 44)), tr)
			g.Suite.Version = SuiteVersion
			tc.spoil(&g)
			want, _ := Judge(g)
			got, _, err := JudgeFiles(filed(t, g))
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, tc.outcome, got.Outcome)
		})
	}
	g := draw(rand.New(rand.NewPCG(43, 44)), tr)
	g.Suite.Version = SuiteVersion
	for i := 4190; i < 4200; i++ { // the last two groups are for variants to be tried against
		g.Suite.Cases[i].Split, g.Suite.Cases[i].Text = SearchSplit, "what variants are asked"
	}
	v, _, err := JudgeFiles(filed(t, g))
	require.NoError(t, err)
	require.Equal(t, lifecycle.ErrorOutcome, v.Outcome, "they must not be answered")
	g.CandidateAnswer.List, g.BaselineAnswer.List = g.CandidateAnswer.List[:8380], g.BaselineAnswer.List[:8380]
	_, err = filed(t, g).sums()
	require.NoError(t, err, "they are passed over")
	v, _, err = JudgeFiles(filed(t, g))
	require.NoError(t, err)
	require.Equal(t, lifecycle.PassOutcome, v.Outcome)
	require.Equal(t, 4190, v.Capabilities[0].Items)

	f := filed(t, g)
	cases := f.Tree.(fstest.MapFS)[CasesFile]
	cases.Data = append(cases.Data, cases.Data[:bytes.IndexByte(cases.Data, '\n')+1]...) // a case twice, far apart
	_, _, err = JudgeFiles(f)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	f.Candidate = func() (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }
	_, _, err = JudgeFiles(f)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "an unreadable file is no verdict")
}
