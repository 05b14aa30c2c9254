package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// Headers of the gateway, as its package comment describes them for clients.
const (
	headerConversation = "X-Refit-Conversation"
	headerInteraction  = "X-Refit-Interaction"
	headerRelease      = "X-Refit-Release"
)

// maxReply bounds an answer that is read, in bytes.
const maxReply = 1 << 20

// Message is one of a chat.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Reply is what a client saw of one answer.
type Reply struct {
	Status      int
	Text        string
	Finish      string
	Key         string // of the conversation, to hand back
	Interaction string
	Release     lifecycle.Digest
	Canceled    bool // the client left before the end
}

// chatClient is one user of the gateway.
type chatClient struct {
	http    *http.Client
	gateway string // base address
	service string
	bearer  string // tells this client from the others
}

// ask sends the messages so far. cancel leaves a streamed answer after its first words. An error means that there is
// no answer: the connection broke; an answer with a status of refusal is a Reply.
func (c chatClient) ask(ctx context.Context, messages []Message, key string, stream, cancel bool) (Reply, error) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	body, err := json.Marshal(map[string]any{"model": c.service, "messages": messages, "stream": stream})
	if err != nil {
		return Reply{}, err
	}
	response, err := c.post(ctx, "/v1/chat/completions", body, key)
	if err != nil {
		return Reply{}, err
	}
	defer response.Body.Close()
	reply := Reply{
		Status: response.StatusCode, Key: response.Header.Get(headerConversation),
		Interaction: response.Header.Get(headerInteraction), Release: lifecycle.Digest(response.Header.Get(headerRelease)),
	}
	from := io.LimitReader(response.Body, maxReply)
	switch {
	case response.StatusCode != http.StatusOK:
		_, err = io.Copy(io.Discard, from)
		return reply, err
	case stream:
		err = reply.readStream(from, func() bool { return cancel && reply.Text != "" })
	default:
		err = reply.readWhole(from)
	}
	return reply, err
}

func (r *Reply) readWhole(from io.Reader) error {
	raw, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	var said struct {
		Choices []struct {
			Message Message `json:"message"`
			Finish  string  `json:"finish_reason"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(raw, &said); err != nil || len(said.Choices) == 0 {
		return lifecycle.Errorf(lifecycle.Unavailable, "the answer holds no choice")
	}
	r.Text, r.Finish = said.Choices[0].Message.Content, said.Choices[0].Finish
	return nil
}

// readStream reads events until [DONE] or until enough says that the client leaves. A stream that ends before is
// an error.
func (r *Reply) readStream(from io.Reader, enough func() bool) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 16<<10), maxReply)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			return nil
		}
		var event struct {
			Choices []struct {
				Delta  Message `json:"delta"`
				Finish string  `json:"finish_reason"`
			} `json:"choices"`
		}
		if err := json.Unmarshal(data, &event); err != nil {
			return lifecycle.Errorf(lifecycle.Unavailable, "an event of the stream is not JSON: %w", err)
		}
		for _, choice := range event.Choices {
			r.Text += choice.Delta.Content
			if choice.Finish != "" {
				r.Finish = choice.Finish
			}
		}
		if enough() {
			r.Canceled = true
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the stream ended before [DONE]")
}

// feedback says what the person thinks of an answer.
func (c chatClient) feedback(ctx context.Context, f lifecycle.Feedback) error {
	body, err := json.Marshal(map[string]string{
		"service": c.service, "interaction": f.Interaction, "kind": f.Kind, "reason": f.Reason, "correction": f.Correction,
	})
	if err != nil {
		return err
	}
	response, err := c.post(ctx, "/v1/feedback", body, "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		return lifecycle.Errorf(lifecycle.Unavailable, "the gateway answered %s to feedback: %s", response.Status, strings.TrimSpace(string(said)))
	}
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxReply))
	return err
}

func (c chatClient) post(ctx context.Context, path string, body []byte, key string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.gateway+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+c.bearer)
	if key != "" {
		request.Header.Set(headerConversation, key)
	}
	return c.http.Do(request)
}
