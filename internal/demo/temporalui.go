package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// temporalUI is the Temporal UI's HTTP API, used as the page in a browser uses it.
type temporalUI struct {
	base, namespace string
	http            *http.Client // with a jar: the API wants its own cookie back as a header
}

func newTemporalUI(base, namespace string) (*temporalUI, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &temporalUI{
		base: strings.TrimSuffix(base, "/"), namespace: namespace, http: &http.Client{Jar: jar, Timeout: 10 * time.Second},
	}, nil
}

// payload is JSON in Temporal's form; []byte is base64 in JSON, which is what the API takes.
type payload struct {
	Metadata map[string][]byte `json:"metadata"`
	Data     []byte            `json:"data"`
}

// start starts a workflow under an ID that nobody else chose and gives the ID.
func (u *temporalUI) start(ctx context.Context, workflow string, input any) (string, error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return "", err
	}
	id := "from-the-ui-" + strings.ToLower(rand.Text())
	body := map[string]any{
		"workflowType": map[string]string{"name": workflow}, "taskQueue": map[string]string{"name": steps.Queue},
		"requestId": rand.Text(), "identity": "demo",
		"input": map[string]any{"payloads": []payload{{map[string][]byte{"encoding": []byte("json/plain")}, raw}}},
	}
	if _, err := u.call(ctx, http.MethodGet, u.base+"/api/v1/settings", nil); err != nil { // sets the cookie
		return "", lifecycle.Wrap(err, "ask the Temporal UI for its settings")
	}
	_, err = u.call(ctx, http.MethodPost, u.workflow(id), body)
	return id, lifecycle.Wrap(err, "start %s from the Temporal UI", workflow)
}

func (u *temporalUI) workflow(id string) string {
	return u.base + "/api/v1/namespaces/" + url.PathEscape(u.namespace) + "/workflows/" + url.PathEscape(id)
}

// failure is how a workflow failed, as the UI shows it.
type failure struct {
	Type    string
	Message string
	Fields  map[string]string
}

// failureNode is a failure in Temporal's form. That of a step lies under the one that says that a step failed.
type failureNode struct {
	Message string `json:"message"`
	Info    struct {
		Type    string `json:"type"`
		Details struct {
			Payloads []payload `json:"payloads"`
		} `json:"details"`
	} `json:"applicationFailureInfo"`
	Cause *failureNode `json:"cause"`
}

// read gives the outermost failure that has a type.
func (n *failureNode) read() failure {
	for at := n; at != nil; at = at.Cause {
		if at.Info.Type == "" {
			continue
		}
		out := failure{Type: at.Info.Type, Message: at.Message}
		if len(at.Info.Details.Payloads) > 0 {
			_ = json.Unmarshal(at.Info.Details.Payloads[0].Data, &out.Fields) // a convenience; the message says it all
		}
		return out
	}
	return failure{Message: n.Message}
}

// await waits until the workflow ends and gives its failure. A workflow that ended in another way is Conflict.
func (u *temporalUI) await(ctx context.Context, id string) (failure, error) {
	for {
		raw, err := u.call(ctx, http.MethodGet, u.workflow(id)+"/history?historyEventFilterType=HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT", nil)
		if err != nil {
			return failure{}, lifecycle.Wrap(err, "read the history of %s", id)
		}
		out, ended, err := readFailure(raw)
		if ended || err != nil {
			return out, lifecycle.Wrap(err, "how %s ended", id)
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return failure{}, err
		}
	}
}

// readFailure reads a history's last event. Another event than one of closing means that the run goes on.
func readFailure(raw []byte) (out failure, ended bool, err error) {
	var answer struct {
		History struct {
			Events []struct {
				Type   string `json:"eventType"`
				Failed *struct {
					Failure failureNode `json:"failure"`
				} `json:"workflowExecutionFailedEventAttributes"`
			} `json:"events"`
		} `json:"history"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return out, false, lifecycle.Errorf(lifecycle.Unavailable, "the history cannot be read: %w", err)
	}
	if len(answer.History.Events) == 0 {
		return out, false, nil
	}
	last := answer.History.Events[len(answer.History.Events)-1]
	switch last.Type {
	case "EVENT_TYPE_WORKFLOW_EXECUTION_FAILED":
	case "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED", "EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT", "EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED",
		"EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED", "EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW":
		return out, true, lifecycle.Errorf(lifecycle.Conflict, "it did not fail: %s", last.Type)
	default:
		return out, false, nil
	}
	if last.Failed == nil {
		return out, true, lifecycle.Errorf(lifecycle.Unavailable, "its failure is not in the history")
	}
	return last.Failed.Failure.read(), true, nil
}

func (u *temporalUI) call(ctx context.Context, method, address string, body any) ([]byte, error) {
	var sent io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, sent)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	for _, cookie := range u.http.Jar.Cookies(request.URL) {
		if cookie.Name == "_csrf" {
			request.Header.Set("X-CSRF-TOKEN", cookie.Value)
		}
	}
	response, err := u.http.Do(request)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "ask the Temporal UI: %w", err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "read the Temporal UI's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the Temporal UI answered %s: %s", response.Status, clip(string(raw), 300))
	}
	return raw, nil
}
