package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func newRun(t *testing.T, data string) (*run, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	settings := Default(filepath.Join("..", ".."), func(string) string { return "" })
	settings.SummaryFile, settings.Out = filepath.Join(data, "demo-summary.json"), &out
	settings, err := settings.withDefaults()
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(data, "demo"), 0o755))
	return &run{settings: settings, place: place{settings: settings, data: data}, view: view{out: &out}}, &out
}

// again is the next run on the same data folder.
func again(t *testing.T, data string, taken ...string) *run {
	t.Helper()
	r, _ := newRun(t, data)
	var err error
	r.state, err = readState(r.stateFile())
	require.NoError(t, err)
	require.NoError(t, r.begin(taken))
	return r
}

func TestARunGoesOnWhereTheLastOneStopped(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first := again(t, data)
	require.Equal(t, "docs-assistant", first.service.Name)
	done := 0
	works := stage{"base", "", func(*run, context.Context) error { done++; return nil }}
	fails := stage{"index", "", func(*run, context.Context) error { return errors.New("no index today") }}
	require.NoError(t, first.through(t.Context(), works, 1, 2))
	require.ErrorContains(t, first.through(t.Context(), fails, 2, 2), "no index today")

	second := again(t, data, "docs-assistant")
	require.Equal(t, "docs-assistant", second.service.Name)
	require.NoError(t, second.through(t.Context(), works, 1, 2))
	require.Equal(t, 1, done, "what is done is not done again")
	require.Equal(t, []string{"base"}, second.state.Done)
	require.Contains(t, second.state.Summary.Timings, "index", "a try that failed took time too")
}

func TestARunAfterOneThatIsThroughStartsAnew(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first := again(t, data)
	first.state.Summary = someSummary()
	_, err := first.close(time.Minute)
	require.NoError(t, err)
	require.FileExists(t, first.settings.SummaryFile)

	second := again(t, data, "another", "docs-assistant")
	require.Equal(t, "docs-assistant-2", second.service.Name)
	require.Empty(t, second.state.Done)
	require.Empty(t, second.state.Summary.Releases)
	require.NoFileExists(t, first.settings.SummaryFile, "what an earlier run measured must not pass for this one's")
}

func TestAStateThatCannotBeReadIsNoBeginning(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	require.NoError(t, os.WriteFile(path, []byte("{half"), 0o644))
	_, err := readState(path)
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt))
	require.ErrorContains(t, err, path)
}

func TestTheUsersOwnTextIsTheFreshDomain(t *testing.T) {
	t.Parallel()
	service, err := configs.ReadServiceFile(filepath.Join("..", "..", "configs", "examples", "docs-assistant.yaml"))
	require.NoError(t, err)
	base := service.Corpora["base"]
	useText(&service, "/srv/notes")
	require.NoError(t, service.Check())
	require.Equal(t, []lifecycle.Source{{Kind: "folder", Path: "/srv/notes"}}, service.Corpora["fresh"].Sources)
	require.Equal(t, base, service.Corpora["base"])
}

func TestTheSmallRunsDeclarationIsOne(t *testing.T) {
	t.Parallel()
	service, err := configs.ReadServiceFile(filepath.Join("..", "..", "configs", "examples", "docs-assistant.yaml"))
	require.NoError(t, err)
	Small(Settings{}).Edit(&service)
	require.NoError(t, service.Check())
	for _, step := range service.Rollout.Steps {
		require.Positive(t, step.MinConversations, "no step passes on the clock alone")
	}
}

func TestQuestionsAreMadeOfAFolderOfMarkdown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := "# Pools\n\nA pool keeps connections open between requests. It hands them out one by one and takes them back when they are given back.\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pools.md"), []byte(page), 0o644))
	service := lifecycle.Service{Corpora: map[string]lifecycle.Corpus{"fresh": {Sources: []lifecycle.Source{{Kind: "folder", Path: dir}}}}}
	questions, err := Questions(t.Context(), ".", service, 1)
	require.NoError(t, err)
	require.Len(t, questions, 1)
	require.Equal(t, "A pool keeps connections open between requests.", questions[0].Text)
	require.Contains(t, questions[0].Documented, "one by one")

	require.NoError(t, os.Remove(filepath.Join(dir, "pools.md")))
	_, err = Questions(t.Context(), ".", service, 1)
	require.ErrorContains(t, err, "no question")
}

func TestChangedNamesOnlyWhatIsProven(t *testing.T) {
	t.Parallel()
	better, worse := changed(lifecycle.Verdict{Capabilities: []lifecycle.CapabilityVerdict{
		{Capability: "fresh", Low: 0.1, High: 0.3}, {Capability: "old", Low: -0.4, High: -0.2}, {Capability: "unclear", Low: -0.2, High: 0.1},
	}})
	require.Equal(t, []string{"fresh"}, better)
	require.Equal(t, []string{"old"}, worse)
}

func TestAWorkflowThatRunsAlreadyIsFollowed(t *testing.T) {
	t.Parallel()
	busy := &lifecycle.Error{Kind: lifecycle.Busy, Fields: map[string]string{"workflow_id": "pretrain/docs", "run_id": "r1"}}
	got, err := joined(control.Started{}, busy)
	require.NoError(t, err)
	require.Equal(t, control.Started{WorkflowID: "pretrain/docs", RunID: "r1"}, got)
	_, err = joined(control.Started{}, lifecycle.Errorf(lifecycle.Unavailable, "away"))
	require.Error(t, err)
}

func TestAStepOverItsBoundFailsTheRun(t *testing.T) {
	t.Parallel()
	r, _ := newRun(t, t.TempDir())
	r.service.Rollout.Exposure.Cap = 20
	r.settings.Traffic.Clients = 8
	step := lifecycle.StepRecord{Allowed: 1000}
	require.NoError(t, r.withinBound(step, Exposure{Requests: 400, Canary: 68}))
	require.ErrorContains(t, r.withinBound(step, Exposure{Requests: 400, Canary: 69}), "may be 68")
}

func TestTheTextSaysWhatTheSummarySays(t *testing.T) {
	t.Parallel()
	r, _ := newRun(t, t.TempDir())
	r.state.Summary = someSummary()
	text := r.text(time.Minute)
	for _, want := range []string{
		"fresh-text", "3.5000", "3.1000", "-0.5000 to -0.3000", "9.7%", "18%", "(not counted)", "promote/docs-assistant", "120 up, 80 down", "less is better",
	} {
		require.Contains(t, text, want)
	}
}
