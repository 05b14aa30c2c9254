package answer_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/retrieval"
)

// drawer takes the files of an index in memory.
type drawer struct{ fstest.MapFS }

type drawerFile struct {
	drawer
	name string
	text strings.Builder
}

func (d drawer) Create(name string) (io.WriteCloser, error) {
	return &drawerFile{drawer: d, name: name}, nil
}
func (f *drawerFile) Write(p []byte) (int, error) { return f.text.Write(p) }
func (f *drawerFile) Close() error {
	f.MapFS[f.name] = &fstest.MapFile{Data: []byte(f.text.String())}
	return nil
}

// directions embeds what is said of water one way and everything else the other.
type directions struct{}

func (directions) Embed(_ context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		vectors[i] = []float32{0, 1}
		if strings.Contains(text, "water") || strings.Contains(text, "river") {
			vectors[i] = []float32{1, 0}
		}
	}
	return vectors, nil
}

func stored(t *testing.T, options retrieval.Options) fstest.MapFS {
	t.Helper()
	index, err := retrieval.Build(t.Context(), func(yield func(retrieval.Document, error) bool) {
		_ = yield(retrieval.Document{ID: "bytes", Title: "Package bytes", Text: "functions for slices of bytes"}, nil) &&
			yield(retrieval.Document{ID: "nile", Title: "The Nile", Text: "a river of Africa"}, nil)
	}, options)
	require.NoError(t, err)
	files := drawer{fstest.MapFS{}}
	require.NoError(t, index.Write(files))
	return files.MapFS
}

func TestAnIndexIsSearchedByWords(t *testing.T) {
	t.Parallel()
	search, err := answer.OpenIndex(stored(t, retrieval.Options{}), nil)
	require.NoError(t, err)
	found, err := search.Search(t.Context(), "slices of bytes", 1)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "bytes", found[0].Document)
	require.Equal(t, "bytes#0", found[0].ID)
	require.Equal(t, "Package bytes", found[0].Title)
	require.Contains(t, found[0].Text, "functions for slices")
	require.Positive(t, found[0].Score)
}

func TestAnIndexWithVectorsIsSearchedByMeaningToo(t *testing.T) {
	t.Parallel()
	files := stored(t, retrieval.Options{Embedder: directions{}, EmbedderName: "directions"})
	search, err := answer.OpenIndex(files, directions{})
	require.NoError(t, err)
	found, err := search.Search(t.Context(), "water", 1)
	require.NoError(t, err)
	require.Equal(t, "nile", found[0].Document, "no word is shared")

	_, err = answer.OpenIndex(files, nil)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "vectors without their embedder would be searched half: %v", err)
	files[retrieval.ChunksFile].Data[3] ^= 1
	_, err = answer.OpenIndex(files, directions{})
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%v", err)
}
