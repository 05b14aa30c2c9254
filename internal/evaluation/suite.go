package evaluation

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Kinds of capabilities.
const (
	BitsPerByte = "bits-per-byte" // how well a text is foreseen
	NextToken   = "next-token"    // the next word, said by the likeliest tokens
	Cloze       = "cloze"         // the true word among four, by likelihood
	Retrieval   = "retrieval"     // the document that answers a query
)

// SuiteVersion is the form of suites that Write writes.
const SuiteVersion = 1

// Names of a suite's files.
const (
	SuiteFile = "suite.json"
	CasesFile = "cases.jsonl"
)

// maxLine bounds one line of any file that this room reads, in bytes.
const maxLine = 1 << 20

// Suite is a set of cases grouped by what a model must be able to do.
type Suite struct {
	Version      int          `json:"version"`
	Seed         uint64       `json:"seed"` // that the cases were drawn with
	Capabilities []Capability `json:"capabilities"`
	Cases        []Case       `json:"-"` // in cases.jsonl
}

// Capability is one thing that a model must be able to do.
type Capability struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind"`
	Metric string  `json:"metric"` // "bits-per-byte", "accuracy", "recall@5"
	Margin float64 `json:"margin"` // drop that is still accepted, in the metric's unit; over 0
	Items  int     `json:"items"`  // cases in the suite

	Sampling *Sampling `json:"sampling,omitempty"` // nil: each case is asked once
}

// Sampling says how often and with what freedom a case is asked. The zero value works.
type Sampling struct {
	Samples int `json:"samples,omitempty"` // answers to each case; default 1
}

// Samples is how many answers each of the capability's cases has.
func (c Capability) Samples() int {
	if c.Sampling == nil {
		return 1
	}
	return max(1, c.Sampling.Samples)
}

// Binary says whether each case's score is 0 or 1.
func (c Capability) Binary() bool { return c.Kind != BitsPerByte }

// Case is one item.
type Case struct {
	ID         string   `json:"id"` // stable: of the same text and kind always the same
	Capability string   `json:"capability"`
	Group      string   `json:"group"`             // cases of one group are not independent
	Text       string   `json:"text"`              // to score, to go on from, or to search with
	Want       string   `json:"want,omitempty"`    // the right word or document; none for bits per byte
	Choices    []string `json:"choices,omitempty"` // of a cloze, the right one among them
}

// Check gives all faults of a suite at once.
func (s Suite) Check() error {
	var faults lifecycle.Problems
	if s.Version != SuiteVersion {
		faults.Add("version", fmt.Sprint(s.Version), "this Refit reads version %d", SuiteVersion)
	}
	if len(s.Capabilities) == 0 {
		faults.Add("capabilities", "none", "give at least one")
	}
	count, kinds := map[string]int{}, map[string]string{}
	for i, c := range s.Capabilities {
		at := fmt.Sprintf("capabilities[%d]", i)
		if _, twice := kinds[c.Name]; c.Name == "" || twice {
			faults.Add(at+".name", fmt.Sprintf("%q", c.Name), "give each capability a name of its own")
		}
		if !slices.Contains([]string{BitsPerByte, NextToken, Cloze, Retrieval}, c.Kind) {
			faults.Add(at+".kind", fmt.Sprintf("%q", c.Kind), "give bits-per-byte, next-token, cloze or retrieval")
		}
		if !(c.Margin > 0) || math.IsInf(c.Margin, 0) {
			faults.Add(at+".margin", fmt.Sprint(c.Margin), "give a drop over 0 that is still accepted")
		}
		kinds[c.Name] = c.Kind
	}
	seen := map[string]bool{}
	for i, c := range s.Cases {
		at := fmt.Sprintf("cases[%d]", i)
		kind, known := kinds[c.Capability]
		switch {
		case c.ID == "" || seen[c.ID]:
			faults.Add(at+".id", fmt.Sprintf("%q", c.ID), "give each case an ID of its own")
		case !known:
			faults.Add(at+".capability", fmt.Sprintf("%q", c.Capability), "name one of the suite's capabilities")
		case c.Text == "" || c.Group == "":
			faults.Add(at, "no text or no group", "give both")
		case kind != BitsPerByte && c.Want == "":
			faults.Add(at+".want", "none", "say what is right")
		case kind == Cloze && (len(c.Choices) < 2 || !slices.Contains(c.Choices, c.Want)):
			faults.Add(at+".choices", fmt.Sprint(len(c.Choices)), "give at least two, the right one among them")
		}
		seen[c.ID] = true
		count[c.Capability]++
		if len(faults) > 50 {
			break
		}
	}
	for i, c := range s.Capabilities {
		if count[c.Name] != c.Items || c.Items == 0 {
			faults.Add(fmt.Sprintf("capabilities[%d].items", i), fmt.Sprint(c.Items), "the suite holds %d cases of it; it needs at least one", count[c.Name])
		}
	}
	return faults.Err("suite")
}

// Creator makes the files of a tree.
type Creator interface {
	Create(name string) (io.WriteCloser, error)
}

// Write writes the suite as a tree.
func (s Suite) Write(to Creator) error {
	if err := s.Check(); err != nil {
		return err
	}
	head, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the suite: %w", err)
	}
	if err := writeFile(to, SuiteFile, func(w io.Writer) error {
		_, err := w.Write(append(head, '\n'))
		return err
	}); err != nil {
		return err
	}
	return writeFile(to, CasesFile, func(w io.Writer) error {
		for _, c := range s.Cases {
			if err := writeLine(w, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeFile(to Creator, name string, fill func(io.Writer) error) error {
	f, err := to.Create(name)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	w := bufio.NewWriter(f)
	if err := errors.Join(fill(w), w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func writeLine(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// ReadSuite reads a tree that Write wrote. What does not read or check is Corrupt or Invalid, never less.
func ReadSuite(tree fs.FS) (Suite, error) {
	raw, err := fs.ReadFile(tree, SuiteFile)
	if err != nil {
		return Suite{}, lifecycle.Errorf(lifecycle.Corrupt, "read the suite: %w", err)
	}
	var s Suite
	if err := strictly(raw, &s); err != nil {
		return Suite{}, lifecycle.Errorf(lifecycle.Corrupt, "read %s: %w", SuiteFile, err)
	}
	f, err := tree.Open(CasesFile)
	if err != nil {
		return Suite{}, lifecycle.Errorf(lifecycle.Corrupt, "read the suite's cases: %w", err)
	}
	defer f.Close()
	if s.Cases, err = readLines[Case](f, CasesFile); err != nil {
		return Suite{}, err
	}
	return s, s.Check()
}

func strictly(raw []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

// readLines reads one value a line. Empty lines and lines without end are faults.
func readLines[T any](r io.Reader, name string) ([]T, error) {
	var list []T
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		var v T
		if err := strictly(lines.Bytes(), &v); err != nil {
			return nil, lifecycle.Errorf(lifecycle.Corrupt, "%s line %d: %w", name, n, err)
		}
		list = append(list, v)
	}
	if err := lines.Err(); err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "read %s: %w", name, err)
	}
	return list, nil
}
