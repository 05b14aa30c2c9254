package capture_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestTrafficCountsConversationsAndWhatHappenedToThemOnStable(t *testing.T) {
	s, _ := store(t)
	began := time.Now().Add(-90 * time.Minute).UTC().Truncate(time.Second)
	at := func(conversation string, second int, change func(*lifecycle.Interaction)) lifecycle.Interaction {
		return served(conversation, second, 0, func(i *lifecycle.Interaction) {
			i.Started = began.Add(time.Duration(second) * time.Second)
			if change != nil {
				change(i)
			}
		})
	}
	require.NoError(t, s.AddInteractions(t.Context(), []lifecycle.Interaction{
		at("old", -3600*24, nil),
		at("a", 0, nil), at("a", 9, func(i *lifecycle.Interaction) { i.Outcome = "error" }), at("a", 10, func(i *lifecycle.Interaction) { i.Outcome = "error" }),
		at("b", 1, func(i *lifecycle.Interaction) { i.Guardrails = []string{"deny-pattern"} }),
		at("c", 2, func(i *lifecycle.Interaction) { i.Outcome = "refused" }),
		at("d", 3, func(i *lifecycle.Interaction) { canary(i); i.Outcome = "error" }),
		at("a", 4, func(i *lifecycle.Interaction) { i.ID, i.Outcome = lifecycle.ShadowPrefix+"x", "error" }),
		at("e", 5, func(i *lifecycle.Interaction) { i.ID, i.Conversation = lifecycle.ShadowPrefix+"y", "shadowed-only" }),
		at("f", 6, func(i *lifecycle.Interaction) { i.Service = "other" }),
		at("g", 3600*24, nil),
	}))
	require.NoError(t, s.AddFeedback(t.Context(), []lifecycle.Feedback{
		{ID: "1", Service: "docs", Interaction: "a-0", Kind: "thumbs-down", At: began}, {ID: "2", Service: "docs", Interaction: "a-9", Kind: "thumbs-down", At: began},
		{ID: "3", Service: "docs", Interaction: "d-3", Kind: "abandoned", At: began},
	}))
	seen, err := s.Traffic(t.Context(), "docs", began.Add(-time.Minute))
	require.NoError(t, err)
	require.True(t, began.Equal(seen.Since))
	require.InDelta(t, 90, seen.Seen.D().Minutes(), 5)
	require.Equal(t, int64(4), seen.Conversations, "copies, another service's, and what is to come are none")
	require.Equal(t, int64(3), seen.Stable)
	require.Equal(t, map[string]int64{"errors": 1, "guardrails": 1, "refusals": 1, "thumbs-down": 1, "abandoned": 0}, seen.Events)

	none, err := s.Traffic(t.Context(), "nobody", began)
	require.NoError(t, err)
	require.Equal(t, lifecycle.TrafficSeen{}, none)
}
