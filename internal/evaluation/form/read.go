package form

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// File is the suite's file in a folder.
const File = "suite.yaml"

// Bounds of what is read, in bytes and cases.
const (
	maxYAML  = 4 << 20
	maxLine  = 1 << 20
	maxTotal = 512 << 20
	maxCases = 1_000_000
	maxFault = 50
)

// Read reads the suite that a YAML file names, with the files beside it. All faults come at once as one Invalid error,
// each with its file and line.
func Read(files fs.FS, name string) (evaluation.Suite, error) {
	r := &reader{files: files, left: maxTotal}
	suite := r.suite(name)
	if len(r.faults) == 0 {
		r.rename(suite.Problems())
	}
	if err := r.faults.Err("suite " + strconv.Quote(name)); err != nil {
		return evaluation.Suite{}, err
	}
	return suite, nil
}

type reader struct {
	files        fs.FS
	left         int64 // bytes that may still be read
	faults       lifecycle.Problems
	capabilities []place // of the suite's capabilities, in order
	cases        []place // likewise
}

// place is where something stands.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

func (r *reader) fault(at place, format string, args ...any) {
	if len(r.faults) < maxFault {
		found, remedy, cut := strings.Cut(fmt.Sprintf(format, args...), "; ")
		if !cut {
			found, remedy, cut = strings.Cut(found, ": give ")
			remedy = "give " + remedy
		}
		if !cut {
			remedy = "docs/suites.md shows the form"
		}
		r.faults.Add(at.String(), found, "%s", remedy)
	}
}

// suite reads the YAML file. What it gives is of use only where there is no fault.
func (r *reader) suite(name string) evaluation.Suite {
	raw := r.whole(name)
	var node yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	if err := decoder.Decode(&node); err != nil {
		r.yamlFault(name, err)
		return evaluation.Suite{}
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		r.fault(place{name, 1}, "a second document; give one suite a file")
	}
	strict(&node, reflect.TypeFor[suiteForm](), func(line int, format string, args ...any) { r.fault(place{name, line}, format, args...) })
	if len(r.faults) > 0 {
		return evaluation.Suite{} // the decoder would tell them again, or expand aliases
	}
	var form suiteForm
	if err := node.Decode(&form); err != nil {
		r.yamlFault(name, err)
		return evaluation.Suite{}
	}
	lines := linesOf(&node)
	s := evaluation.Suite{Version: evaluation.SuiteVersion, Name: form.Suite, Seed: uint64(form.Seed)}
	if !nameForm.MatchString(form.Suite) {
		r.fault(place{name, 1}, "suite: %q; give it a name of 1 to 63 small letters, digits and dashes", form.Suite)
	}
	for i, capability := range form.Capabilities {
		r.capability(&s, form, capability, name, lines.capability(i))
	}
	return s
}

var nameForm = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// whole reads the YAML file as a whole.
func (r *reader) whole(name string) []byte {
	f, err := r.files.Open(name)
	if err != nil {
		r.faults.Add(name, "it cannot be read", "%v", err)
		return nil
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxYAML+1))
	if err != nil {
		r.faults.Add(name, "it cannot be read", "%v", err)
	}
	if len(raw) > maxYAML {
		r.faults.Add(name, fmt.Sprintf("over %d bytes", maxYAML), "put cases into files of JSONL")
		return nil
	}
	return raw
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line ([0-9]+): (.*)$`)

// yamlFault gives the parser's faults their place.
func (r *reader) yamlFault(name string, err error) {
	list := []string{err.Error()}
	var typed *yaml.TypeError
	if errors.As(err, &typed) {
		list = typed.Errors
	}
	for _, each := range list {
		at := place{name, 1}
		if m := yamlLine.FindStringSubmatch(each); m != nil {
			at.line, _ = strconv.Atoi(m[1]) // digits
			each = m[2]
		}
		r.fault(at, "%s", quoted.ReplaceAllString(each, "a value"))
	}
}

// quoted is what the parser repeats of a value: it may be a right answer, and faults end in histories and logs.
var quoted = regexp.MustCompile("`[^`]*`")

// nodeLines finds where capabilities and their inline cases begin.
type nodeLines struct{ list *yaml.Node }

func linesOf(document *yaml.Node) nodeLines {
	if len(document.Content) == 0 {
		return nodeLines{}
	}
	return nodeLines{child(document.Content[0], "capabilities")}
}

func child(mapping *yaml.Node, key string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func (l nodeLines) capability(i int) *yaml.Node { return l.list.Content[i] }

// capability adds one capability with its cases.
func (r *reader) capability(s *evaluation.Suite, form suiteForm, c capabilityForm, name string, node *yaml.Node) {
	at := place{name, node.Line}
	r.capabilities = append(r.capabilities, at)
	made := evaluation.Capability{Name: c.Name, Kind: c.Ask, Tags: c.Tags, Sampling: c.Sampling.sampling()}
	if !nameForm.MatchString(c.Name) {
		r.fault(at, "name: %q; give 1 to 63 small letters, digits and dashes", c.Name)
	}
	r.scorer(&made, c, at)
	if made.Sampling != nil && c.Ask != evaluation.Generate {
		r.fault(at, "sampling: given; only generate is sampled")
	}
	before := len(s.Cases)
	split := cmp.Or(c.Split, form.Split)
	if inline := child(node, "cases"); inline != nil {
		for i, each := range c.Cases {
			r.add(s, c.Name, split, each, place{name, inline.Content[i].Line})
		}
	}
	for _, file := range c.Files {
		r.lines(s, c.Name, split, file, at)
	}
	made.Items = len(s.Cases) - before
	s.Capabilities = append(s.Capabilities, made)
}

// scorer fills in what depends on the scorer: its settings, the metric's name, and the margin's default.
func (r *reader) scorer(made *evaluation.Capability, c capabilityForm, at place) {
	if c.Score.Name == "" {
		r.fault(at, "score: none; give one of %s", strings.Join(score.Names(), ", "))
		return
	}
	made.Scorer = &score.Spec{Name: c.Score.Name}
	if len(c.Score.Settings) > 0 {
		raw, err := json.Marshal(c.Score.Settings)
		if err != nil {
			r.fault(at, "score.settings: %v; give names and values", err)
			return
		}
		made.Scorer.Settings = raw
	}
	scorer, err := score.New(*made.Scorer, score.World{})
	if err != nil {
		r.fault(at, "score: %v", err)
		return
	}
	made.Metric, made.Exact = scorer.Metric, c.Exact
	switch {
	case c.Margin != nil:
		made.Margin = *c.Margin
	case scorer.Less:
		r.fault(at, "margin: none; say what drop of %s is still accepted", scorer.Metric)
	default:
		made.Margin = 0.05
	}
}

// lines reads cases from a file of JSONL.
func (r *reader) lines(s *evaluation.Suite, capability, split, name string, named place) {
	if !fs.ValidPath(name) {
		r.fault(named, "files: %q; give a path below the suite's folder", name)
		return
	}
	f, err := r.files.Open(name)
	if err != nil {
		r.fault(named, "files: %q cannot be read; %v", name, err)
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; lines.Scan() && len(r.faults) < maxFault; n++ {
		at := place{name, n}
		if r.left -= int64(len(lines.Bytes())) + 1; r.left < 0 {
			r.fault(at, "over %d bytes of cases; make two suites of it", maxTotal)
			return
		}
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var c caseForm
		if err := decodeLine(lines.Bytes(), &c); err != nil {
			r.fault(at, "%v", err)
			continue
		}
		r.add(s, capability, split, c, at)
	}
	if err := lines.Err(); err != nil {
		r.fault(place{name, 1}, "%v; a line holds at most %d bytes", err, maxLine)
	}
}

func decodeLine(raw []byte, c *caseForm) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		return fmt.Errorf("%w; the fields are %s", err, strings.Join(fields(reflect.TypeFor[caseForm]()), ", "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the case; give each a line")
	}
	return nil
}

// add adds one case.
func (r *reader) add(s *evaluation.Suite, capability, split string, c caseForm, at place) {
	if len(s.Cases) == maxCases {
		r.fault(at, "over %d cases; make two suites of it", maxCases)
		return
	}
	made := evaluation.Case{
		Capability: capability, Text: c.Text, Choices: c.Choices, Relevant: c.Relevant, Passages: c.Passages,
		Weight: int(c.Weight), Tags: c.Tags, Split: cmp.Or(c.Split, split),
	}
	if n := len(c.Messages); n > 0 {
		last := c.Messages[n-1]
		if c.Text != "" || last.Role != "user" {
			r.fault(at, "messages: with text, or not ended by the user; give text alone, or a chat whose last message is the user's")
			return
		}
		made.Text = last.Content
		for _, m := range c.Messages[:n-1] {
			made.Messages = append(made.Messages, evaluation.Message{Role: m.Role, Content: m.Content})
		}
	}
	if len(c.Want) > 0 {
		made.Want, made.Also = c.Want[0], c.Want[1:]
	}
	if len(made.Also) == 0 {
		made.Also = nil
	}
	if c.Human != nil {
		made.Human = &evaluation.Human{Said: c.Human.Said, Over: c.Human.Over, Score: c.Human.Score}
	}
	made.ID = capability + "/" + cmp.Or(c.ID, derivedID(made))
	made.Group = cmp.Or(c.Group, made.ID)
	if strings.TrimSpace(made.Text) == "" {
		r.fault(at, "text: none; say what is asked")
		return
	}
	s.Cases, r.cases = append(s.Cases, made), append(r.cases, at)
}

// derivedID names a case by what is asked: its text, chat, choices and passages. What is right, and how it counts, may
// be mended without making it another case.
func derivedID(c evaluation.Case) string {
	asked, err := json.Marshal([]any{c.Text, c.Messages, c.Choices, c.Passages})
	if err != nil {
		return "" // texts always encode
	}
	return fmt.Sprintf("%x", sha256.Sum256(asked))[:16]
}

var problemPath = regexp.MustCompile(`^(cases|capabilities)\[([0-9]+)\](.*)$`)

// rename gives the faults of a suite the places where they were written.
func (r *reader) rename(faults lifecycle.Problems) {
	for _, f := range faults {
		m := problemPath.FindStringSubmatch(f.Path)
		if m == nil {
			r.faults = append(r.faults, f)
			continue
		}
		i, _ := strconv.Atoi(m[2]) // digits
		places := r.cases
		if m[1] == "capabilities" {
			places = r.capabilities
		}
		field := strings.NewReplacer("kind", "ask", "scorer", "score").Replace(strings.TrimPrefix(m[3], "."))
		if field != "" {
			field = ": " + field
		}
		r.faults = append(r.faults, lifecycle.Problem{Path: places[i].String() + field, Found: f.Found, Remedy: f.Remedy})
	}
}
