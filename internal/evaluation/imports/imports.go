package imports

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Bounds of what is read, in bytes.
const (
	maxFile = 256 << 20
	maxLine = 8 << 20
)

// Options say how to read. The zero value works.
type Options struct {
	Score string // scorer of answers in words, in place of the one that is most like the tool's
}

// Result is what a file gave.
type Result struct {
	Suite   evaluation.Suite    // of version 2, checked
	Answers []evaluation.Answer // where the file holds them
	Notes   []string            // what could not be carried over, for people
}

// format reads one file into what it gives.
type format func(name string, r io.Reader, add *collector) error

func formats() map[string]format {
	return map[string]format{"jsonl": readJSONL, "lm-eval": readLMEval, "inspect": readInspect, "promptfoo": readPromptfoo}
}

// Formats lists the formats by name.
func Formats() []string { return []string{"inspect", "jsonl", "lm-eval", "promptfoo"} }

// File is a file to import; its name tells the task where the content does not.
type File struct {
	Name string
	Read io.Reader
}

// Import reads files of one format into one suite of a name.
func Import(suite, from string, how Options, files ...File) (Result, error) {
	read, ok := formats()[from]
	if !ok {
		return Result{}, lifecycle.Errorf(lifecycle.Invalid, "format %q: give one of %s", from, strings.Join(Formats(), ", "))
	}
	add := &collector{how: how, notes: map[string]int{}}
	for _, file := range files {
		limited := &bounded{from: file.Read, left: maxFile}
		if err := read(file.Name, limited, add); err != nil {
			if lifecycle.KindOf(err) == lifecycle.Internal {
				err = lifecycle.Errorf(lifecycle.Invalid, "%w", err)
			}
			return Result{}, lifecycle.Wrap(err, "import %s", path.Base(file.Name))
		}
	}
	return add.result(suite)
}

// bounded gives an error where more is read than is left.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "over %d bytes", maxFile)
	}
	return n, err
}

// collector gathers capabilities and their cases.
type collector struct {
	how          Options
	capabilities []*capability
	notes        map[string]int // how often each was given
	order        []string       // of notes
}

// capability is one that is being gathered.
type capability struct {
	evaluation.Capability
	cases   []evaluation.Case
	byID    map[string]int
	answers []given
	samples int
}

// given is an answer of the file; tool is what the tool gave it, where it is told.
type given struct {
	item   score.Item
	answer evaluation.Answer
	tool   *float64
}

func (c *collector) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if c.notes[text] == 0 {
		c.order = append(c.order, text)
	}
	c.notes[text]++
}

// capability finds or begins one. Of a scorer that the options replace, only its place is taken.
func (c *collector) capability(name, kind string, spec score.Spec) *capability {
	if kind == evaluation.Generate && c.how.Score != "" {
		spec = score.Spec{Name: c.how.Score}
	}
	name = nameOf(name)
	for _, known := range c.capabilities {
		if known.Name == name {
			return known
		}
	}
	made := &capability{Capability: evaluation.Capability{Name: name, Kind: kind, Margin: 0.05, Scorer: &spec}, byID: map[string]int{}, samples: 1}
	c.capabilities = append(c.capabilities, made)
	return made
}

// add adds a case and gives its ID in the suite; one that is there already is not added again.
func (c *capability) add(made evaluation.Case) string {
	id := c.Name + "/" + made.ID
	if _, known := c.byID[id]; !known {
		made.ID, made.Capability = id, c.Name
		made.Group = cmp.Or(made.Group, id)
		c.byID[id] = len(c.cases)
		c.cases = append(c.cases, made)
	}
	return id
}

// answered adds an answer to a case.
func (c *capability) answered(g given) {
	g.answer.Capability = c.Name
	c.samples = max(c.samples, g.answer.Sample+1)
	c.answers = append(c.answers, g)
}

// result makes the suite, and scores the answers as gates would.
func (c *collector) result(name string) (Result, error) {
	out := Result{Suite: evaluation.Suite{Version: evaluation.SuiteVersion, Name: name}}
	for _, each := range c.capabilities {
		if len(each.cases) == 0 {
			continue
		}
		scorer, err := score.New(*each.Scorer, score.World{})
		if err != nil {
			return out, lifecycle.Wrap(err, "capability %s", each.Name)
		}
		each.Metric, each.Items = scorer.Metric, len(each.cases)
		if each.samples > 1 {
			if each.Sampling == nil {
				each.Sampling = &evaluation.Sampling{}
			}
			each.Sampling.Samples = each.samples
		}
		out.Suite.Capabilities = append(out.Suite.Capabilities, each.Capability)
		out.Suite.Cases = append(out.Suite.Cases, each.cases...)
		out.Answers = append(out.Answers, c.scored(each, scorer)...)
	}
	for _, note := range c.order {
		if n := c.notes[note]; n > 1 {
			note = fmt.Sprintf("%s (%d times)", note, n)
		}
		out.Notes = append(out.Notes, note)
	}
	if len(out.Suite.Cases) == 0 {
		return out, lifecycle.Errorf(lifecycle.Invalid, "no case could be made: %s", cmp.Or(strings.Join(out.Notes, "; "), "there is no item"))
	}
	return out, out.Suite.Check()
}

func (c *collector) scored(each *capability, scorer score.Scorer) []evaluation.Answer {
	var answers []evaluation.Answer
	differ, told := 0, 0
	for _, g := range each.answers {
		at, known := each.byID[g.answer.Case]
		if !known {
			continue
		}
		g.item.Want = each.cases[at].References()
		value, err := scorer.Score(context.Background(), g.item) // by nobody else: the world is empty
		if err != nil {
			c.note("%s: an answer has no score by %s and is left out", each.Name, scorer.Name)
			continue
		}
		g.answer.Score = value
		if g.tool != nil {
			told++
			if d := *g.tool - value; d > 1e-6 || d < -1e-6 {
				differ++
			}
		}
		answers = append(answers, g.answer)
	}
	if differ > 0 {
		c.note("%s: %d of %d scores by %s differ from the tool's", each.Name, differ, told, scorer.Name)
	}
	slices.SortStableFunc(answers, func(a, b evaluation.Answer) int {
		return cmp.Or(cmp.Compare(each.byID[a.Case], each.byID[b.Case]), cmp.Compare(a.Sample, b.Sample))
	})
	return answers
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// nameOf makes a capability's name of a task's: small letters, digits and dashes, beginning with a letter.
func nameOf(task string) string {
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(task), "-"), "-")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "task-" + name
	}
	return strings.Trim(name[:min(len(name), 63)], "-")
}

// stem is a file's name without folders and the last extension.
func stem(name string) string {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	return strings.TrimSuffix(base, path.Ext(base))
}

// eachLine reads one JSON value a line; lines of white space are skipped.
func eachLine(r io.Reader, do func(line int, raw json.RawMessage) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		raw := bytes.TrimSpace(lines.Bytes())
		if len(raw) == 0 {
			continue
		}
		if err := do(n, slices.Clone(raw)); err != nil {
			return lifecycle.Errorf(lifecycle.Invalid, "line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// texts reads a text or a list of texts; numbers are taken as they are written.
func texts(raw json.RawMessage) ([]string, bool) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	var out []string
	for _, each := range list {
		var text string
		var number json.Number
		switch {
		case len(each) == 0 || string(each) == "null":
			return nil, false
		case json.Unmarshal(each, &text) == nil:
			out = append(out, text)
		case json.Unmarshal(each, &number) == nil:
			out = append(out, number.String())
		default:
			return nil, false
		}
	}
	return out, len(out) > 0
}

// asked reads what is asked: a text, or a chat that the user ends. Messages of other roles than system, user and
// assistant, and content that is no text, cannot be asked.
func asked(raw json.RawMessage) (c evaluation.Case, ok bool) {
	if json.Unmarshal(raw, &c.Text) == nil {
		return c, strings.TrimSpace(c.Text) != ""
	}
	var chat []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(raw, &chat) != nil || len(chat) == 0 {
		return c, false
	}
	for i, m := range chat {
		text, fits := contentOf(m.Content)
		if !fits || !slices.Contains([]string{"system", "user", "assistant"}, m.Role) {
			return c, false
		}
		if i == len(chat)-1 {
			c.Text = text
			return c, m.Role == "user" && strings.TrimSpace(text) != ""
		}
		c.Messages = append(c.Messages, evaluation.Message{Role: m.Role, Content: text})
	}
	return c, false
}

// contentOf reads a message's content: a text, or parts that are all text.
func contentOf(raw json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, true
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return "", false
	}
	for _, part := range parts {
		if part.Type != "text" {
			return "", false
		}
		text += part.Text
	}
	return text, len(parts) > 0
}

// withWant gives a case its references.
func withWant(c evaluation.Case, want []string) evaluation.Case {
	if len(want) > 0 {
		c.Want = want[0]
	}
	if len(want) > 1 {
		c.Also = want[1:]
	}
	return c
}
