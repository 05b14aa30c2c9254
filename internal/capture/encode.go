package capture

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// fields writes a JSON object member by member, as encoding/json does with lifecycle's tags, at a tenth of the time:
// every answer waits for its record. What no JSON can hold is in err.
type fields struct {
	out []byte
	err error
}

func (f *fields) key(name string) {
	if last := f.out[len(f.out)-1]; last != '{' {
		f.out = append(f.out, ',')
	}
	f.out = append(append(append(f.out, '"'), name...), '"', ':')
}

func (f *fields) text(name, value string) {
	f.key(name)
	f.quote(value)
}

// some writes what is not empty.
func (f *fields) some(name, value string) {
	if value != "" {
		f.text(name, value)
	}
}

func (f *fields) integer(name string, value int) {
	f.key(name)
	f.out = strconv.AppendInt(f.out, int64(value), 10)
}

func (f *fields) flag(name string, value bool) {
	f.key(name)
	f.out = strconv.AppendBool(f.out, value)
}

func (f *fields) number(name string, value float64) {
	f.key(name)
	f.float(value)
}

func (f *fields) float(value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		f.err = lifecycle.Errorf(lifecycle.Invalid, "%v is no number of JSON", value)
		value = 0
	}
	f.out = strconv.AppendFloat(f.out, value, 'g', -1, 64)
}

func (f *fields) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	f.key(name)
	f.out = append(f.out, '[')
	for i, value := range values {
		if i > 0 {
			f.out = append(f.out, ',')
		}
		f.quote(value)
	}
	f.out = append(f.out, ']')
}

// quote writes a string. Nearly all are plain; encoding/json knows what to do with the others.
func (f *fields) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil {
				f.err = err
			}
			f.out = append(f.out, quoted...)
			return
		}
	}
	f.out = append(append(append(f.out, '"'), s...), '"')
}

// interaction writes all of an interaction but its texts.
func (f *fields) interaction(i *lifecycle.Interaction) {
	f.out = append(f.out, '{')
	f.text("id", i.ID)
	f.text("service", i.Service)
	f.text("conversation", i.Conversation)
	f.integer("turn", i.Turn)
	f.some("client", i.Client)
	f.text("release", string(i.Release))
	f.some("rollout", i.Rollout)
	f.integer("step", i.Step)
	f.flag("canary", i.Canary)
	f.flag("coin", i.Coin)
	f.number("propensity", i.Propensity)
	if i.Moved {
		f.flag("moved", true)
	}
	if i.Rescued {
		f.flag("rescued", true)
	}
	f.text("endpoint", i.Endpoint)
	f.key("started")
	f.out = append(f.out, '"')
	var err error
	if f.out, err = i.Started.AppendText(f.out); err != nil {
		f.err = err
	}
	f.out = append(f.out, '"')
	f.measures(i)
	f.text("outcome", i.Outcome)
	f.integer("status", i.Status)
	f.texts("guardrails", i.Guardrails)
	f.some("finish", i.Finish)
	f.texts("passages", i.Passages)
	f.some("owner", i.Owner)
	f.some("content", string(i.Content))
	f.made(i)
	f.out = append(f.out, '}')
}

func (f *fields) measures(i *lifecycle.Interaction) {
	f.key("latency")
	f.out = append(f.out, '{')
	f.number("retrieval", i.Latency.Retrieval)
	if i.Latency.Queue != 0 {
		f.number("queue", i.Latency.Queue)
	}
	f.number("first_token", i.Latency.FirstToken)
	f.number("model", i.Latency.Model)
	f.number("post_processing", i.Latency.PostProcessing)
	f.number("total", i.Latency.Total)
	f.out = append(f.out, '}')
	f.key("usage")
	f.out = append(f.out, '{')
	f.integer("prompt_tokens", i.Usage.Prompt)
	f.integer("completion_tokens", i.Usage.Completion)
	f.out = append(f.out, '}')
}

// made writes what an answer was made with.
func (f *fields) made(i *lifecycle.Interaction) {
	if len(i.Scores) > 0 {
		f.key("scores")
		f.out = append(f.out, '[')
		for n, score := range i.Scores {
			if n > 0 {
				f.out = append(f.out, ',')
			}
			f.float(score)
		}
		f.out = append(f.out, ']')
	}
	if len(i.Parameters) > 0 {
		if !json.Valid(i.Parameters) {
			f.err = lifecycle.Errorf(lifecycle.Invalid, "the parameters of interaction %s are no JSON", i.ID)
		}
		f.key("parameters")
		f.out = append(f.out, i.Parameters...)
	}
	if i.Used != (lifecycle.Used{}) {
		f.key("used")
		f.used(i.Used)
	}
}

func (f *fields) used(u lifecycle.Used) {
	f.out = append(f.out, '{')
	f.some("prompt", string(u.Prompt))
	f.some("index", string(u.Index))
	f.some("parameters", string(u.Parameters))
	f.some("post_process", string(u.PostProcess))
	f.some("rescued_by", string(u.RescuedBy))
	f.out = append(f.out, '}')
}
