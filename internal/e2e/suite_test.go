package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// writeSuite writes a suite and its files of cases, and gives its folder and what the command that checks it says.
func (w *world) writeSuite(name, suite string, files map[string]string) (folder, checked string) {
	w.t.Helper()
	folder = w.path("corpora", name)
	require.NoError(w.t, os.MkdirAll(folder, 0o700))
	require.NoError(w.t, os.WriteFile(w.path("corpora", name, "suite.yaml"), []byte(suite), 0o600))
	for file, content := range files {
		require.NoError(w.t, os.WriteFile(w.path("corpora", name, file), []byte(content), 0o600))
	}
	o := w.try("suite", "check", folder)
	require.Zero(w.t, o.code, o.stderr)
	return folder, o.stdout
}

// A gate that asks a suite of people's, by commands: the same weights with another rule of post-processing are refused.
func TestAWrittenSuiteRefusesARuleThatHidesTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSharedStack(t))
	models := newModels(t)
	var cases strings.Builder
	for i := range 40 {
		fmt.Fprintf(&cases, `{"text": "What shall I do with reader %d?", "want": "close it"}`+"\n", i)
	}
	folder, checked := w.writeSuite("suite", `suite: closing
capabilities:
  - {name: advice, ask: generate, score: contains, margin: 0.1, sampling: {samples: 2}, files: [cases.jsonl]}
`, map[string]string{"cases.jsonl": cases.String()})

	w.startConsole()
	w.worker.start()
	w.apply(fmt.Sprintf("service: %s\nserving: {engine: static, endpoints: [{url: %q, capacity: 8}]}\nevaluation: {suite: {folder: %q}}\n", w.service, models.url, folder))
	plain := w.adds(lifecycle.Release{})
	hiding := w.adds(lifecycle.Release{PostProcess: []lifecycle.Rule{{Kind: lifecycle.RuleDenyPattern, Value: "Close it"}}})
	models.know(lifecycle.ServedName(weights, ""))

	var same, verdict lifecycle.Verdict
	w.refit(&same, "evaluate", w.service, "--release", string(plain), "--baseline", string(plain), "--watch")
	require.Equal(t, lifecycle.PassOutcome, same.Outcome, same.Reasons)
	require.Contains(t, checked, string(same.Suite), "the digest that was checked is the one that was asked")
	require.Equal(t, 80, models.count(lifecycle.ServedName(weights, "")), "each case is asked twice, and one release once")

	refused := w.try("evaluate", w.service, "--release", string(hiding), "--baseline", string(plain), "--watch", "-o", "json")
	require.Equal(t, 3, refused.code, refused.stderr)
	require.NoError(t, json.Unmarshal([]byte(refused.stdout), &verdict), refused.stdout)
	require.Equal(t, lifecycle.RegressOutcome, verdict.Outcome)
	require.InDelta(t, 1, verdict.Capabilities[0].Baseline, 0)
	require.InDelta(t, 0, verdict.Capabilities[0].Candidate, 0)
}

var weights = lifecycle.DigestOf([]byte("weights"))

// adds records a release of the same weights.
func (w *world) adds(r lifecycle.Release) lifecycle.Digest {
	w.t.Helper()
	r.Service, r.Model = w.service, weights
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := w.registry.AddRelease(ctx, r, lifecycle.Actor{Name: "test"})
	require.NoError(w.t, err)
	return id
}
