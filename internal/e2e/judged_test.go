package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// A gate whose judge compares both releases' answers, by commands: the judge is held against people before it is believed, asked
// about each pair once, and its preference decides. A judge that people contradict decides nothing.
func TestAJudgeThatPeopleAgreeWithDecidesBetweenTwoReleases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSharedStack(t))
	models := newModels(t)
	asked := w.hasJudge()
	w.startConsole()
	w.worker.start()

	const cases = 60 // under 50 groups nothing is judged
	agreeing := w.writeCompared("agreeing", cases, func(better bool) bool { return better })
	w.declareCompared(models, agreeing)
	plain := w.adds(lifecycle.Release{})
	hiding := w.adds(lifecycle.Release{PostProcess: []lifecycle.Rule{{Kind: lifecycle.RuleDenyPattern, Value: "Close it"}}})
	models.know(lifecycle.ServedName(weights, ""))

	verdict := w.judged(3, hiding, plain)
	require.Equal(t, lifecycle.RegressOutcome, verdict.Outcome, verdict.Reasons)
	require.InDelta(t, 1, verdict.Capabilities[0].Baseline, 0, "it wins every comparison")
	require.InDelta(t, 0, verdict.Capabilities[0].Candidate, 0)
	require.EqualValues(t, 2*(cases+cases), asked.Load(), "each pair of the releases and each of people's, in both orders")
	shown := w.try("compare", w.service, string(plain), string(hiding))
	require.Contains(t, shown.stdout, "How answers were compared in advice")
	require.Contains(t, shown.stdout, "Agreement with people")

	require.Equal(t, lifecycle.PassOutcome, w.judged(0, plain, plain).Outcome)
	require.EqualValues(t, 2*(cases+cases), asked.Load(), "the same text is a tie, and labels are of the suite")

	w.declareCompared(models, w.writeCompared("contradicting", cases, func(better bool) bool { return !better }))
	verdict = w.judged(1, hiding, plain)
	require.Equal(t, lifecycle.ErrorOutcome, verdict.Outcome)
	require.Contains(t, strings.Join(verdict.Reasons, "; "), "agree")
}

// writeCompared writes a suite whose judge compares answers. People have judged two answers to each case, and say what says
// makes of whether the first is the one that the judge prefers.
func (w *world) writeCompared(name string, cases int, says func(better bool) bool) string {
	w.t.Helper()
	var lines strings.Builder
	for i := range cases {
		first, second := said, "Seven."
		better := i%2 == 0
		if !better {
			first, second = second, first
		}
		score := 0
		if says(better) {
			score = 1
		}
		require.NoError(w.t, json.NewEncoder(&lines).Encode(map[string]any{
			"text": fmt.Sprintf("What shall I do with reader %d?", i), "human": map[string]any{"said": first, "over": second, "score": score},
		}))
	}
	folder, checked := w.writeSuite(name, `suite: `+name+`
capabilities:
  - {name: advice, ask: generate, score: {name: judge-pairwise, settings: {judge: large, criteria: it says what to do, against: baseline}}, margin: 0.3, files: [cases.jsonl]}
`, map[string]string{"cases.jsonl": lines.String()})
	require.Regexp(w.t, fmt.Sprintf(`(?m)^advice .* %d$`, cases), checked, "the labels are counted")
	return folder
}

// declareCompared declares the service with such a suite, and asks its judge for an agreement with people.
func (w *world) declareCompared(models *models, folder string) {
	w.t.Helper()
	w.apply(fmt.Sprintf("service: %s\nserving: {engine: static, endpoints: [{url: %q, capacity: 8}]}\nevaluation: {suite: {folder: %q}, agreement: {minimum: 0.6, labels: 50}}\n",
		w.service, models.url, folder))
}

// judged evaluates a release by commands, which must end with a code.
func (w *world) judged(code int, candidate, baseline lifecycle.Digest) (verdict lifecycle.Verdict) {
	w.t.Helper()
	o := w.try("evaluate", w.service, "--release", string(candidate), "--baseline", string(baseline), "--watch", "-o", "json")
	require.Equal(w.t, code, o.code, "%s\n%s", o.stdout, o.stderr)
	require.NoError(w.t, json.Unmarshal([]byte(o.stdout), &verdict), o.stdout)
	return verdict
}
