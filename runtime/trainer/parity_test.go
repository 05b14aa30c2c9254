package trainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code is written in the graph's own words
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/llama"
)

// What is served must be what was trained: the decoder in plain Go against the graph, over whole sequences and one
// token at a time.
func TestServedLogitsEqualTheTrainers(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]Spec{
		"the default shape":         {},
		"a head for itself":         {Layers: 2, Width: 40, Heads: 5, KVHeads: 5, Context: 33, VocabSize: 300},
		"one KV head for all":       {Layers: 1, Width: 64, Heads: 8, KVHeads: 1, Context: 70, VocabSize: 517},
		"more layers than anything": {Layers: 6, Width: 32, Heads: 2, KVHeads: 1, Context: 16, VocabSize: 257},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, err := spec.resolve(nil, false)
			require.NoError(t, err)
			c := spec.config()
			weights, tokens := trainedLike(c), make([]int, c.Context)
			rng := rand.New(rand.NewPCG(5, 6))
			for i := range tokens {
				tokens[i] = rng.IntN(c.VocabSize)
			}
			want := graphLogits(t, c, weights, tokens)
			require.Greater(t, slices.Max(want), float32(1), "logits too small to tell")

			model, err := llama.New(c, weights)
			require.NoError(t, err)
			walked := model.NewSession()
			require.NoError(t, walked.Walk(tokens, func(i int, logits []float32) {
				requireNear(t, want[i*c.VocabSize:][:c.VocabSize], logits, fmt.Sprintf("walked, token %d", i))
			}))
			one := model.NewSession()
			for i, token := range tokens {
				logits, err := one.Append([]int{token})
				require.NoError(t, err)
				requireNear(t, want[i*c.VocabSize:][:c.VocabSize], logits, fmt.Sprintf("one by one, token %d", i))
			}
		})
	}
}

// trainedLike draws weights as training begins with them and moves them away from there, gains too, so that logits
// are as large as a trained model's.
func trainedLike(c llama.Config) [][]float32 {
	weights := initial(c, 1)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, w := range weights {
		for i := range w {
			w[i] += float32(rng.NormFloat64() * 0.1)
		}
	}
	return weights
}

func graphLogits(t *testing.T, c llama.Config, weights [][]float32, tokens []int) []float32 {
	t.Helper()
	backends, err := newBackends(1)
	require.NoError(t, err)
	exec, err := NewExec(backends[0], func(in []*Node) *Node {
		n := len(in) - 1
		return newDecoder(c, in[:n], in[n]).logits()
	})
	require.NoError(t, err)
	var args []any
	for i, s := range c.Shapes() {
		args = append(args, tensors.FromFlatDataAndDimensions(weights[i], s.Dims...))
	}
	row := make([]int32, len(tokens))
	for i, token := range tokens {
		row[i] = int32(token)
	}
	out, err := exec.Exec(append(args, tensors.FromFlatDataAndDimensions(row, 1, len(row)))...)
	require.NoError(t, err)
	flat, err := tensors.CopyFlatData[float32](out[0])
	require.NoError(t, err)
	return flat
}

func requireNear(t *testing.T, want, got []float32, what string) {
	t.Helper()
	require.Len(t, got, len(want))
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(want[i])-float64(got[i])))
	}
	require.True(t, worst <= 1e-4, "%s: off by %g", what, worst) // NaN is not
}
