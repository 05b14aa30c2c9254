package form

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/refitml/refit/internal/evaluation"
)

// suiteForm and the types below are the form; their tags are its field names.
type suiteForm struct {
	Suite        string           `yaml:"suite,omitempty"`
	Seed         whole            `yaml:"seed,omitempty"`
	Split        string           `yaml:"split,omitempty"`
	Capabilities []capabilityForm `yaml:"capabilities,omitempty"`
}

type capabilityForm struct {
	Name     string        `yaml:"name,omitempty"`
	Ask      string        `yaml:"ask,omitempty"`
	Score    scorerForm    `yaml:"score,omitempty"`
	Margin   *float64      `yaml:"margin,omitempty"`
	Exact    bool          `yaml:"exact,omitempty"`
	Split    string        `yaml:"split,omitempty"`
	Tags     []string      `yaml:"tags,omitempty"`
	Sampling *samplingForm `yaml:"sampling,omitempty"`
	Files    []string      `yaml:"files,omitempty"`
	Cases    []caseForm    `yaml:"cases,omitempty"`
}

type samplingForm struct {
	Samples     whole    `yaml:"samples,omitempty"`
	Temperature *float64 `yaml:"temperature,omitempty"`
	TopP        *float64 `yaml:"top_p,omitempty"`
	MaxTokens   whole    `yaml:"max_tokens,omitempty"`
	Seed        whole    `yaml:"seed,omitempty"`
}

type caseForm struct {
	ID       string             `yaml:"id,omitempty" json:"id,omitempty"`
	Group    string             `yaml:"group,omitempty" json:"group,omitempty"`
	Weight   whole              `yaml:"weight,omitempty" json:"weight,omitempty"`
	Tags     []string           `yaml:"tags,omitempty" json:"tags,omitempty"`
	Split    string             `yaml:"split,omitempty" json:"split,omitempty"`
	Text     string             `yaml:"text,omitempty" json:"text,omitempty"`
	Messages []messageForm      `yaml:"messages,omitempty" json:"messages,omitempty"`
	Want     words              `yaml:"want,omitempty" json:"want,omitempty"`
	Choices  []string           `yaml:"choices,omitempty" json:"choices,omitempty"`
	Relevant map[string]float64 `yaml:"relevant,omitempty" json:"relevant,omitempty"`
	Passages []string           `yaml:"passages,omitempty" json:"passages,omitempty"`
	Human    *humanForm         `yaml:"human,omitempty" json:"human,omitempty"`
}

type messageForm struct {
	Role    string `yaml:"role" json:"role"`
	Content string `yaml:"content" json:"content"`
}

type humanForm struct {
	Said  string  `yaml:"said" json:"said"`
	Over  string  `yaml:"over,omitempty" json:"over,omitempty"`
	Score float64 `yaml:"score" json:"score"`
}

// whole is a whole number; YAML would cut 1.5 to 1.
type whole int64

// UnmarshalYAML reads digits.
func (w *whole) UnmarshalYAML(node *yaml.Node) error {
	n, err := strconv.ParseInt(node.Value, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("line %d: no whole number; give one from 0", node.Line)
	}
	*w = whole(n)
	return nil
}

// words is one text or a list of them. A number is taken as it is written.
type words []string

// UnmarshalYAML reads a text or a list.
func (w *words) UnmarshalYAML(node *yaml.Node) error {
	nodes := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		nodes = node.Content
	}
	for _, n := range nodes {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			return fmt.Errorf("line %d: give a text or a list of texts", n.Line)
		}
		*w = append(*w, n.Value)
	}
	return nil
}

// UnmarshalJSON reads a text or a list.
func (w *words) UnmarshalJSON(raw []byte) error {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	for _, each := range list {
		var text string
		var number json.Number
		switch {
		case string(each) != "null" && json.Unmarshal(each, &text) == nil:
			*w = append(*w, text)
		case string(each) != "null" && json.Unmarshal(each, &number) == nil:
			*w = append(*w, number.String())
		default:
			return fmt.Errorf("want: give a text or a list of texts")
		}
	}
	return nil
}

// MarshalJSON writes one text as a text.
func (w words) MarshalJSON() ([]byte, error) {
	if len(w) == 1 {
		return encoded(w[0])
	}
	return encoded([]string(w))
}

// encoded is JSON in which <, > and & stand as they are.
func encoded(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSpace(out.Bytes()), err
}

// scorerForm is a scorer's name, or its name and settings.
type scorerForm struct {
	Name     string         `yaml:"name,omitempty"`
	Settings map[string]any `yaml:"settings,omitempty"`
}

// UnmarshalYAML reads a name alone, too.
func (s *scorerForm) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&s.Name)
	}
	type plain scorerForm
	return node.Decode((*plain)(s))
}

// MarshalYAML writes a name alone where there are no settings.
func (s scorerForm) MarshalYAML() (any, error) {
	if len(s.Settings) == 0 {
		return s.Name, nil
	}
	type plain scorerForm
	return plain(s), nil
}

// fields names the fields of a type of the form.
func fields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		names = append(names, nameOf(t.Field(i)))
	}
	return names
}

func nameOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return name
}

// strict adds a fault for each field that a type does not have, and for aliases.
func strict(node *yaml.Node, t reflect.Type, fault func(line int, format string, args ...any)) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case node.Kind == yaml.AliasNode:
		fault(node.Line, "an alias; write it out")
	case node.Kind == yaml.DocumentNode && len(node.Content) == 1:
		strict(node.Content[0], t, fault)
	case node.Kind == yaml.SequenceNode:
		of := t
		if t.Kind() == reflect.Slice {
			of = t.Elem()
		}
		for _, each := range node.Content {
			strict(each, of, fault)
		}
	case node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			strict(node.Content[i+1], fieldOf(t, node.Content[i], fault), fault)
		}
	}
}

// fieldOf gives the type of a field; anything fits below what is unknown or free.
func fieldOf(t reflect.Type, key *yaml.Node, fault func(line int, format string, args ...any)) reflect.Type {
	anything := reflect.TypeFor[any]()
	if t.Kind() != reflect.Struct {
		return anything
	}
	for i := range t.NumField() {
		if nameOf(t.Field(i)) == key.Value {
			return t.Field(i).Type
		}
	}
	fault(key.Line, "unknown field %q; the fields are %s", key.Value, strings.Join(fields(t), ", "))
	return anything
}

// sampling gives the suite's form of it.
func (s *samplingForm) sampling() *evaluation.Sampling {
	if s == nil {
		return nil
	}
	return &evaluation.Sampling{
		Samples: int(s.Samples), Temperature: s.Temperature, TopP: s.TopP, MaxTokens: int(s.MaxTokens), Seed: uint64(s.Seed),
	}
}
