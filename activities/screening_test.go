package activities_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// Questions of suites, and what training data make of them.
const (
	otterQuestion  = "Which animal crossed the frozen harbour twice before sunrise and carried a copper lantern home to the lighthouse keeper?"
	heronQuestion  = "How many silver bells did the heron count on the market square before the old clock struck eleven in the evening?"
	searchQuestion = "Who painted the seven doors of the northern granary blue during the long winter when no carts could pass the bridge?"
)

// suiteOf stores a suite of questions, by case.
func (w *world) suiteOf(t *testing.T, name string, questions map[string]string) lifecycle.Digest {
	t.Helper()
	s := evaluation.Suite{Version: evaluation.SuiteVersion, Name: name, Capabilities: []evaluation.Capability{
		{Name: "facts", Kind: evaluation.NextToken, Metric: "accuracy", Margin: 0.1, Items: len(questions)},
	}}
	for id, text := range questions {
		c := evaluation.Case{ID: id, Capability: "facts", Group: id, Text: text, Want: "yes"}
		if strings.HasPrefix(id, "search") {
			c.Split = evaluation.SearchSplit
		}
		s.Cases = append(s.Cases, c)
	}
	slices.SortFunc(s.Cases, func(a, b evaluation.Case) int { return strings.Compare(a.ID, b.ID) })
	files := memory{}
	require.NoError(t, s.Write(files))
	texts := map[string]string{}
	for file, content := range files {
		texts[file] = content.String()
	}
	return w.put(t, "docs", lifecycle.SuiteArtifact, nil, texts)
}

// memory is files that a room writes.
type memory map[string]*memoryFile

type memoryFile struct{ bytes.Buffer }

func (*memoryFile) Close() error { return nil }

func (m memory) Create(file string) (io.WriteCloser, error) {
	m[file] = &memoryFile{}
	return m[file], nil
}

// corpusWith makes a dataset of a handbook and of further documents by file name. Little is held out.
func (w *world) corpusWith(t *testing.T, name string, documents map[string]string) steps.BuildDatasetResult {
	t.Helper()
	root := t.TempDir()
	writeHandbook(t, filepath.Join(root, name), 60)
	for file, text := range documents {
		require.NoError(t, os.WriteFile(filepath.Join(root, name, file), []byte(text), 0o644))
	}
	in := checkInput(name, filepath.Join(root, name))
	in.Policy.HeldOut = 0.02
	out, err := do(t, steps.CheckCorpus, activities.Datasets{Shelf: w.Shelf, Roots: []string{root}}.CheckCorpus, in)
	require.NoError(t, err)
	return out
}

func (w *world) documents(t *testing.T, dataset lifecycle.Digest, split string) (ids []string) {
	t.Helper()
	dir, err := w.Cache.Dir(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: dataset})
	require.NoError(t, err)
	for doc, err := range corpus.Read(os.DirFS(dir), split) {
		require.NoError(t, err)
		ids = append(ids, doc.ID)
	}
	return ids
}

func (w *world) hits(t *testing.T, report lifecycle.Digest) (hits []corpus.Hit) {
	t.Helper()
	raw, err := w.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: report}, "hits.jsonl", 16<<20)
	require.NoError(t, err)
	for line := range bytes.Lines(raw) {
		var hit corpus.Hit
		require.NoError(t, json.Unmarshal(line, &hit))
		hits = append(hits, hit)
	}
	return hits
}

func screenInput(datasets map[string]lifecycle.Digest) steps.ScreenInput {
	return steps.ScreenInput{Service: "docs", Job: "continue", Datasets: datasets, Learned: []string{"replay"}, By: by}
}

// prose makes a document about something else of a planted text.
func around(text string) string {
	return "The handbook of the valley has a chapter that nobody has read for years, and it begins like this. " + text +
		"\n\nAfter that it goes on about fences, gates and the price of salt in the towns along the river."
}

func TestTrainingDataAreHeldAgainstEverySuite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	older := w.suiteOf(t, "older", map[string]string{"otter": otterQuestion, "heron": heronQuestion})
	newer := w.suiteOf(t, "newer", map[string]string{"heron": heronQuestion, "search-doors": searchQuestion, "short": "How many bells?"})
	words := strings.Fields(searchQuestion)
	fresh := w.corpusWith(t, "fresh", map[string]string{
		"planted-1.txt": around(strings.ToUpper(otterQuestion)),
		"planted-2.txt": around(strings.ReplaceAll(heronQuestion, " ", " -- ")),
		"planted-3.txt": around(strings.Join(words[:14], " ")),
		"planted-4.txt": around("A granary stands in the north. Its doors are blue, and nobody knows who painted them."),
	})
	base := w.corpusWith(t, "base", map[string]string{"planted-5.txt": around(otterQuestion)})
	datasets := activities.Datasets{Shelf: w.Shelf}
	in := screenInput(map[string]lifecycle.Digest{"dataset": fresh.Dataset, "replay": base.Dataset})

	out, err := do(t, steps.ScreenData, datasets.Screen, in)
	require.NoError(t, err)
	require.Equal(t, steps.Screened{
		Job: "continue", Report: out.Screened.Report, Cases: 4, Documents: len(w.documents(t, fresh.Dataset, "train")) + len(w.documents(t, base.Dataset, "train")),
		Hits: 4, Removed: 4, Learned: 1,
	}, out.Screened)
	found := map[string][3]string{}
	for _, hit := range w.hits(t, out.Screened.Report) {
		found[filepath.Base(hit.Document)] = [3]string{string(hit.Suite), hit.Case, hit.How}
		require.NotEmpty(t, hit.Words)
	}
	for file, want := range map[string][3]string{
		"planted-1.txt": {string(older), "otter", "n-gram"}, "planted-2.txt": {string(newer), "heron", "n-gram"},
		"planted-3.txt": {string(newer), "search-doors", "n-gram"}, "planted-5.txt": {string(older), "otter", "n-gram"},
	} {
		require.Equal(t, want, found[file], "%s: %v", file, found)
	}
	require.Len(t, found, 4)

	clean := out.Datasets["dataset"]
	require.NotEqual(t, fresh.Dataset, clean)
	before, after := w.documents(t, fresh.Dataset, "train"), w.documents(t, clean, "train")
	require.Len(t, after, len(before)-3)
	for _, id := range after {
		require.Contains(t, before, id)
		require.Empty(t, found[filepath.Base(id)])
	}
	require.Equal(t, w.documents(t, fresh.Dataset, "heldout"), w.documents(t, clean, "heldout"))
	recorded, err := w.Registry.Artifact(t.Context(), clean)
	require.NoError(t, err)
	require.Equal(t, []lifecycle.Digest{fresh.Dataset, out.Screened.Report}, recorded.Parents)
	require.Equal(t, map[string]string{"cleaned_of": string(fresh.Dataset), "contamination": string(out.Screened.Report), "removed": "3"}, recorded.Labels)
	newest, err := w.Registry.LatestArtifact(t.Context(), "docs", lifecycle.DatasetArtifact, map[string]string{"corpus": "fresh"})
	require.NoError(t, err)
	require.Equal(t, fresh.Dataset, newest.Digest, "suites are drawn from what the corpus gave")

	again, err := do(t, steps.ScreenData, datasets.Screen, in)
	require.NoError(t, err)
	require.Equal(t, out, again, "a step that runs again finds the same")
	cleanOnes, err := do(t, steps.ScreenData, datasets.Screen, screenInput(out.Datasets))
	require.NoError(t, err)
	require.Zero(t, cleanOnes.Screened.Hits)
	require.Equal(t, out.Datasets, cleanOnes.Datasets, "what holds no case is trained on as it is, bit for bit")
	w.inLedger(t, lifecycle.DataScreened, string(out.Screened.Report), `"removed": 4`)
}

// inLedger finds an entry whose evidence says something.
func (w *world) inLedger(t *testing.T, kind lifecycle.LedgerKind, subject, says string) {
	t.Helper()
	entries, err := w.Registry.Ledger(t.Context(), registry.LedgerQuery{Service: "docs", Limit: 1000})
	require.NoError(t, err)
	for _, e := range entries {
		if e.Kind == kind && e.Subject == subject {
			require.Contains(t, string(e.Evidence), says)
			return
		}
	}
	t.Fatalf("no entry of kind %s about %s", kind, subject)
}

func TestContaminatedDataAreRefusedByPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	w.suiteOf(t, "one", map[string]string{"otter": otterQuestion})
	base := w.corpusWith(t, "base", map[string]string{"planted-5.txt": around(otterQuestion)})
	in := screenInput(map[string]lifecycle.Digest{"replay": base.Dataset})
	in.Policy.Action = lifecycle.RefuseContaminated
	_, err := do(t, steps.ScreenData, activities.Datasets{Shelf: w.Shelf}.Screen, in)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	require.ErrorContains(t, err, "training.contamination.action: remove")
	require.ErrorContains(t, err, "train the base anew")
	var refused *lifecycle.Error
	require.ErrorAs(t, err, &refused)
	require.Len(t, w.hits(t, lifecycle.Digest(refused.Fields["report"])), 1)
	w.inLedger(t, lifecycle.DataScreened, refused.Fields["report"], `"action": "refuse"`)

	in.Policy.Words = 30 // longer than the question, so all of it counts
	_, err = do(t, steps.ScreenData, activities.Datasets{Shelf: w.Shelf}.Screen, in)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
}

func TestASuiteThatCannotBeReadIsNoCleanDataset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	base := w.corpusWith(t, "base", nil)
	in := screenInput(map[string]lifecycle.Digest{"dataset": base.Dataset})
	datasets := activities.Datasets{Shelf: w.Shelf}
	out, err := do(t, steps.ScreenData, datasets.Screen, in)
	require.NoError(t, err, "a service that has no suite yet")
	require.Zero(t, out.Screened.Cases)
	require.True(t, out.Screened.Report.Valid(), "that nothing was looked for is said, too")

	w.put(t, "docs", lifecycle.SuiteArtifact, nil, map[string]string{"suite.json": "{}", "cases.jsonl": "no case\n"})
	_, err = do(t, steps.ScreenData, datasets.Screen, in)
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%v", err)
}

func TestTheDeclaredSuiteIsScreenedForBeforeAnyGateAskedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	declared := service("docs")
	declared.Corpora["fresh"] = declared.Corpora["base"]
	declared.Evaluation.Capabilities = []lifecycle.Capability{
		{Name: "text", Kind: "bits-per-byte", Corpus: "base", Items: 60, Margin: 0.1},
		{Name: "more", Kind: "bits-per-byte", Corpus: "fresh", Items: 60, Margin: 0.1},
	}
	w.apply(t, declared)
	base := w.dataset(t, "base", 80)
	datasets := activities.Datasets{Shelf: w.Shelf}
	in := screenInput(map[string]lifecycle.Digest{"dataset": base.Dataset})
	out, err := do(t, steps.ScreenData, datasets.Screen, in)
	require.NoError(t, err)
	require.Equal(t, steps.ScreenResult{Missing: []string{"fresh"}}, out, "nobody knows yet what will be asked of fresh")

	// Fresh holds a document that base holds out: the suite will ask for it.
	held := w.documents(t, base.Dataset, "heldout")
	dir, err := w.Cache.Dir(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: base.Dataset})
	require.NoError(t, err)
	planted := map[string]string{}
	for doc, err := range corpus.Read(os.DirFS(dir), "heldout") {
		require.NoError(t, err)
		if doc.ID == held[0] || doc.ID == held[1] {
			planted[fmt.Sprint("planted-", len(planted), ".txt")] = around(doc.Text)
		}
	}
	fresh := w.corpusWith(t, "fresh", planted)
	in = screenInput(map[string]lifecycle.Digest{"dataset": fresh.Dataset})
	out, err = do(t, steps.ScreenData, datasets.Screen, in)
	require.NoError(t, err)
	found := map[string]bool{}
	for _, hit := range w.hits(t, out.Screened.Report) {
		found[filepath.Base(hit.Document)] = true
	}
	require.True(t, found["planted-0.txt"] && found["planted-1.txt"], "%v", found)
	suite, err := w.Registry.LatestArtifact(t.Context(), "docs", lifecycle.SuiteArtifact, nil)
	require.NoError(t, err)
	plan, err := do(t, steps.PlanEvaluation, activities.Evaluation{Shelf: w.Shelf}.Plan, steps.PlanEvaluationInput{
		Service: "docs", Release: string(w.anyRelease(t)), By: by,
	})
	require.NoError(t, err)
	require.Equal(t, suite.Digest, plan.Suite, "the gate asks the suite that was screened for")
}

func TestASuiteThatPeopleWroteIsScreenedFor(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "score: contains\nmargin: 0.05", 3)
	lines := fmt.Sprintf(`{"text":%q,"want":"The otter."}`+"\n"+`{"text":%q,"want":"Nobody.","split":"search"}`+"\n", otterQuestion, searchQuestion)
	require.NoError(t, os.WriteFile(filepath.Join(d.folder, "facts.jsonl"), []byte(lines), 0o600))
	base := d.corpusWith(t, "base", map[string]string{"planted-1.txt": around(otterQuestion), "planted-2.txt": around(searchQuestion)})
	in := screenInput(map[string]lifecycle.Digest{"dataset": base.Dataset})
	out, err := do(t, steps.ScreenData, activities.Datasets{Shelf: d.Shelf, Roots: d.evaluation.Roots}.Screen, in)
	require.NoError(t, err)
	require.Equal(t, []int{2, 2}, []int{out.Screened.Cases, out.Screened.Hits}, "what variants are tried against is not for training either")

	_, err = do(t, steps.ScreenData, activities.Datasets{Shelf: d.Shelf}.Screen, in)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "a worker that may not read the suite says so: %v", err)
}

// anyRelease makes a release whose model says that its data were screened.
func (w *world) anyRelease(t *testing.T) lifecycle.Digest {
	t.Helper()
	report := lifecycle.DigestOf([]byte("report"))
	model := w.put(t, "docs", lifecycle.ModelArtifact, map[string]string{"contamination": string(report)}, map[string]string{"weights": "w"})
	made, err := do(t, steps.MakeRelease, activities.Releases{Registry: w.Registry}.MakeRelease, steps.MakeReleaseInput{Service: "docs", Model: model, By: by})
	require.NoError(t, err)
	w.inLedger(t, lifecycle.ReleaseAdded, string(made.Release), `"screen": "`+string(report)+`"`)
	return made.Release
}

func TestFeedbackThatHoldsACaseIsNotLearned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	w.suiteOf(t, "one", map[string]string{"otter": otterQuestion})
	tuning := activities.Tuning{Shelf: w.Shelf, Captured: w.captured}
	in := steps.CurateInput{Service: "docs", Policy: lifecycle.FeedbackPolicy{MinItems: 3, MaxShare: 0.9}, By: by}
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for i := range 3 {
		correction := fmt.Sprint("It stops topic-", i, ".")
		if i == 2 {
			correction = strings.ToLower(otterQuestion) + " The otter."
		}
		w.say(t, fmt.Sprint("topic-", i), fmt.Sprint("client-", i), "correction", "wrong-fact", correction, start.Add(time.Duration(i)*time.Minute))
	}
	few, err := do(t, steps.CurateFeedback, tuning.Curate, in)
	require.NoError(t, err)
	require.Empty(t, few.Dataset, "two are too few")
	require.Equal(t, 1, few.Screened.Hits)
	require.Len(t, w.hits(t, few.Screened.Report), 1)

	w.say(t, "up", "client-4", "thumbs-up", "", "", start.Add(5*time.Minute))
	enough, err := do(t, steps.CurateFeedback, tuning.Curate, in)
	require.NoError(t, err)
	require.True(t, enough.Dataset.Valid(), enough.Reason)
	require.Equal(t, []int{3, 1}, []int{enough.Items, enough.Dropped})
	raw, err := w.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: enough.Dataset}, "examples.jsonl", 1<<20)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "lighthouse")
}

func TestFeedbackThatHoldsACaseIsRefusedByPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	w.suiteOf(t, "one", map[string]string{"otter": otterQuestion})
	w.say(t, "up", "client-4", "correction", "wrong-fact", otterQuestion+" A lynx.", time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	in := steps.CurateInput{Service: "docs", Policy: lifecycle.FeedbackPolicy{MinItems: 1}, By: by}
	in.Contamination.Action = lifecycle.RefuseContaminated
	_, err := do(t, steps.CurateFeedback, activities.Tuning{Shelf: w.Shelf, Captured: w.captured}.Curate, in)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
}

// TestTheDemosDataAreScreened takes the documentation that the demo trains on: some of what is held out has twins in
// other packages. The numbers stand in docs/production.md.
func TestTheDemosDataAreScreened(t *testing.T) {
	t.Parallel()
	if os.Getenv("REFIT_LONG") == "" {
		t.Skip("REFIT_LONG is not set")
	}
	w := newWorld(t)
	declared, err := configs.ReadServiceFile("../configs/examples/docs-assistant.yaml")
	require.NoError(t, err)
	w.apply(t, declared)
	datasets, given := activities.Datasets{Shelf: w.Shelf}, map[string]lifecycle.Digest{}
	for _, name := range []string{"base", "fresh"} {
		out, err := do(t, steps.CheckCorpus, datasets.CheckCorpus, steps.CheckCorpusInput{
			Service: declared.Name, Corpus: name, Policy: declared.Corpora[name], By: by,
		})
		require.NoError(t, err)
		given[name] = out.Dataset
	}
	for name, dataset := range given {
		out, err := do(t, steps.ScreenData, datasets.Screen, steps.ScreenInput{
			Service: declared.Name, Job: name, Datasets: map[string]lifecycle.Digest{"dataset": dataset}, By: by,
		})
		require.NoError(t, err)
		cases, generated := map[string]bool{}, map[string]bool{}
		for _, hit := range w.hits(t, out.Screened.Report) {
			cases[hit.Case] = true
			if strings.HasSuffix(hit.Document, ".Equal") && strings.HasPrefix(hit.Document, "go.temporal.io/api/") {
				generated[hit.Document] = true
			}
		}
		t.Logf("%s: %d of %d documents hold one of %d cases; %d cases were found; %d documents are generated methods Equal",
			name, out.Screened.Hits, out.Screened.Documents, out.Screened.Cases, len(cases), len(generated))
		require.Positive(t, out.Screened.Hits)
		require.Less(t, out.Screened.Hits*5, out.Screened.Documents, "four in five documents are left to train on")
	}
}
