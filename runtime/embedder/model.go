package embedder

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/refitml/refit/runtime/internal/vec"
	"github.com/refitml/refit/runtime/safetensors"
)

// Model gives vectors for texts. It is immutable.
type Model struct {
	words      []string // by row
	vocabulary vocabulary
	dimension  int
	table      []float32 // a row a word, then a row a bucket
}

// Dimension is the length of vectors.
func (m *Model) Dimension() int { return m.dimension }

// Embed gives the vector of a text, and the number of words that it read.
func (m *Model) Embed(text string) (vector []float32, read int) {
	list, read := m.vocabulary.features(text)
	vector = make([]float32, m.dimension)
	m.sum(vector, list)
	normalise(vector)
	return vector, read
}

// sum adds up the rows of features.
func (m *Model) sum(to []float32, list []feature) {
	for _, f := range list {
		vec.AddScaled(to, m.row(f.row), f.weight)
	}
}

func (m *Model) row(i int32) []float32 { return m.table[int(i)*m.dimension:][:m.dimension] }

// normalise scales a vector to length 1 and returns the length it had; the zero vector stays.
func normalise(v []float32) float32 {
	length := float32(math.Sqrt(float64(vec.Dot(v, v))))
	if length > 0 {
		for i := range v {
			v[i] /= length
		}
	}
	return length
}

// Names of an embedder's files.
const (
	headFile     = "embedder.json"
	tableFile    = "embedder.safetensors"
	trainingFile = "training.json"
	tableName    = "table"
	formVersion  = 1
)

type head struct {
	Version   int      `json:"version"`
	Dimension int      `json:"dimension"`
	Buckets   int      `json:"buckets"`
	Words     []string `json:"words"`
}

// Write writes the model into dir, which must exist.
func (m *Model) Write(dir string) error {
	if err := writeJSON(filepath.Join(dir, headFile), head{formVersion, m.dimension, m.vocabulary.buckets, m.words}); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(dir, tableFile))
	if err != nil {
		return fmt.Errorf("write the embedder: %w", err)
	}
	defer out.Close()
	shape := []int{m.vocabulary.size(), m.dimension}
	err = safetensors.Write(out, safetensors.File{Tensors: map[string]safetensors.Tensor{tableName: {Shape: shape, Data: m.table}}})
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write the embedder: %w", err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the embedder: %w", err)
	}
	return nil
}

// Load reads an embedder folder. What does not fit together is an error.
func Load(dir string) (*Model, error) {
	raw, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		return nil, fmt.Errorf("read the embedder: %w", err)
	}
	var h head
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, fmt.Errorf("read the embedder in %s: %w", dir, err)
	}
	if h.Version != formVersion || h.Dimension < 1 || h.Buckets < 1 {
		return nil, fmt.Errorf("read the embedder in %s: version %d, dimension %d, %d buckets; this reads version %d", dir, h.Version, h.Dimension, h.Buckets, formVersion)
	}
	m := &Model{words: h.Words, vocabulary: newVocabulary(h.Words, h.Buckets), dimension: h.Dimension}
	if len(m.vocabulary.rows) != len(h.Words) {
		return nil, fmt.Errorf("read the embedder in %s: a word stands twice in the vocabulary", dir)
	}
	file, err := safetensors.ReadFile(filepath.Join(dir, tableFile))
	if err != nil {
		return nil, err
	}
	m.table = file.Tensors[tableName].Data
	if len(m.table) != m.vocabulary.size()*m.dimension {
		return nil, fmt.Errorf("read the embedder in %s: the table has %d values, the vocabulary asks for %d·%d", dir, len(m.table), m.vocabulary.size(), m.dimension)
	}
	for _, v := range m.table {
		if v-v != 0 { // neither NaN nor infinite
			return nil, fmt.Errorf("read the embedder in %s: the table holds a value that is not a finite number", dir)
		}
	}
	return m, nil
}
