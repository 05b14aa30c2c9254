package server

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Outcomes of requests.
const (
	outcomeOK       = "ok"
	outcomeCanceled = "canceled"
	outcomeError    = "error"
	outcomeRejected = "rejected"
	outcomeInvalid  = "invalid"
	outcomeNotFound = "not_found"
)

// Endpoints, as labels and log lines spell them.
const (
	chat        = "chat"
	completions = "completions"
	embeddings  = "embeddings"
)

type series struct{ model, endpoint, outcome string }

// metrics counts since the start. Its labels come from a fixed set: served names, endpoints, outcomes.
type metrics struct {
	mu               sync.Mutex
	requests         map[series]int64
	seconds          map[series]float64 // of admitted requests, by model and endpoint
	admitted         map[series]int64
	running          map[string]int64 // by model
	promptTokens     map[string]int64
	completionTokens map[string]int64
}

func newMetrics() *metrics {
	return &metrics{
		requests: map[series]int64{}, seconds: map[series]float64{}, admitted: map[series]int64{},
		running: map[string]int64{}, promptTokens: map[string]int64{}, completionTokens: map[string]int64{},
	}
}

func (m *metrics) begin(model string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[model]++
}

// end counts a request that begin was called for.
func (m *metrics) end(s series, u usage, seconds float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[s.model]--
	m.promptTokens[s.model] += int64(u.PromptTokens)
	m.completionTokens[s.model] += int64(u.CompletionTokens)
	m.requests[s]++
	s.outcome = ""
	m.seconds[s] += seconds
	m.admitted[s]++
}

// refuse counts a request that was not admitted.
func (m *metrics) refuse(s series) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[s]++
}

// write gives all series in the text format of Prometheus, in a fixed order.
func (m *metrics) write(out io.Writer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	head := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }

	head("refit_runtime_requests_total", "counter", "Requests by served name, endpoint and outcome.")
	for _, s := range sorted(m.requests) {
		fmt.Fprintf(&b, "refit_runtime_requests_total{model=%q,endpoint=%q,outcome=%q} %d\n", s.model, s.endpoint, s.outcome, m.requests[s])
	}
	head("refit_runtime_request_seconds", "summary", "Time of admitted requests, waiting included.")
	for _, s := range sorted(m.seconds) {
		fmt.Fprintf(&b, "refit_runtime_request_seconds_sum{model=%q,endpoint=%q} %g\n", s.model, s.endpoint, m.seconds[s])
		fmt.Fprintf(&b, "refit_runtime_request_seconds_count{model=%q,endpoint=%q} %d\n", s.model, s.endpoint, m.admitted[s])
	}
	for _, each := range []struct {
		name, kind, help string
		values           map[string]int64
	}{
		{"refit_runtime_requests_running", "gauge", "Requests that are being computed.", m.running},
		{"refit_runtime_prompt_tokens_total", "counter", "Tokens of prompts and embedded texts that were read.", m.promptTokens},
		{"refit_runtime_completion_tokens_total", "counter", "Tokens that were generated.", m.completionTokens},
	} {
		head(each.name, each.kind, each.help)
		for _, model := range slices.Sorted(maps.Keys(each.values)) {
			fmt.Fprintf(&b, "%s{model=%q} %d\n", each.name, model, each.values[model])
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func sorted[V any](m map[series]V) []series {
	return slices.SortedFunc(maps.Keys(m), func(a, b series) int {
		return cmp.Or(strings.Compare(a.model, b.model), strings.Compare(a.endpoint, b.endpoint), strings.Compare(a.outcome, b.outcome))
	})
}
