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
func (a Answers) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	if err := writeLine(out, a); err != nil {
		return fmt.Errorf("write answers: %w", err)
	}
	for _, each := range a.List {
		if err := writeLine(out, each); err != nil {
			return fmt.Errorf("write answers: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write answers: %w", err)
	}
	return nil
}

// ReadAnswers reads what Write wrote.
func ReadAnswers(r io.Reader) (Answers, error) {
	in := bufio.NewReader(r)
	head, err := in.ReadSlice('\n')
	if err != nil {
		return Answers{}, lifecycle.Errorf(lifecycle.Corrupt, "read the head of answers: %w", err)
	}
	var a Answers
	if err := lifecycle.DecodeStrictly(head, &a); err != nil {
		return Answers{}, lifecycle.Errorf(lifecycle.Corrupt, "read the head of answers: %w", err)
	}
	a.List, err = readLines[Answer](in, "answers")
	return a, err
}
