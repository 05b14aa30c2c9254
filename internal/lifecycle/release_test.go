package lifecycle_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

func digest(of string) lifecycle.Digest { return lifecycle.DigestOf([]byte(of)) }

func release() lifecycle.Release {
	warm := 0.7
	return lifecycle.Release{
		Service: "docs", Model: digest("m1"), Index: digest("i1"), Embedder: digest("e1"),
		Prompt:      lifecycle.Prompt{System: "Say <what> you know & no more"},
		Parameters:  lifecycle.Parameters{MaxTokens: 24, Temperature: &warm, TopK: 2, Stop: []string{"\n\n"}},
		PostProcess: []lifecycle.Rule{{Kind: lifecycle.RuleTrim}},
	}
}

// The canonical form is what IDs of releases that serve today were made of: it may never change.
func TestCanonicalFormIsFixed(t *testing.T) {
	t.Parallel()
	r := lifecycle.Release{Service: "docs", Model: digest("m"), Prompt: lifecycle.Prompt{System: "a<b & c"}}
	want := `{"model":"` + string(digest("m")) + `","parameters":{},"prompt":{"system":"a<b & c"},"service":"docs"}`
	require.Equal(t, want, string(r.Canonical()))
	require.Equal(t, lifecycle.DigestOf([]byte(want)), r.ID())
}

func TestEqualBundlesAreOneRelease(t *testing.T) {
	t.Parallel()
	var again lifecycle.Release
	require.NoError(t, json.Unmarshal(release().Canonical(), &again))
	require.Equal(t, release().ID(), again.ID(), "a release that was stored and read is the same")
	seen := map[lifecycle.Digest]string{release().ID(): "unchanged"}
	for name, change := range changes() {
		r := release()
		change.do(&r)
		require.NotContains(t, seen, r.ID(), "%s makes another release", name)
		seen[r.ID()] = name
	}
}

type change struct {
	do     func(*lifecycle.Release)
	levers []lifecycle.Lever
}

func changes() map[string]change {
	cold := 0.0
	return map[string]change{
		"model":       {func(r *lifecycle.Release) { r.Model = digest("m2") }, []lifecycle.Lever{lifecycle.WeightsLever}},
		"adapter":     {func(r *lifecycle.Release) { r.Adapter = digest("a") }, []lifecycle.Lever{lifecycle.WeightsLever}},
		"system":      {func(r *lifecycle.Release) { r.Prompt.System = "" }, []lifecycle.Lever{lifecycle.PromptLever}},
		"context":     {func(r *lifecycle.Release) { r.Prompt.Context = "{{.}}" }, []lifecycle.Lever{lifecycle.PromptLever}},
		"index":       {func(r *lifecycle.Release) { r.Index = digest("i2") }, []lifecycle.Lever{lifecycle.RetrievalLever}},
		"embedder":    {func(r *lifecycle.Release) { r.Embedder = digest("e2") }, []lifecycle.Lever{lifecycle.RetrievalLever}},
		"passages":    {func(r *lifecycle.Release) { r.Parameters.TopK = 3 }, []lifecycle.Lever{lifecycle.RetrievalLever}},
		"temperature": {func(r *lifecycle.Release) { r.Parameters.Temperature = &cold }, []lifecycle.Lever{lifecycle.ParametersLever}},
		"steps": {func(r *lifecycle.Release) { r.Parameters.Diffusion = &lifecycle.Diffusion{Steps: 20} },
			[]lifecycle.Lever{lifecycle.ParametersLever}},
		"rule": {func(r *lifecycle.Release) { r.PostProcess = nil }, []lifecycle.Lever{lifecycle.ParametersLever}},
		"several": {func(r *lifecycle.Release) { r.Prompt.System, r.Index, r.Model = "x", digest("i3"), digest("m3") },
			[]lifecycle.Lever{lifecycle.PromptLever, lifecycle.RetrievalLever, lifecycle.WeightsLever}},
	}
}

func TestLeversNamesWhatChanged(t *testing.T) {
	t.Parallel()
	require.Empty(t, lifecycle.Levers(release(), release()))
	for name, c := range changes() {
		after := release()
		c.do(&after)
		require.Equal(t, c.levers, lifecycle.Levers(release(), after), name)
	}
}

func TestServedNameTellsWeightsApart(t *testing.T) {
	t.Parallel()
	a, b := release(), release()
	b.Prompt.System = "another"
	require.Equal(t, a.ServedName(), b.ServedName(), "releases that share weights share servers")
	b.Adapter = digest("a")
	require.NotEqual(t, a.ServedName(), b.ServedName())
	require.Regexp(t, `^refit-[0-9a-f]{12}$`, a.ServedName())
	require.Regexp(t, `^refit-[0-9a-f]{12}$`, b.ServedName())
}

func TestComposeRetrievesOnlyWithAnIndex(t *testing.T) {
	t.Parallel()
	service := lifecycle.Service{Name: "docs"}.WithDefaults()
	service.Release.Parameters.TopK = 2
	service.Release.Prompt.Context = "{{range .Passages}}{{.Text}}{{end}}"
	without := lifecycle.Compose(service, digest("m"), nil)
	require.NoError(t, without.Check())
	require.Zero(t, without.Parameters.TopK)
	index := lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.IndexArtifact, Digest: digest("i")},
		Labels:      map[string]string{lifecycle.EmbedderLabel: string(digest("e"))},
	}
	with := lifecycle.Compose(service, digest("m"), &index)
	require.NoError(t, with.Check())
	require.Equal(t, digest("i"), with.Index)
	require.Equal(t, digest("e"), with.Embedder)
	require.Equal(t, 2, with.Parameters.TopK)
}

func TestReleaseCheckNamesEveryFault(t *testing.T) {
	t.Parallel()
	hot := 3.0
	bad := lifecycle.Release{
		Service: "Docs", Model: "m", Adapter: "a", Index: "", Embedder: "e",
		Parameters:  lifecycle.Parameters{Temperature: &hot, TopK: 2, MaxTokens: -1, Diffusion: &lifecycle.Diffusion{}},
		PostProcess: []lifecycle.Rule{{Kind: lifecycle.RuleDenyPattern, Value: "("}, {Kind: "shout"}, {Kind: lifecycle.RuleTrim, Action: "burn"}},
	}
	err := bad.Check()
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	for _, path := range []string{
		"service", "model", "adapter", "embedder", "parameters.retrieve", "parameters.temperature", "parameters.max_tokens",
		"parameters.diffusion.steps", "post_process[0].value", "post_process[1].kind", "post_process[2].action",
	} {
		require.ErrorContains(t, err, "  "+path+": ")
	}
}

func TestManifestCheckKeepsPathsInsideTheTree(t *testing.T) {
	t.Parallel()
	file := func(path string) lifecycle.File { return lifecycle.File{Path: path, Size: 1, SHA256: digest(path)} }
	good, err := lifecycle.NewManifest(lifecycle.ModelArtifact, []lifecycle.File{file("b"), file("a/c")})
	require.NoError(t, err)
	require.Equal(t, "a/c", good.Files[0].Path, "files are sorted, so that order makes no other artifact")
	require.EqualValues(t, 2, good.Size())
	for _, path := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../b", "a//b", "./a", "a/", `a\b`, "a\x00b"} {
		_, err := lifecycle.NewManifest(lifecycle.ModelArtifact, []lifecycle.File{file(path)})
		require.Truef(t, lifecycle.Is(err, lifecycle.Invalid), "%q", path)
	}
	_, err = lifecycle.NewManifest(lifecycle.ModelArtifact, []lifecycle.File{file("a"), file("a")})
	require.ErrorContains(t, err, "once")
	_, err = lifecycle.NewManifest("music", []lifecycle.File{file("a")})
	require.ErrorContains(t, err, "kind")
	_, err = lifecycle.NewManifest(lifecycle.ModelArtifact, nil)
	require.ErrorContains(t, err, "files")
}

func TestBasisPointsPrintAsPercent(t *testing.T) {
	t.Parallel()
	for bp, want := range map[lifecycle.BasisPoints]string{0: "0%", 1: "0.01%", 10: "0.1%", 105: "1.05%", 500: "5%", 9950: "99.5%", lifecycle.Whole: "100%"} {
		require.Equal(t, want, bp.String())
	}
	rapid.Check(t, func(t *rapid.T) {
		bp := lifecycle.BasisPoints(rapid.Int32Range(0, 10_000).Draw(t, "bp"))
		var percent float64
		_, err := fmt.Sscanf(bp.String(), "%f%%", &percent)
		require.NoError(t, err)
		require.InDelta(t, bp.Fraction()*100, percent, 1e-9)
	})
}
