package evaluation

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/refitml/refit/internal/lifecycle"
)

// Names of a suite's files.
const (
	SuiteFile = "suite.json"
	CasesFile = "cases.jsonl"
)

// maxLine bounds one line of any file that this room reads, in bytes.
const maxLine = 1 << 20

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
	if err := WriteFile(to, SuiteFile, func(w io.Writer) error {
		_, err := w.Write(append(head, '\n'))
		return err
	}); err != nil {
		return err
	}
	return WriteFile(to, CasesFile, func(w io.Writer) error {
		for _, c := range s.Cases {
			if err := writeLine(w, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// WriteFile makes a file of a tree and lets fill write it.
func WriteFile(to Creator, name string, fill func(io.Writer) error) error {
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
	if err := lifecycle.DecodeStrictly(raw, &s); err != nil {
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

// readLines reads one value a line. Empty lines and lines without end are faults.
func readLines[T any](r io.Reader, name string) ([]T, error) {
	var list []T
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		var v T
		if err := lifecycle.DecodeStrictly(lines.Bytes(), &v); err != nil {
			return nil, lifecycle.Errorf(lifecycle.Corrupt, "%s line %d: %w", name, n, err)
		}
		list = append(list, v)
	}
	if err := lines.Err(); err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "read %s: %w", name, err)
	}
	return list, nil
}
