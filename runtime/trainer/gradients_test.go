package trainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/llama"
)

func tinyConfig() llama.Config {
	return Spec{VocabSize: 260, Layers: 2, Width: 16, Heads: 4, KVHeads: 2, Intermediate: 24, Context: 8}.config()
}

func randomBatch(c llama.Config, rows int) batch {
	rng := rand.New(rand.NewPCG(8, 9))
	b := batch{rows: rows, length: c.Context}
	for range rows * c.Context {
		b.inputs = append(b.inputs, int32(rng.IntN(c.VocabSize)))
		b.targets = append(b.targets, int32(rng.IntN(c.VocabSize)))
	}
	return b
}

func newTestGradients(t *testing.T, c llama.Config, workers int) *gradients {
	t.Helper()
	backends, err := newBackends(1)
	require.NoError(t, err)
	for len(backends) < workers {
		more, err := newBackends(1)
		require.NoError(t, err)
		backends = append(backends, more...)
	}
	g, err := newGradients(c, backends)
	require.NoError(t, err)
	return g
}

// The derivatives of softmax, SiLU and the loss are written out by hand: along the gradient of each weight the loss
// must rise by the gradient's length.
func TestGradientsAreTheLosssSlope(t *testing.T) {
	t.Parallel()
	c := tinyConfig()
	g, weights, b := newTestGradients(t, c, 1), trainedLike(c), randomBatch(c, 4)
	loss, parts, err := g.of(weights, b, 2)
	require.NoError(t, err)
	require.InDelta(t, math.Log(260), loss, 1.5, "a model that knows nothing is about as good as a uniform one")
	for i, shape := range c.Shapes() {
		t.Run(fmt.Sprint(i, shape.Name), func(t *testing.T) {
			norm := 0.0
			for _, v := range parts[i] {
				norm += float64(v) * float64(v)
			}
			norm = math.Sqrt(norm)
			require.Greater(t, norm, 1e-4)
			at := func(step float64) float64 {
				moved := append([][]float32{}, weights...)
				moved[i] = make([]float32, len(weights[i]))
				for k, w := range weights[i] {
					moved[i][k] = w + float32(step*float64(parts[i][k])/norm)
				}
				loss, _, err := g.of(moved, b, 2)
				require.NoError(t, err)
				return loss
			}
			// A step that changes the loss by about 0.02 is large beside rounding; what it bends is taken out by halving it.
			step := min(0.3, 0.02/norm)
			whole, half := (at(step)-at(-step))/(2*step), (at(step/2)-at(-step/2))/step
			require.InEpsilon(t, norm, (4*half-whole)/3, 0.03)
		})
	}
}

func TestGradientsDoNotDependOnTheNumberOfWorkers(t *testing.T) {
	t.Parallel()
	c := tinyConfig()
	weights, b := trainedLike(c), randomBatch(c, 6)
	loss1, parts1, err := newTestGradients(t, c, 1).of(weights, b, 3)
	require.NoError(t, err)
	loss3, parts3, err := newTestGradients(t, c, 3).of(weights, b, 3)
	require.NoError(t, err)
	require.Equal(t, loss1, loss3)
	require.Equal(t, parts1, parts3)

	whole, parts, err := newTestGradients(t, c, 1).of(weights, b, 1)
	require.NoError(t, err)
	require.InDelta(t, whole, loss1, 1e-5)
	for i := range parts {
		require.InDeltaSlice(t, parts[i], parts1[i], 1e-5, "slices add up to the whole")
	}
}

// A token's loss must not depend on what comes after it.
func TestTheFutureIsMasked(t *testing.T) {
	t.Parallel()
	c := tinyConfig()
	weights := trainedLike(c)
	tokens := make([]int, c.Context)
	for i := range tokens {
		tokens[i] = 3 + i
	}
	before := graphLogits(t, c, weights, tokens)
	tokens[c.Context-1] = 200
	after := graphLogits(t, c, weights, tokens)
	known := (c.Context - 1) * c.VocabSize
	require.Equal(t, before[:known], after[:known])
	require.NotEqual(t, before[known:], after[known:])
}

// Algorithm 2 of the paper, written a second time in float64.
func TestAdamWFollowsThePaper(t *testing.T) {
	t.Parallel()
	c := tinyConfig()
	s := state{params: initial(c, 1), first: zeros(c), second: zeros(c)}
	const rate, decay = 0.01, 0.1
	rng := rand.New(rand.NewPCG(1, 2))
	type scalar struct{ p, m, v float64 }
	var want [][]scalar
	for _, params := range s.params {
		var row []scalar
		for _, p := range params {
			row = append(row, scalar{p: float64(p)})
		}
		want = append(want, row)
	}
	for step := 1; step <= 3; step++ {
		gradients, squares := zeros(c), 0.0
		for i := range gradients {
			for k := range gradients[i] {
				g := rng.NormFloat64() * math.Pow(10, float64(1-2*step)) // clipped in the first step only
				gradients[i][k] = float32(g)
				squares += g * g
			}
		}
		clip := 1.0
		if norm := math.Sqrt(squares); norm > clipNorm {
			clip = clipNorm / norm
		}
		for i, shape := range c.Shapes() {
			for k, g := range gradients[i] {
				w := &want[i][k]
				w.m = beta1*w.m + (1-beta1)*float64(g)*clip
				w.v = beta2*w.v + (1-beta2)*math.Pow(float64(g)*clip, 2)
				move := w.m / (1 - math.Pow(beta1, float64(step))) / (math.Sqrt(w.v/(1-math.Pow(beta2, float64(step)))) + adamEpsilon)
				if len(shape.Dims) == 2 { // gains are not decayed
					move += decay * w.p
				}
				w.p -= rate * move
			}
		}
		s.adamW(c, gradients, step, rate, decay)
	}
	for i := range want {
		for k, w := range want[i] {
			require.InDelta(t, w.p, s.params[i][k], 1e-4)
		}
	}
}

// BenchmarkStep computes the gradients of a whole batch of the default spec.
func BenchmarkStep(b *testing.B) {
	spec, err := Spec{}.resolve(nil, false)
	require.NoError(b, err)
	c := spec.config()
	backends, err := newBackends(spec.Slices)
	require.NoError(b, err)
	g, err := newGradients(c, backends)
	require.NoError(b, err)
	weights, data := initial(c, 1), randomBatch(c, spec.Batch)
	_, _, err = g.of(weights, data, spec.Slices) // compiles
	require.NoError(b, err)
	for b.Loop() {
		_, _, _ = g.of(weights, data, spec.Slices)
	}
	b.ReportMetric(float64(b.N*spec.Batch*spec.Context)/b.Elapsed().Seconds(), "tokens/s")
}
