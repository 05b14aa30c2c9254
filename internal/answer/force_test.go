package answer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// What is noted is what the model server is told, whoever said it.
func TestWhatIsNotedIsWhatTheModelServerIsTold(t *testing.T) {
	t.Parallel()
	keys := append([]string{"max_tokens", "seed", "n", "unknown"}, samplingKeys...)
	rapid.Check(t, func(t *rapid.T) {
		b, err := NewBundle(release(func(r *lifecycle.Release) {
			p := &r.Parameters
			p.Override = rapid.Bool().Draw(t, "override")
			p.MaxTokens = rapid.SampledFrom([]int{0, 16}).Draw(t, "max tokens")
			if rapid.Bool().Draw(t, "own temperature") {
				half := 0.5
				p.Temperature = &half
			}
		}), nil)
		require.NoError(t, err)
		var fields []string
		for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom(keys), rapid.ID[string]).Draw(t, "keys") {
			value := rapid.SampledFrom([]string{"1", "0", "null", "32", "0.25"}).Draw(t, key)
			switch key {
			case "stop":
				value = `"the client's own words"`
			case "max_tokens":
				value = rapid.SampledFrom([]string{"1", "32", "null"}).Draw(t, "tokens")
			}
			fields = append(fields, fmt.Sprintf("%q:%s", key, value))
		}
		body := `{"messages":[{"role":"user","content":"x"}]` + strings.Join(append([]string{""}, fields...), ",") + `}`
		a, err := Read(Chat, []byte(body))
		require.NoError(t, err)
		edits, err := b.assemble(&a.asked, "m", nil)
		require.NoError(t, err)
		out := apply(a.body.doc, edits)
		var told, noted map[string]any
		require.NoError(t, json.Unmarshal(out, &told))
		require.NoError(t, json.Unmarshal(b.inForce(&a.asked), &noted))
		for key := range told {
			if _, number := told[key].(float64); !number || key == "unknown" || key == "logit_bias" {
				delete(told, key)
			}
		}
		require.Equal(t, told, noted)
	})
}
