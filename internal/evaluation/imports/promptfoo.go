package imports

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// promptfooFile is what is read of promptfoo's output.
type promptfooFile struct {
	Config struct {
		Description string `json:"description"`
	} `json:"config"`
	Results struct {
		Version int               `json:"version"`
		Results []promptfooResult `json:"results"`
	} `json:"results"`
}

type promptfooResult struct {
	Test   int `json:"testIdx"`
	Number int `json:"promptIdx"`
	Prompt struct {
		Raw string `json:"raw"`
	} `json:"prompt"`
	Provider struct {
		ID string `json:"id"`
	} `json:"provider"`
	Response *struct {
		Output     json.RawMessage `json:"output"`
		TokenUsage struct {
			Prompt     int `json:"prompt"`
			Completion int `json:"completion"`
		} `json:"tokenUsage"`
	} `json:"response"`
	Milliseconds float64 `json:"latencyMs"`
	TestCase     struct {
		Assert []assertion `json:"assert"`
	} `json:"testCase"`
	Grading *struct {
		Parts []struct {
			Pass      bool      `json:"pass"`
			Assertion assertion `json:"assertion"`
		} `json:"componentResults"`
	} `json:"gradingResult"`
}

type assertion struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// like gives the scorer that an assertion is, and its references. Other assertions run code, ask a model or measure what
// a case does not hold.
func (a assertion) like() (spec score.Spec, want []string, ok bool) {
	settings := map[string]string{
		"contains": `{"case":true}`, "icontains": ``, "contains-any": `{"case":true}`, "icontains-any": ``,
		"contains-all": `{"all":true,"case":true}`, "icontains-all": `{"all":true}`, "equals": ``, "regex": ``, "starts-with": ``,
		"is-json": ``, "bleu": ``, "rouge-l": ``,
	}
	raw, known := settings[a.Type]
	if !known {
		return spec, nil, false
	}
	want, ok = texts(a.Value)
	switch a.Type {
	case "equals":
		spec.Name = "exact"
	case "regex":
		spec.Name = "regex"
	case "starts-with":
		spec.Name = "regex"
		for i := range want {
			want[i] = `\A` + regexp.QuoteMeta(want[i])
		}
	case "is-json":
		schema := a.Value
		if len(schema) == 0 || string(schema) == "null" {
			schema = json.RawMessage("true")
		}
		raw, spec.Name, want, ok = `{"schema":`+string(schema)+`}`, "json-schema", nil, schema[0] == '{' || schema[0] == 't'
	case "bleu", "rouge-l":
		spec.Name = a.Type
	default:
		spec.Name = "contains"
	}
	if raw != "" {
		spec.Settings = json.RawMessage(raw)
	}
	return spec, want, ok
}

// readPromptfoo makes a capability of each kind of assertion, because a capability is scored in one way: a test with two
// kinds is a case in both. All prompts of one test are one group.
func readPromptfoo(name string, r io.Reader, add *collector) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var file promptfooFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "no results of promptfoo: %w", kindOnly(err))
	}
	if len(file.Results.Results) == 0 {
		return errors.New("no results of promptfoo: results.results is empty")
	}
	provider := file.Results.Results[0].Provider.ID
	for _, result := range file.Results.Results {
		if result.Test < 0 || result.Number < 0 {
			return errors.New("results.results: testIdx or promptIdx is negative")
		}
		if result.Provider.ID != provider {
			add.note("answers of provider %q are left out; those of %q are kept", result.Provider.ID, provider)
			continue
		}
		result.read(cmp.Or(file.Config.Description, stem(name)), add)
	}
	return nil
}

func (p promptfooResult) read(name string, add *collector) {
	ask := json.RawMessage(p.Prompt.Raw)
	if !strings.HasPrefix(strings.TrimSpace(p.Prompt.Raw), "[") || !json.Valid(ask) {
		ask, _ = json.Marshal(p.Prompt.Raw) // a text always encodes
	}
	c, ok := asked(ask)
	if !ok {
		add.note("a prompt is empty, or a chat that the user does not end; it makes no case")
		return
	}
	c.Group = fmt.Sprint(nameOf(name), "/", p.Test)
	for i, a := range p.TestCase.Assert {
		spec, want, ok := a.like()
		if !ok {
			add.note("assertions of type %q are left out", a.Type)
			continue
		}
		named := nameOf(name) + "-" + a.Type
		if spec.Name == "json-schema" {
			named += "-" + lifecycle.DigestOf(spec.Settings).Short()[:6] // each schema is a capability of its own
		}
		into := add.capability(named, evaluation.Generate, spec)
		made := withWant(c, want)
		made.ID = fmt.Sprintf("%d-%d-%d", p.Test, p.Number, i)
		p.answer(into, into.add(made), i, add)
	}
}

func (p promptfooResult) answer(into *capability, id string, i int, add *collector) {
	if p.Response == nil {
		add.note("%s: a test ended in an error; its case is kept without an answer", into.Name)
		return
	}
	said, ok := texts(p.Response.Output)
	if !ok || len(said) != 1 {
		said = []string{string(p.Response.Output)} // an object: its JSON is what was said
	}
	g := given{
		item: score.Item{Said: said[0]},
		answer: evaluation.Answer{
			Case: id, Said: evaluation.Bounded(said[0]), Seconds: p.Milliseconds / 1000,
			Usage: lifecycle.Usage{Prompt: p.Response.TokenUsage.Prompt, Completion: p.Response.TokenUsage.Completion},
		},
	}
	if p.Grading != nil && i < len(p.Grading.Parts) && p.Grading.Parts[i].Assertion.Type == p.TestCase.Assert[i].Type && add.how.Score == "" {
		passed := 0.0
		if p.Grading.Parts[i].Pass {
			passed = 1
		}
		if into.Binary() {
			g.tool = &passed
		}
	}
	into.answered(g)
}
