package imports

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
)

// sample is one line of lm-evaluation-harness' per-sample log.
type sample struct {
	DocID     json.Number       `json:"doc_id"`
	Target    json.RawMessage   `json:"target"`
	Arguments json.RawMessage   `json:"arguments"` // {"gen_args_0": {"arg_0": ...}}, before 0.4.5 a list of lists
	Resps     []json.RawMessage `json:"resps"`
	Filter    string            `json:"filter"`
	Metrics   []string          `json:"metrics"`
	values    map[string]json.RawMessage
}

// request is one call to the model: what it was given, and how.
type request struct {
	context      string
	continuation *string                    // of log-likelihoods
	settings     map[string]json.RawMessage // of generation
}

var samplesFile = regexp.MustCompile(`^samples_(.+)_\d{4}-\d{2}-\d{2}T.*$`)

// readLMEval reads one task's samples.
func readLMEval(name string, r io.Reader, add *collector) error {
	task := stem(name)
	if m := samplesFile.FindStringSubmatch(task); m != nil {
		task = m[1]
	}
	filter := ""
	return eachLine(r, func(line int, raw json.RawMessage) error {
		var s sample
		if err := errors.Join(json.Unmarshal(raw, &s), json.Unmarshal(raw, &s.values)); err != nil || s.DocID == "" {
			return errors.New("no sample of lm-evaluation-harness: doc_id, arguments and resps are needed")
		}
		if filter == "" {
			filter = s.Filter
		}
		if s.Filter != filter {
			add.note("%s: answers by filter %q are left out; those by %q are kept", task, s.Filter, filter)
			return nil
		}
		requests, err := requestsOf(s.Arguments)
		if err != nil {
			return err
		}
		switch {
		case len(requests) > 1 && all(requests, func(q request) bool { return q.continuation != nil && q.context == requests[0].context }):
			return s.choice(task, requests, add)
		case len(requests) == 1 && requests[0].settings != nil:
			return s.generated(task, requests[0], add)
		case len(requests) == 1 && requests[0].continuation == nil:
			return s.rolling(task, requests[0], add)
		case len(requests) == 1:
			return s.continued(task, requests[0], add)
		default:
			add.note("%s: an item asks the likelihood of choices after different texts; that cannot be asked here", task)
			return nil
		}
	})
}

func all(requests []request, fits func(request) bool) bool {
	return !slices.ContainsFunc(requests, func(q request) bool { return !fits(q) })
}

// requestsOf reads both forms of arguments.
func requestsOf(raw json.RawMessage) ([]request, error) {
	var lists [][]json.RawMessage
	if json.Unmarshal(raw, &lists) != nil {
		var named map[string]map[string]json.RawMessage
		if json.Unmarshal(raw, &named) != nil {
			return nil, errors.New("arguments: neither gen_args nor lists")
		}
		for i := range len(named) {
			call, ok := named["gen_args_"+strconv.Itoa(i)]
			if !ok {
				return nil, errors.New("arguments: gen_args are not numbered from 0")
			}
			var list []json.RawMessage
			for j := range len(call) {
				list = append(list, call["arg_"+strconv.Itoa(j)])
			}
			lists = append(lists, list)
		}
	}
	var requests []request
	for _, list := range lists {
		var q request
		if len(list) < 1 || len(list) > 2 || json.Unmarshal(list[0], &q.context) != nil {
			return nil, errors.New("arguments: the first is no text, or there are more than two")
		}
		if len(list) == 2 {
			var continuation string
			switch {
			case json.Unmarshal(list[1], &continuation) == nil:
				q.continuation = &continuation
			case json.Unmarshal(list[1], &q.settings) != nil || q.settings == nil:
				return nil, errors.New("arguments: the second is neither a text nor an object")
			}
		}
		requests = append(requests, q)
	}
	return requests, nil
}

// choice makes a case of multiple choice. The choices stand after the text as the harness put them, white space too.
func (s sample) choice(task string, requests []request, add *collector) error {
	by := "sum"
	if !slices.Contains(s.Metrics, "acc") && slices.Contains(s.Metrics, "acc_norm") {
		by = "bytes"
		add.note("%s: acc_norm divides by the choice's own characters, likeliest by its bytes with the white space before it", task)
	}
	into := add.capability(task, evaluation.Choice, score.Spec{Name: "likeliest", Settings: json.RawMessage(`{"by":"` + by + `"}`)})
	c := evaluation.Case{ID: s.DocID.String(), Text: requests[0].context}
	for _, q := range requests {
		c.Choices = append(c.Choices, *q.continuation)
	}
	target, ok := texts(s.Target)
	if !ok {
		return errors.New("target: no choice is right")
	}
	right, err := strconv.Atoi(target[0])
	if err != nil || right < 0 || right >= len(c.Choices) {
		return errors.New("target: not the number of a choice")
	}
	if c.Text == "" {
		add.note("%s: an item has choices and nothing before them; that cannot be asked here", task)
		return nil
	}
	c.Want = c.Choices[right]
	g := given{answer: evaluation.Answer{Case: into.add(c)}, tool: s.value("acc")}
	for i, choice := range c.Choices {
		logprob, ok := s.logprob(i)
		if !ok {
			return nil
		}
		g.item.Choices = append(g.item.Choices, score.Choice{Text: choice, Logprob: logprob, Tokens: 1})
	}
	if by == "bytes" {
		g.tool = s.value("acc_norm")
	}
	if g.answer.Said, err = score.Likeliest(g.item.Choices, by); err != nil {
		return nil // an answer of the tool's that is none
	}
	into.answered(g)
	return nil
}

// logprob reads [[["-0.9", "False"]], ...]: of request i, the first repeat.
func (s sample) logprob(i int) (float64, bool) {
	if i >= len(s.Resps) {
		return 0, false
	}
	var repeats [][]json.RawMessage
	if json.Unmarshal(s.Resps[i], &repeats) != nil || len(repeats) == 0 || len(repeats[0]) == 0 {
		return 0, false
	}
	return float(repeats[0][0])
}

// float reads a number, or one that is written as a text.
func float(raw json.RawMessage) (float64, bool) {
	list, ok := texts(raw)
	if !ok {
		return 0, false
	}
	value, err := strconv.ParseFloat(list[0], 64)
	return value, err == nil && !math.IsNaN(value) && !math.IsInf(value, 0)
}

func (s sample) value(metric string) *float64 {
	if value, ok := float(s.values[metric]); ok {
		return &value
	}
	return nil
}

// likeMetrics are the harness' metrics with the scorer that is most like each.
var likeMetrics = []struct{ metric, scorer string }{
	{"exact_match", "exact"}, {"em", "normalised"}, {"f1", "token-f1"}, {"rougeL", "rouge-l"}, {"bleu", "bleu"}, {"chrf", "chrf"},
}

// generated makes a case of an answer in words.
func (s sample) generated(task string, q request, add *collector) error {
	scorer, metric := "exact", ""
	for _, like := range likeMetrics {
		if slices.Contains(s.Metrics, like.metric) {
			scorer, metric = like.scorer, like.metric
			break
		}
	}
	if metric == "" {
		add.note("%s: none of its metrics is known here; scored by exact, choose another with --score", task)
	}
	into := add.capability(task, evaluation.Generate, score.Spec{Name: scorer})
	q.sampling(task, into, add)
	want, ok := texts(s.Target)
	if !ok {
		return errors.New("target: no reference")
	}
	c := withWant(evaluation.Case{ID: s.DocID.String(), Text: q.context}, want)
	id := into.add(c)
	if len(s.Resps) == 0 {
		return nil
	}
	repeats, _ := texts(s.Resps[0])
	for i, said := range repeats {
		g := given{answer: evaluation.Answer{Case: id, Sample: i, Said: evaluation.Bounded(said)}, item: score.Item{Question: q.context, Said: said}}
		if len(repeats) == 1 && add.how.Score == "" && metric != "" {
			g.tool = s.value(metric)
		}
		into.answered(g)
	}
	return nil
}

// sampling takes over the parameters that a suite has.
func (q request) sampling(task string, into *capability, add *collector) {
	if _, given := q.settings["until"]; given {
		add.note("%s: the texts that end an answer (until) are not carried over; a release has its own", task)
	}
	sampling := evaluation.Sampling{}
	if into.Sampling != nil {
		sampling = *into.Sampling
	}
	if n, ok := float(q.settings["max_gen_toks"]); ok && n >= 1 && n <= 1<<20 {
		sampling.MaxTokens = int(n)
	}
	if t, ok := float(q.settings["temperature"]); ok && t >= 0 && t <= 2 {
		sampling.Temperature = &t
	}
	if sampling != (evaluation.Sampling{}) {
		into.Sampling = &sampling
	}
}

// continued makes a case of one text whose likelihood after another is measured, as LAMBADA's tasks do. The harness' own
// metrics are of all items together: its perplexity is e to the mean of these likelihoods, so bits are the ones most like it.
func (s sample) continued(task string, q request, add *collector) error {
	if strings.TrimSpace(q.context) == "" || *q.continuation == "" {
		add.note("%s: an item has nothing before or after; that cannot be asked here", task)
		return nil
	}
	if slices.Contains(s.Metrics, "acc") {
		add.note("%s: acc, whether each token was the likeliest, is not carried over; bits of the continuation are measured", task)
	}
	into := add.capability(task, evaluation.Likelihood, score.Spec{Name: "bits-per-byte"})
	g := given{answer: evaluation.Answer{Case: into.add(evaluation.Case{ID: s.DocID.String(), Text: q.context, Want: *q.continuation})}}
	if logprob, ok := s.logprob(0); ok {
		g.item = score.Item{Text: *q.continuation, Bits: -logprob / math.Ln2, Bytes: len(*q.continuation)}
		g.answer.Bits, g.answer.Bytes = g.item.Bits, g.item.Bytes
		into.answered(g)
	}
	return nil
}

// rolling makes a case of a text whose likelihood is measured.
func (s sample) rolling(task string, q request, add *collector) error {
	if q.context == "" {
		add.note("%s: an item has no text", task)
		return nil
	}
	spec := score.Spec{Name: "bits-per-byte"}
	for metric, settings := range map[string]string{"word_perplexity": `{"per":"word"}`, "byte_perplexity": `{"per":"byte"}`} {
		if len(s.Metrics) == 1 && s.Metrics[0] == metric {
			spec = score.Spec{Name: "perplexity", Settings: json.RawMessage(settings)}
		}
	}
	into := add.capability(task, evaluation.Likelihood, spec)
	if spec.Name == "perplexity" {
		into.Margin = 1
		add.note("%s: a margin of 1 was put; say what drop of perplexity is still accepted", task)
	}
	g := given{answer: evaluation.Answer{Case: into.add(evaluation.Case{ID: s.DocID.String(), Text: q.context})}}
	if len(s.Resps) == 0 {
		return nil
	}
	var repeats []json.RawMessage
	if json.Unmarshal(s.Resps[0], &repeats) != nil || len(repeats) == 0 {
		return nil
	}
	if logprob, ok := float(repeats[0]); ok {
		g.item = score.Item{Text: q.context, Bits: -logprob / math.Ln2, Bytes: len(q.context)}
		g.answer.Bits, g.answer.Bytes = g.item.Bits, g.item.Bytes
		into.answered(g)
	}
	return nil
}
