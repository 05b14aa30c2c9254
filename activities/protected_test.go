package activities_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
)

// What a gate asks, with which margins and against whom, comes from the applied declaration and the route. Nothing that
// a candidate is made of moves it.
func TestSuiteAndBaselineComeFromTheAppliedVersion(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	plan := g.plan(t, g.first, g.second)
	margins := func(suite lifecycle.Digest) map[string]float64 {
		dir, err := g.Cache.Dir(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.SuiteArtifact, Digest: suite})
		require.NoError(t, err)
		s, err := evaluation.ReadSuite(os.DirFS(dir))
		require.NoError(t, err)
		out := map[string]float64{}
		for _, c := range s.Capabilities {
			out[c.Name] = c.Margin
		}
		return out
	}
	require.Equal(t, map[string]float64{"text": 0.1, "words": 0.3, "found": 0.3}, margins(plan.Suite))

	// A candidate with other weights, another index or none, and a file in its model that calls itself a suite.
	bare := g.release(t, "third", "")
	disguised := g.put(t, "docs", lifecycle.ModelArtifact, nil, map[string]string{
		"weights": "w", evaluation.SuiteFile: `{"version":1,"capabilities":[]}`, evaluation.CasesFile: "",
	})
	id, err := g.Registry.AddRelease(t.Context(), lifecycle.Release{Service: "docs", Model: disguised}, by)
	require.NoError(t, err)
	for _, candidate := range []lifecycle.Digest{g.second, bare, id} {
		require.Equal(t, plan.Suite, g.plan(t, candidate, g.first).Suite)
		require.Empty(t, g.plan(t, candidate, "").Baseline, "the route says that nothing serves yet; the candidate says nothing")
	}

	// A version that is not applied changes nothing; one that is, does.
	service, err := g.Registry.Service(t.Context(), "docs")
	require.NoError(t, err)
	service.Evaluation.Capabilities[0].Margin = 5
	require.Equal(t, plan.Suite, g.plan(t, g.first, g.second).Suite)
	g.apply(t, service)
	after := g.plan(t, g.first, g.second)
	require.NotEqual(t, plan.Suite, after.Suite)
	require.InDelta(t, 5, margins(after.Suite)["text"], 0)
	require.Nil(t, after.Verdict, "another suite is another question")
}
