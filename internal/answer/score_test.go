package answer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// A gate's question goes the way of a user's: the release's prompt, passages, parameters and rules hold.
func TestAClientChatsAsUsersDo(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(plain))
	cold := 0.2
	shown := func(template string) *Bundle {
		return ready(t, func(r *lifecycle.Release) {
			r.Index, r.Parameters.TopK, r.Parameters.Temperature = model, 1, &cold
			r.Prompt.System, r.Prompt.Context = "Be short.", template
			r.PostProcess = []lifecycle.Rule{{Kind: lifecycle.RuleDenyPattern, Value: "there"}}
		}, shelf{{ID: "c1", Text: "one"}, {ID: "c2", Text: "two"}})
	}
	client := Client{Path: New(Settings{}), Bundle: shown("{{range .Passages}}{{.Text}}{{end}}"), Upstream: Upstream{URL: m.URL}}
	body := func() map[string]any {
		return map[string]any{"messages": []any{map[string]any{"role": "user", "content": "hello"}}, "temperature": 0.9, "seed": 7}
	}
	said, result, err := client.Chat(t.Context(), body())
	require.NoError(t, err)
	require.Equal(t, "hi [removed]", said)
	require.Equal(t, []Passage{{ID: "c1", Text: "one"}}, result.Shown)
	require.Equal(t, lifecycle.Usage{Prompt: 3, Completion: 2}, result.Usage)
	asked := m.asked(t)
	require.Contains(t, asked, "Be short.")
	require.Contains(t, asked, `"temperature":0.2`, "the release lets nobody choose")
	require.Contains(t, asked, `"seed":7`)

	client.Bundle = shown("")
	_, result, err = client.Chat(t.Context(), body())
	require.NoError(t, err)
	require.Empty(t, result.Shown, "passages that the prompt does not show support nothing")

	for answer, want := range map[string]string{`{"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[]},"finish_reason":"tool_calls"}]}`: "", `{"choices":[]}`: "error"} {
		m := newModelServer(t, saying(answer))
		client.Upstream.URL = m.URL
		said, _, err := client.Chat(t.Context(), body())
		if want == "error" {
			require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
			continue
		}
		require.NoError(t, err)
		require.Empty(t, said)
	}
}
