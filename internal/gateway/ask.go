package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/refitml/refit/internal/answer"
)

// ask is what the gateway itself reads of a request's body; answer reads the rest.
type ask struct {
	service   string // the request's model
	stream    bool
	turns     int    // of the assistant so far
	firstUser string // text that begins the conversation
}

// bodyTime is how long a client may take to send its body.
const bodyTime = 30 * time.Second

// readBody reads a request's body within the limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *problem) {
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(bodyTime)) == nil { // some writers have none
		defer func() { _ = control.SetReadDeadline(time.Time{}) }() // an answer may take as long as it likes
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		p := tooLarge()
		return nil, &p
	case err != nil:
		p := badRequest("the request's body could not be read")
		return nil, &p
	}
	return body, nil
}

// understand reads who is asked and which conversation it is. Text of a message may be a string or a list of
// parts; of parts the text ones count.
func understand(endpoint string, body []byte) (ask, *problem) {
	var said struct {
		Model    *string `json:"model"`
		Stream   bool    `json:"stream"`
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
		Prompt json.RawMessage `json:"prompt"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		p := badRequest("the request's body is not the JSON object that this endpoint takes")
		return ask{}, &p
	}
	if said.Model == nil || *said.Model == "" {
		p := badRequest("model is missing; give the service's name, see /v1/models")
		return ask{}, &p
	}
	a := ask{service: *said.Model, stream: said.Stream}
	switch endpoint {
	case answer.Chat:
		first := true
		for _, m := range said.Messages {
			switch {
			case m.Role == "assistant":
				a.turns++
			case m.Role == "user" && first:
				a.firstUser, first = textOf(m.Content), false
			}
		}
		if first {
			p := badRequest("messages hold no message of the user")
			return ask{}, &p
		}
	case answer.Completions:
		a.firstUser = textOf(said.Prompt)
	}
	return a, nil
}

func textOf(content json.RawMessage) string {
	var plain string
	if json.Unmarshal(content, &plain) == nil {
		return plain
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(content, &parts) == nil {
		for _, part := range parts {
			plain += part.Text + "\n"
		}
		return plain
	}
	return string(content) // a list of tokens, for example: any stable form of it will do
}
