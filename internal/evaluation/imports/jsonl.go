package imports

import (
	"encoding/json"
	"errors"
	"io"

	"strconv"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
)

// readJSONL reads {"input": ..., "ideal": ...} lines.
func readJSONL(name string, r io.Reader, add *collector) error {
	into := add.capability(stem(name), evaluation.Generate, score.Spec{Name: "contains", Settings: json.RawMessage(`{"case":true}`)})
	if add.how.Score == "" {
		add.note("%s: scored by contains (Includes of OpenAI evals); choose another with --score", into.Name)
	}
	return eachLine(r, func(line int, raw json.RawMessage) error {
		var item struct {
			Input json.RawMessage `json:"input"`
			Ideal json.RawMessage `json:"ideal"`
		}
		if err := json.Unmarshal(raw, &item); err != nil {
			return errors.New("no JSON object")
		}
		c, ok := asked(item.Input)
		if !ok {
			return errors.New("input: give a text, or a chat that the user ends")
		}
		want, ok := texts(item.Ideal)
		if !ok {
			return errors.New("ideal: give a text or a list of texts")
		}
		c.ID = strconv.Itoa(line)
		into.add(withWant(c, want))
		return nil
	})
}
