package activities

import (
	"context"
	"encoding/json"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/evaluation"
)

// Say is evaluation's: it asks for an answer as a user asks.
func (s *served) Say(ctx context.Context, chat []evaluation.Message, how evaluation.Speaking) (evaluation.Spoken, error) {
	body := map[string]any{"messages": chat, "seed": how.Seed}
	if how.Temperature != nil {
		body["temperature"] = *how.Temperature
	}
	if how.TopP != nil {
		body["top_p"] = *how.TopP
	}
	if how.MaxTokens > 0 {
		body["max_tokens"] = how.MaxTokens
	}
	text, result, err := s.client().Chat(ctx, body)
	if err != nil {
		return evaluation.Spoken{}, err
	}
	return evaluation.Spoken{
		Text: text, Passages: textsOf(result.Shown), Seconds: result.Latency.Total, Usage: result.Usage, Parameters: json.RawMessage(result.Parameters),
	}, nil
}

func textsOf(passages []answer.Passage) []string {
	var texts []string
	for _, p := range passages {
		texts = append(texts, p.Text)
	}
	return texts
}
