package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// newJudge is a model that prefers the answer that users know, wherever it stands. Its reply is JSON in words.
func newJudge(t *testing.T) (url string, asked *atomic.Int64) {
	asked = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Messages []struct {
				Content string `json:"content"`
			} `json:"messages"`
		}
		var pair struct{ A, B string }
		if json.NewDecoder(r.Body).Decode(&in) != nil || len(in.Messages) != 2 || json.Unmarshal([]byte(in.Messages[1].Content), &pair) != nil {
			http.Error(w, "no pair", http.StatusBadRequest)
			return
		}
		asked.Add(1)
		better := "tie"
		switch a, b := strings.Contains(pair.A, said), strings.Contains(pair.B, said); {
		case a && !b:
			better = "a"
		case b && !a:
			better = "b"
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"object": "chat.completion", "choices": []any{map[string]any{"index": 0, "finish_reason": "stop",
			"message": map[string]string{"role": "assistant", "content": fmt.Sprintf("I compared both.\n{\"better\": %q}", better)}}}})
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// hasJudge lets the worker know a judge by the name large.
func (w *world) hasJudge() (asked *atomic.Int64) {
	w.t.Helper()
	url, asked := newJudge(w.t)
	settings := w.path("settings.yaml")
	require.NoError(w.t, os.WriteFile(settings, []byte(fmt.Sprintf("scoring: {judges: {large: {url: %q, model: judge-1}}}\n", url)), 0o600))
	w.worker.command = append(w.worker.command, "--settings", settings)
	return asked
}

// newShadowed is newServed with a shadow step before the first share, whose pairs the judge scores.
func newShadowed(t *testing.T, rollout ...step) (s *served, asked *atomic.Int64) {
	t.Helper()
	s = &served{world: newWorld(t, onSharedStack(t)), models: newModels(t)}
	asked = s.hasJudge()
	s.more = "capture: {content: full}\n"
	s.moreOfRollout = `  shadow: {min_pairs: 150, max_time: 15m, required: true, margin: 0.3, at_once: 8, per_minute: 100000, shared_servers: true,
    scorer: {name: judge-pairwise, settings: {judge: large, criteria: it says what to do}}}
`
	s.bringUp(1, rollout...)
	return s, asked
}

func TestABadCandidateIsStoppedInTheShadowAndNoUserMeetsIt(t *testing.T) {
	t.Parallel()
	s, asked := newShadowed(t, step{3000, 50})
	s.models.say(s.name, "Seven.")
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	run := s.promote()
	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	s.awaitApplied(s.route())
	s.awaitStableChats(50)
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges))
	require.Equal(t, lifecycle.RolloutRolledBack, result.Phase, result.Reason)
	require.Contains(t, result.Reason, "shadow step: worse than tolerated: score")
	require.Less(t, result.Shadow.Verdict.Difference, -0.5)

	require.Zero(t, s.models.count(s.name), "the model server counted requests of users")
	copies := s.models.copied()
	require.NotEmpty(t, copies)
	for _, c := range copies {
		require.Equal(t, s.name, c.model)
	}
	require.Positive(t, asked.Load())
	require.Equal(t, &lifecycle.Touched{}, result.Touched)
	for _, e := range exchanges {
		require.NotEqual(t, string(s.candidate), e.release)
	}
	ledger := s.ledger()
	require.Empty(t, entriesOf(ledger, lifecycle.ShareChanged))
	require.Len(t, entriesOf(ledger, lifecycle.ShadowJudged), 1)
	require.Equal(t, s.stable, s.route().Stable)
	kept := query(s.world, pgx.RowTo[int64], `SELECT count(*) FROM interactions WHERE canary`)
	require.Equal(t, []int64{0}, kept)
	require.Contains(t, s.try("status", s.service).stdout, "shadow step: roll-back: worse than tolerated")
	s.checkRecord()
	s.checkExposure(4)
}

// The worker is killed in the middle of the step: what was scored stays scored, and users notice nothing.
func TestAGoodCandidateGoesOnFromTheShadow(t *testing.T) {
	t.Parallel()
	s, asked := newShadowed(t, step{3000, 30})
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	run := s.promote()
	scored := func() int64 { return query(s.world, pgx.RowTo[int64], `SELECT count(*) FROM pair_scores`)[0] }
	await(t, "pairs to be scored", func() (bool, any) { n := scored(); return n >= 10, n })
	s.worker.kill()
	require.Equal(t, lifecycle.ShadowIndex, s.route().Step, "it was killed too late")
	s.worker.start()
	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges))
	require.Equal(t, lifecycle.RolloutPromoted, result.Phase, result.Reason)
	require.Equal(t, lifecycle.Promote, result.Shadow.Verdict.Decision)
	require.GreaterOrEqual(t, result.Shadow.Verdict.Scored, int64(150))
	require.Len(t, result.Steps, 1)

	lost := asked.Load()/2 - scored()
	require.GreaterOrEqual(t, lost, int64(0), "each pair is asked in both orders")
	require.LessOrEqual(t, lost, int64(4), "no pair is asked twice but those that were being asked when the worker was killed")
	ledger := s.ledger()
	shared := entriesOf(ledger, lifecycle.ShareChanged)
	require.Len(t, shared, 1)
	for _, c := range s.models.copied() {
		require.True(t, c.at.Before(shared[0].At), "a copy came after the first share")
	}
	require.Len(t, entriesOf(ledger, lifecycle.ShadowChanged), 2)
	var status control.StatusResult
	s.refit(&status, "status", s.service)
	require.Equal(t, result.Shadow.Verdict, status.Rollout.Shadow.Verdict)
	s.checkRecord()
	s.checkExposure(4)
}
