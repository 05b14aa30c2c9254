package serving

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/refitml/refit/internal/lifecycle"
)

// requestsMetric is the reference runtime's own counter of requests by served name.
const requestsMetric = "refit_runtime_requests_total"

// Served reads how many generation requests (chat, completions and images) the model servers admitted under each
// name, summed over the endpoints, each server once. It is what the servers counted themselves, not what a
// gateway says it sent. Counters begin at 0 when a server starts and include warm-up requests: take
// differences, and a lower number than before means a restart. A server that cannot be read is an error,
// because a count without it would be too small.
func Served(ctx context.Context, client *http.Client, endpoints []lifecycle.Endpoint) (map[string]int64, error) {
	if client == nil {
		client = http.DefaultClient
	}
	total := make(map[string]int64)
	read := make(map[string]bool)
	for _, endpoint := range endpoints {
		base := strings.TrimRight(endpoint.URL, "/")
		if read[base] {
			continue
		}
		read[base] = true
		body, err := get(ctx, client, base+"/metrics", "", maxMetrics)
		if err != nil {
			return nil, lifecycle.Wrap(err, "count what %s served", base)
		}
		counts, err := parseServed(body)
		if err != nil {
			return nil, lifecycle.Wrap(err, "count what %s served", base)
		}
		for name, n := range counts {
			total[name] += n
		}
	}
	return total, nil
}

func parseServed(body []byte) (map[string]int64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "metrics cannot be read: %w", err)
	}
	counts := make(map[string]int64)
	family := families[requestsMetric]
	if family == nil {
		return counts, nil // a counter vector without a request has no series yet
	}
	if family.GetType() != dto.MetricType_COUNTER {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "%s is not a counter", requestsMetric)
	}
	for _, metric := range family.GetMetric() {
		labels := make(map[string]string, len(metric.GetLabel()))
		for _, pair := range metric.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		admitted := labels["outcome"] != "rejected" && labels["outcome"] != "not_found" && labels["outcome"] != "invalid"
		if slices.Contains([]string{"chat", "completions", "images"}, labels["endpoint"]) && admitted {
			counts[labels["model"]] += int64(metric.GetCounter().GetValue())
		}
	}
	return counts, nil
}
