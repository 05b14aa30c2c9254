package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// APIPath is where the use cases are, each by its name.
const APIPath = "/api/v1/"

// maxAnswer bounds what a client reads, in bytes.
const maxAnswer = 32 << 20

// Client calls the use cases over HTTP: one address, one token.
type Client struct {
	URL   string
	Token string
	HTTP  *http.Client // default http.DefaultClient
}

// Call does a use case over HTTP. An API that cannot be reached is Unavailable.
func Call[In, Out any](ctx context.Context, c Client, u UseCase[In, Out], in In) (Out, error) {
	var out Out
	body, err := json.Marshal(in)
	if err != nil {
		return out, lifecycle.Errorf(lifecycle.Invalid, "%s: input: %w", u.Name, err)
	}
	url := strings.TrimSuffix(c.URL, "/") + APIPath + u.Name
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return out, lifecycle.Errorf(lifecycle.Invalid, "control.url: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+c.Token)
	answer, err := c.http().Do(request)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return out, err
		}
		return out, lifecycle.Errorf(lifecycle.Unavailable, "ask the control API at %s (is `refit up` running?): %w", c.URL, err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return out, lifecycle.Errorf(lifecycle.Unavailable, "read the control API's answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return out, problem(answer.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, lifecycle.Errorf(lifecycle.Internal, "read the control API's answer to %s: %w", u.Name, err)
	}
	return out, nil
}

func (c Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

func problem(status int, raw []byte) error {
	var e lifecycle.Error
	if json.Unmarshal(raw, &e) == nil && e.Kind != "" {
		return &e
	}
	kind := lifecycle.Unavailable
	if status == http.StatusUnauthorized {
		kind = lifecycle.Refused
	}
	return lifecycle.Errorf(kind, "the control API answered %d %s", status, http.StatusText(status))
}
