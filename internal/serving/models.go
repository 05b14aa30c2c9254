package serving

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

const (
	maxModelList = 4 << 20  // bytes of /v1/models that are read
	maxMetrics   = 16 << 20 // bytes of /metrics that are read
)

// listModels asks a server which names it serves. Whatever is not a list is Unavailable.
func listModels(ctx context.Context, client *http.Client, base, apiKey string) (map[string]bool, error) {
	body, err := get(ctx, client, strings.TrimRight(base, "/")+"/v1/models", apiKey, maxModelList)
	if err != nil {
		return nil, err
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model list of %s is not one: %w", base, err)
	}
	names := make(map[string]bool, len(list.Data))
	for _, model := range list.Data {
		names[model.ID] = true
	}
	return names, nil
}

func get(ctx context.Context, client *http.Client, url, apiKey string, limit int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "address %q: %w", url, err)
	}
	return do(client, request, apiKey, limit)
}

// post sends a small JSON request and throws the answer away; only its status counts.
func post(ctx context.Context, client *http.Client, url string, body any, header http.Header) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "address %q: %w", url, err)
	}
	request.Header = header.Clone()
	request.Header.Set("Content-Type", "application/json")
	_, err = do(client, request, "", maxModelList)
	return err
}

func do(client *http.Client, request *http.Request, apiKey string, limit int64) ([]byte, error) {
	if apiKey != "" {
		request.Header.Set("Authorization", "Bearer "+apiKey)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "ask a model server: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "read the answer of %s: %w", request.URL, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "%s %s answered %s", request.Method, request.URL, response.Status)
	}
	if int64(len(body)) > limit {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the answer of %s is longer than %d bytes", request.URL, limit)
	}
	return body, nil
}
