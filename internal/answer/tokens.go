package answer

import "encoding/json"

// MostTokens gives how many tokens the answer to a request may have at most when this release gives it: the limit that
// is sent on, for each choice of each prompt. Where neither names a limit it is unnamed.
func (b *Bundle) MostTokens(a *Asked, unnamed int64) int64 {
	if a.endpoint == Embeddings || a.score {
		return 0
	}
	limit, named := 0, false
	for _, key := range []string{"max_completion_tokens", "max_tokens"} {
		if n, given, _ := a.count(key); given && (!named || n < limit) {
			limit, named = n, true
		}
	}
	if p := b.Release.Parameters; p.MaxTokens > 0 && (!named || !p.Override && limit > p.MaxTokens) {
		limit, named = p.MaxTokens, true
	}
	if !named {
		limit = int(unnamed)
	}
	choices := 1
	for _, key := range []string{"n", "best_of"} {
		if n, given, err := a.count(key); given && err == nil {
			choices = max(choices, n)
		}
	}
	const most = 1 << 20 // nobody means more; what a server then gives anyway is owed
	return int64(min(limit, most)) * int64(min(choices, most)) * int64(min(a.prompts(), most))
}

// prompts counts the prompts of a completion; a list of token numbers is one.
func (a *asked) prompts() int {
	at, ok := a.body.find("prompt")
	var list []json.RawMessage
	if a.endpoint != Completions || !ok || json.Unmarshal(at.of(a.body.doc), &list) != nil || len(list) == 0 {
		return 1
	}
	if c := list[0][0]; c == '"' || c == '[' {
		return len(list)
	}
	return 1
}
