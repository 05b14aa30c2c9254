package capture_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

var second = lifecycle.DigestOf([]byte("second"))

// copied is a user's request in the shadow step with its copy, which began a second later.
func copied(conversation string, at int, change func(user, copy *lifecycle.Interaction)) []lifecycle.Interaction {
	user := served(conversation, at, lifecycle.ShadowIndex, func(i *lifecycle.Interaction) {
		i.Input, i.Output, i.Content, i.Latency = "question", "stable", lifecycle.ContentFull, lifecycle.Latency{Total: 0.5, Queue: 0.2}
	})
	other := user
	other.ID, other.Rollout, other.Step, other.Release = lifecycle.ShadowPrefix+user.ID, "", 0, second
	other.Output, other.Started, other.Latency = "candidate", user.Started.Add(time.Second), lifecycle.Latency{Total: 0.7}
	if change != nil {
		change(&user, &other)
	}
	return []lifecycle.Interaction{user, other}
}

func TestPairsAreTheFirstOfEachConversationOnce(t *testing.T) {
	s, d := store(t)
	var all []lifecycle.Interaction
	add := func(pairs []lifecycle.Interaction) { all = append(all, pairs...) }
	add(copied("later", 30, nil))
	add(copied("first", 1, func(u, c *lifecycle.Interaction) { c.Outcome = "error" }))
	add(copied("first", 9, nil)) // its second pair
	add(copied("left", 2, func(u, c *lifecycle.Interaction) { u.Outcome = "canceled" }))
	add(copied("left", 12, nil))
	add(copied("stopped", 3, func(u, c *lifecycle.Interaction) { c.Outcome = "canceled" }))
	add(copied("live", 4, func(u, c *lifecycle.Interaction) { u.Step = 0 }))              // after the first share
	add(copied("other", 5, func(u, c *lifecycle.Interaction) { u.Rollout = "run-0" }))    // of another rollout
	add(copied("standing", 6, func(u, c *lifecycle.Interaction) { c.Release = "other" })) // a copy to another release
	add(copied("bare", 7, func(u, c *lifecycle.Interaction) { u.Content = lifecycle.ContentSampled }))
	add(copied("minded", 8, func(u, c *lifecycle.Interaction) { u.Guardrails, c.Outcome = []string{"pii"}, "refused" }))
	add(copied("open", 60, nil)) // not known everywhere yet
	all = append(all, served("alone", 10, lifecycle.ShadowIndex, nil))
	require.NoError(t, s.AddInteractions(t.Context(), all))

	pairs, err := s.Pairs(t.Context(), "docs", "run-1", second, noon.Add(50*time.Second))
	require.NoError(t, err)
	var names []string
	for _, p := range pairs {
		names = append(names, p.Interaction)
	}
	require.Equal(t, []string{"first-1", "bare-7", "minded-8", "left-12", "later-30"}, names)
	require.Equal(t, []string{"errors"}, pairs[0].CandidateEvents)
	require.Empty(t, pairs[0].StableEvents)
	require.False(t, pairs[1].Texts)
	require.Equal(t, []string{"guardrails"}, pairs[2].StableEvents)
	require.Equal(t, []string{"refusals"}, pairs[2].CandidateEvents)
	last := pairs[4]
	require.True(t, noon.Add(31*time.Second).Equal(last.Began))
	last.Began = time.Time{}
	require.Equal(t, capture.Pair{Interaction: "later-30", StableLatency: 300 * time.Millisecond, CandidateLatency: 700 * time.Millisecond, Texts: true}, last)

	texts, err := s.PairTexts(t.Context(), "docs", []string{"later-30", "nobody"})
	require.NoError(t, err)
	require.Equal(t, []capture.PairTexts{{"later-30", "question", "stable", "candidate"}}, texts)

	opened(t, d)
	for _, value := range []float64{0.25, 0.75} {
		require.NoError(t, s.AddPairScore(t.Context(), "run-1", capture.PairScore{Interaction: "later-30", Stable: 0.5, Candidate: value}))
	}
	pairs, err = s.Pairs(t.Context(), "docs", "run-1", second, noon.Add(50*time.Second))
	require.NoError(t, err)
	require.Equal(t, &capture.PairScore{Interaction: "later-30", Stable: 0.5, Candidate: 0.25}, pairs[4].Scores)
	require.Nil(t, pairs[0].Scores)
	require.Error(t, s.AddPairScore(t.Context(), "run-1", capture.PairScore{Interaction: "x", Stable: 2}), "no score")
	require.Error(t, s.AddPairScore(t.Context(), "nobody's", capture.PairScore{Interaction: "x"}), "no rollout")
}

// opened opens the rollout run-1.
func opened(t *testing.T, d registrytest.Database) {
	t.Helper()
	by := lifecycle.Actor{Name: "test"}
	_, err := d.Registry.ApplyService(t.Context(), registrytest.Service("docs"), by)
	require.NoError(t, err)
	var ids []lifecycle.Digest
	for n := range 2 {
		id, err := d.Registry.AddRelease(t.Context(), registrytest.Release("docs", n), by)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	owner := lifecycle.Owner{Namespace: "refit", WorkflowID: "promote/docs", FirstRunID: "run-1"}
	claim, err := d.Registry.TakeClaim(t.Context(), "docs", lifecycle.PromotionLoop, owner, by)
	require.NoError(t, err)
	_, err = d.Registry.SetFirstStable(t.Context(), registry.FirstStable{Service: "docs", Fence: claim.Fence, Release: ids[0], By: by})
	require.NoError(t, err)
	require.NoError(t, d.Registry.StartRollout(t.Context(), registry.RolloutStart{
		Service: "docs", Fence: claim.Fence, ID: "run-1", Release: ids[1], Owner: owner, By: by,
	}))
}
