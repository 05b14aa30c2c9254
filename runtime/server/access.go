package server

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// access is one line of the access log. It holds no text that a client sent but the two identifiers.
type access struct {
	Time             time.Time `json:"time"` // when the request came
	RequestID        string    `json:"request_id"`
	ConversationHash string    `json:"conversation_hash,omitempty"` // as the gateway sent it
	Model            string    `json:"model"`                       // served name
	Endpoint         string    `json:"endpoint"`
	Stream           bool      `json:"stream"`
	Outcome          string    `json:"outcome"`
	PromptTokens     int       `json:"prompt_tokens"`
	CutTokens        int       `json:"cut_tokens,omitempty"` // of the prompt, that did not fit
	CompletionTokens int       `json:"completion_tokens"`
	WaitedSeconds    float64   `json:"waited_s"` // until it was its turn
	Seconds          float64   `json:"seconds"`  // in all
}

// accessLog writes lines with one write each.
type accessLog struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *accessLog) add(a access) error {
	if l.out == nil {
		return nil
	}
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode a line of the access log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the access log: %w", err)
	}
	return nil
}
