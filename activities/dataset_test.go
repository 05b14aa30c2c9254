package activities_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

var animals = []string{
	"otter", "heron", "badger", "lynx", "raven", "viper", "mole", "trout", "falcon", "beetle",
	"marten", "stork", "weasel", "ibex", "magpie", "adder", "shrew", "perch", "kestrel", "hornet",
}

var places = []string{"river", "marsh", "forest", "ridge", "harbour", "meadow", "cellar", "lake", "cliff", "orchard"}

// writeHandbook makes a folder of n documents that differ in every sentence.
func writeHandbook(t *testing.T, dir string, n int) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for i := range n {
		animal, place := animals[i%len(animals)], places[i/len(animals)%len(places)]
		other, next := animals[(i*7+3)%len(animals)], places[(i*3+1)%len(places)]
		text := fmt.Sprintf("The %[1]s number %[2]d meets the %[4]s beside the old %[3]s. It leaves its den when the %[4]s calls twice. "+
			"Nobody at the %[5]s has counted more than %[6]d of them. Beside the old %[3]s the %[4]s meets number %[2]d again, "+
			"and the %[1]s hides from the %[7]s.\n", animal, i, place, other, next, 300+i, animals[(i*11+5)%len(animals)])
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d-%s.txt", i, animal)), []byte(text), 0o644))
	}
}

func folderCorpus(path string) lifecycle.Corpus {
	return lifecycle.Corpus{
		Sources:      []lifecycle.Source{{Kind: "folder", Path: path}},
		MinDocuments: 1, MaxDropped: 0.5, HeldOut: 0.3,
	}
}

func checkInput(corpusName, path string) steps.CheckCorpusInput {
	return steps.CheckCorpusInput{Service: "docs", Corpus: corpusName, Policy: folderCorpus(path), By: by}
}

func TestACorpusBecomesOneDataset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	root := t.TempDir()
	writeHandbook(t, filepath.Join(root, "handbook"), 120)
	datasets := activities.Datasets{Shelf: w.Shelf, Roots: []string{root}}
	in := checkInput("base", filepath.Join(root, "handbook"))

	first, err := do(t, steps.CheckCorpus, datasets.CheckCorpus, in)
	require.NoError(t, err)
	again, err := do(t, steps.CheckCorpus, datasets.CheckCorpus, in)
	require.NoError(t, err)
	require.Equal(t, first, again, "a step that runs again makes the same dataset")
	require.Equal(t, 120, first.Documents+first.Dropped)
	require.Greater(t, first.HeldOut, 15)

	recorded, err := w.Registry.LatestArtifact(t.Context(), "docs", lifecycle.DatasetArtifact, map[string]string{"corpus": "base"})
	require.NoError(t, err)
	require.Equal(t, first.Dataset, recorded.Digest)
	require.Equal(t, fmt.Sprint(first.HeldOut), recorded.Labels["held_out"])

	dir, err := w.Cache.Dir(t.Context(), recorded.ArtifactRef)
	require.NoError(t, err)
	card, err := corpus.ReadCard(os.DirFS(dir))
	require.NoError(t, err)
	require.Equal(t, first.HeldOut, card.HeldOut)
	heldOut := 0
	for doc, err := range corpus.Read(os.DirFS(dir), corpus.HeldOutSplit) {
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(doc.ID, "handbook/"), "IDs do not tell where the root lies: %s", doc.ID)
		heldOut++
	}
	require.Equal(t, first.HeldOut, heldOut)
	pairs, err := os.ReadFile(filepath.Join(dir, "pairs.jsonl"))
	require.NoError(t, err)
	require.Equal(t, heldOut, strings.Count(string(pairs), "\n"), "every held-out document is asked for")

	in.Corpus = "fresh"
	other, err := do(t, steps.CheckCorpus, datasets.CheckCorpus, in)
	require.NoError(t, err)
	require.NotEqual(t, first.Dataset, other.Dataset, "another corpus is another dataset, also with the same text")
}

func TestARefusedCorpusLeavesItsDataCard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	root := t.TempDir()
	writeHandbook(t, root, 5)
	datasets := activities.Datasets{Shelf: w.Shelf, Roots: []string{root}}
	in := checkInput("base", root)
	in.Policy.MinDocuments = 50

	_, err := do(t, steps.CheckCorpus, datasets.CheckCorpus, in)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	require.ErrorContains(t, err, "at least 50 are asked for")
	var refused *lifecycle.Error
	require.ErrorAs(t, err, &refused)
	raw, err := w.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{
		Kind: lifecycle.ReportArtifact, Digest: lifecycle.Digest(refused.Fields["report"]),
	}, corpus.CardFile, 1<<20)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"verdict": "refused"`)
	_, err = w.Registry.LatestArtifact(t.Context(), "docs", lifecycle.DatasetArtifact, nil)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "what is refused is no dataset")
}

func TestSourcesThatAreNotThere(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	writeHandbook(t, outside, 3)
	require.NoError(t, os.Symlink(outside, filepath.Join(root, "link")))
	datasets := activities.Datasets{Roots: []string{root}, GoRoot: filepath.Join(root, "nowhere"), ModuleCache: root}
	for name, tc := range map[string]struct {
		source lifecycle.Source
		want   lifecycle.Kind
	}{
		"a folder outside of the roots": {lifecycle.Source{Kind: "folder", Path: outside}, lifecycle.Refused},
		"a folder that is not there":    {lifecycle.Source{Kind: "folder", Path: filepath.Join(root, "missing")}, lifecycle.Invalid},
		"a link out of the root":        {lifecycle.Source{Kind: "folder", Path: filepath.Join(root, "link")}, lifecycle.Invalid},
		"a Go that is not there":        {lifecycle.Source{Kind: "go-std"}, lifecycle.Invalid},
		"a module that is not there":    {lifecycle.Source{Kind: "go-modules", Modules: []string{"example.com/m"}}, lifecycle.Invalid},
		"an unknown kind":               {lifecycle.Source{Kind: "web"}, lifecycle.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := checkInput("base", root)
			in.Policy.Sources = []lifecycle.Source{tc.source}
			_, err := do(t, steps.CheckCorpus, datasets.CheckCorpus, in)
			require.Equal(t, tc.want, lifecycle.KindOf(err), "%v", err)
		})
	}
}

func TestAWorkerThatStopsLeavesACorpusToTheNextTry(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeHandbook(t, root, 3)
	datasets := activities.Datasets{Roots: []string{root}}
	stopping := newTry()
	close(stopping.stop)
	_, err := on(stopping, steps.CheckCorpus, datasets.CheckCorpus, checkInput("base", root))
	require.True(t, lifecycle.KindOf(err).Retryable(), "%v", err)
}
