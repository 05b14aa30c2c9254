package evaluation

import (
	"bufio"
	"fmt"
	"io"

	"github.com/refitml/refit/internal/lifecycle"
)

// Answers is what one release said to one suite.
type Answers struct {
	Suite   lifecycle.Digest `json:"suite"`   // artifact
	Release lifecycle.Digest `json:"release"` // that answered
	List    []Answer         `json:"-"`
}

// Write writes a first line that names suite and release, and one line an answer.
func (a Answers) Write(w io.Writer) error { return writeList(w, a, a.List) }

// ReadAnswers reads what Write wrote.
func ReadAnswers(r io.Reader) (a Answers, err error) {
	a.List, err = readList[Answer](r, &a, "answers")
	return a, err
}

// writeList writes a line that says what a list is of, and the list, one line each.
func writeList[T any](w io.Writer, head any, list []T) error {
	out := bufio.NewWriter(w)
	if err := writeLine(out, head); err != nil {
		return fmt.Errorf("write the head: %w", err)
	}
	for _, each := range list {
		if err := writeLine(out, each); err != nil {
			return fmt.Errorf("write a line: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the end: %w", err)
	}
	return nil
}

// readList reads what writeList wrote.
func readList[T any](r io.Reader, head any, what string) ([]T, error) {
	in := bufio.NewReader(r)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "read the head of %s: %w", what, err)
	}
	if err := lifecycle.DecodeStrictly(line, head); err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "read the head of %s: %w", what, err)
	}
	return readLines[T](in, what)
}
