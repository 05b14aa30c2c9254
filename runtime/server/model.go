package server

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/llama"
)

// Model is a model with its tokenizer, ready for any number of requests at once.
type Model struct {
	llama     *llama.Model
	tokenizer *bpe.Tokenizer
	sessions  sync.Pool // of *llama.Session
}

// NewModel puts a model and its tokenizer together; their vocabularies must be of one size.
func NewModel(m *llama.Model, t *bpe.Tokenizer) (*Model, error) {
	if m.Config().VocabSize != t.Size() {
		return nil, fmt.Errorf("the tokenizer has %d tokens, the model's config says %d", t.Size(), m.Config().VocabSize)
	}
	model := &Model{llama: m, tokenizer: t}
	model.sessions.New = func() any { return m.NewSession() }
	return model, nil
}

// LoadModel reads a model folder.
func LoadModel(dir string) (*Model, error) {
	m, err := llama.Load(dir)
	if err != nil {
		return nil, err
	}
	t, err := bpe.ReadFile(filepath.Join(dir, bpe.File))
	if err != nil {
		return nil, err
	}
	model, err := NewModel(m, t)
	if err != nil {
		return nil, fmt.Errorf("load the model in %s: %w", dir, err)
	}
	return model, nil
}

func (m *Model) context() int { return m.llama.Config().Context }

// session borrows an empty session; give it back with m.sessions.Put.
func (m *Model) session() *llama.Session {
	s := m.sessions.Get().(*llama.Session)
	s.Reset()
	return s
}

// name shows a token as the API does: its text, or its bytes where they are not whole characters.
func (m *Model) name(token int) string {
	if token == bpe.EndOfText {
		return bpe.EndOfTextName
	}
	s := m.tokenizer.Bytes(token)
	if utf8.ValidString(s) {
		return s
	}
	out := "bytes:"
	for i := range len(s) {
		out += `\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:]
	}
	return out
}
