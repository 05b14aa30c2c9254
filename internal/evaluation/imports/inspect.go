package imports

import (
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Bounds of a zip.
const (
	maxEntries = 100_000
	maxEntry   = 64 << 20 // bytes, unpacked
	maxZip     = 1 << 30  // likewise, in all
)

// inspectLog is what is read of a log's header.
type inspectLog struct {
	Eval struct {
		Task    string `json:"task"`
		Scorers []struct {
			Name string `json:"name"`
		} `json:"scorers"`
	} `json:"eval"`
	Samples []inspectSample `json:"samples"`
}

type inspectSample struct {
	ID      json.RawMessage `json:"id"`
	Epoch   int             `json:"epoch"` // from 1
	Input   json.RawMessage `json:"input"`
	Choices []string        `json:"choices"`
	Target  json.RawMessage `json:"target"`
	Output  struct {
		Completion *string `json:"completion"`
		Usage      struct {
			Input  int `json:"input_tokens"`
			Output int `json:"output_tokens"`
		} `json:"usage"`
	} `json:"output"`
	Scores map[string]struct {
		Value json.RawMessage `json:"value"`
	} `json:"scores"`
	Seconds     float64           `json:"total_time"`
	Error       json.RawMessage   `json:"error"`
	Attachments map[string]string `json:"attachments"`
}

// readInspect reads a log in either form.
func readInspect(_ string, r io.Reader, add *collector) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(raw, []byte("PK")) {
		return readEval(raw, add)
	}
	var log inspectLog
	if err := json.Unmarshal(raw, &log); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "no log of Inspect: %w", kindOnly(err))
	}
	return log.read(log.Samples, add)
}

// kindOnly leaves out what a JSON error repeats of the text.
func kindOnly(err error) error {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &typed):
		return fmt.Errorf("field %s is of another type", typed.Field)
	}
	return errors.New("not JSON")
}

// readEval reads a zip: header.json, and a file for each sample and epoch.
func readEval(raw []byte, add *collector) error {
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "no zip: %w", err)
	}
	if len(archive.File) > maxEntries {
		return lifecycle.Errorf(lifecycle.Invalid, "%d entries; at most %d are read", len(archive.File), maxEntries)
	}
	archive.RegisterDecompressor(zstd.ZipMethodWinZip, zstd.ZipDecompressor(zstd.WithDecoderMaxMemory(maxEntry), zstd.WithDecoderConcurrency(1)))
	left := int64(maxZip)
	var log inspectLog
	if err := readEntry(archive, "header.json", &left, &log); err != nil {
		return err
	}
	var samples []inspectSample
	for _, file := range archive.File {
		if path.Dir(file.Name) != "samples" || path.Ext(file.Name) != ".json" {
			continue
		}
		var s inspectSample
		if err := readEntry(archive, file.Name, &left, &s); err != nil {
			return err
		}
		samples = append(samples, s)
	}
	return log.read(samples, add)
}

func readEntry(archive *zip.Reader, name string, left *int64, into any) error {
	file, err := archive.Open(name)
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "open entry %s: %w", name, err)
	}
	defer file.Close()
	limit := min(maxEntry, *left)
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "read entry %s: %w", name, err)
	}
	if int64(len(raw)) > limit {
		return lifecycle.Errorf(lifecycle.Invalid, "entry %s unpacks to over %d bytes", name, limit)
	}
	*left -= int64(len(raw))
	if err := json.Unmarshal(raw, into); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "entry %s: %w", name, kindOnly(err))
	}
	return nil
}

// likeScorers are Inspect's scorers with the one that is most like each.
var likeScorers = map[string]score.Spec{
	"includes": {Name: "contains"}, "match": {Name: "contains"}, "exact": {Name: "normalised"}, "f1": {Name: "token-f1"},
	"answer": {Name: "contains"}, "pattern": {Name: "contains"},
}

// sameScorers are those of them that give the same score.
var sameScorers = []string{"includes", "exact", "f1"}

func (l inspectLog) read(samples []inspectSample, add *collector) error {
	if l.Eval.Task == "" {
		return lifecycle.Errorf(lifecycle.Invalid, "no log of Inspect: eval.task is missing")
	}
	task := l.Eval.Task[strings.LastIndexByte(l.Eval.Task, '/')+1:]
	scorer := ""
	for i, s := range l.Eval.Scorers {
		if i > 0 {
			add.note("%s: scorer %s is left out; %s is kept", task, s.Name, scorer)
			continue
		}
		scorer = s.Name
	}
	slices.SortStableFunc(samples, func(a, b inspectSample) int { // the two forms have them in different orders
		return cmp.Or(bytes.Compare(a.ID, b.ID), cmp.Compare(a.Epoch, b.Epoch))
	})
	for i, s := range samples {
		id, ok := texts(s.ID)
		if !ok || s.Epoch < 0 || s.Epoch > 1000 {
			return lifecycle.Errorf(lifecycle.Invalid, "samples[%d]: no ID, or no epoch", i)
		}
		if len(s.Choices) > 0 {
			s.choice(task, id[0], scorer, add)
		} else {
			s.generated(task, id[0], scorer, add)
		}
	}
	return nil
}

func (s inspectSample) generated(task, id, scorer string, add *collector) {
	c, ok := asked(s.Input)
	if !ok {
		add.note("%s: a sample asks more than text, or not the user last; it makes no case", task)
		return
	}
	c.Text = s.attached(c.Text)
	for i := range c.Messages {
		c.Messages[i].Content = s.attached(c.Messages[i].Content)
	}
	spec, known := likeScorers[scorer]
	switch {
	case !known:
		spec = score.Spec{Name: "contains"}
		add.note("%s: scorer %q has no like here; scored by contains, choose another with --score", task, scorer)
	case !slices.Contains(sameScorers, scorer):
		add.note("%s: scored by %s, which is only like %s", task, spec.Name, scorer)
	}
	c.ID = id
	want, _ := texts(s.Target)
	want = slices.DeleteFunc(want, func(w string) bool { return strings.TrimSpace(w) == "" })
	if len(want) == 0 {
		add.note("%s: a sample has no target; it makes no case", task)
		return
	}
	into := add.capability(task, evaluation.Generate, spec)
	s.answer(into, into.add(withWant(c, want)), c.Text, scorer, add)
}

// attached puts long texts back in, which Inspect keeps apart.
func (s inspectSample) attached(text string) string {
	if name, ok := strings.CutPrefix(text, "attachment://"); ok {
		if whole, there := s.Attachments[name]; there {
			return whole
		}
	}
	return text
}

func (s inspectSample) answer(into *capability, id, question, scorer string, add *collector) {
	if s.Output.Completion == nil || len(s.Error) > 0 && string(s.Error) != "null" {
		add.note("%s: a sample ended in an error; its case is kept without an answer", into.Name)
		return
	}
	said := *s.Output.Completion
	g := given{
		item: score.Item{Question: question, Said: said},
		answer: evaluation.Answer{
			Case: id, Sample: max(0, s.Epoch-1), Said: evaluation.Bounded(said), Seconds: s.Seconds,
			Usage: lifecycle.Usage{Prompt: s.Output.Usage.Input, Completion: s.Output.Usage.Output},
		},
	}
	if slices.Contains(sameScorers, scorer) && add.how.Score == "" {
		g.tool = inspectValue(s.Scores[scorer].Value)
	}
	into.answered(g)
}

// inspectValue reads C and I, or a number.
func inspectValue(raw json.RawMessage) *float64 {
	value := 0.0
	switch string(raw) {
	case `"C"`, "true":
		value = 1
	case `"I"`, `"N"`, "false":
	case `"P"`:
		value = 0.5
	default:
		var ok bool
		if value, ok = float(raw); !ok {
			return nil
		}
	}
	return &value
}

// choice makes a case of multiple choice: Inspect asks for a letter, Refit for the likeliest choice.
func (s inspectSample) choice(task, id, scorer string, add *collector) {
	add.note("%s: Inspect asks for a letter; here the likeliest choice counts, put after the question and a space", task)
	c, ok := asked(s.Input)
	target, _ := texts(s.Target)
	if !ok || len(c.Messages) > 0 || len(target) != 1 || len(target[0]) != 1 {
		add.note("%s: a sample with a chat, or with more than one right choice, makes no case", task)
		return
	}
	right := int(target[0][0]) - 'A'
	if right < 0 || right >= len(s.Choices) {
		add.note("%s: a sample's target is none of its choices; it makes no case", task)
		return
	}
	for _, choice := range s.Choices {
		c.Choices = append(c.Choices, " "+choice)
	}
	slices.Sort(c.Choices)
	if len(slices.Compact(slices.Clone(c.Choices))) < len(c.Choices) || len(c.Choices) < 2 {
		add.note("%s: a sample's choices are fewer than two, or not all different; it makes no case", task)
		return
	}
	c.ID, c.Text, c.Want = id, s.attached(c.Text), " "+s.Choices[right]
	into := add.capability(task, evaluation.Choice, score.Spec{Name: "likeliest"})
	into.add(c)
}
