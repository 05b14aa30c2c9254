package trainer

import (
	"math"
	"math/rand/v2"
	"strings"

	"github.com/refitml/refit/runtime/llama"
)

// initial draws fresh weights: gains 1, matrices normal with deviation 0.1 for the embedding and 1/sqrt(fan-in)
// otherwise, and projections back into the residual stream 0, so that a token is at first all that its position
// knows. In runs of a hundred steps this is worth half a bit a byte against a small embedding beneath random
// blocks. It is a pure function of its arguments.
func initial(c llama.Config, seed uint64) [][]float32 {
	rng := rand.New(rand.NewPCG(seed, 0x1417))
	var weights [][]float32
	for _, s := range c.Shapes() {
		w := make([]float32, s.Size())
		switch {
		case strings.Contains(s.Name, "o_proj") || strings.Contains(s.Name, "down_proj"):
		case strings.Contains(s.Name, "embed"):
			draw(w, rng, 0.1)
		case len(s.Dims) == 2:
			draw(w, rng, 1/math.Sqrt(float64(s.Dims[1])))
		default:
			for i := range w {
				w[i] = 1
			}
		}
		weights = append(weights, w)
	}
	return weights
}

func draw(w []float32, rng *rand.Rand, deviation float64) {
	for i := range w {
		w[i] = float32(rng.NormFloat64() * deviation)
	}
}

func zeros(c llama.Config) [][]float32 {
	var z [][]float32
	for _, s := range c.Shapes() {
		z = append(z, make([]float32, s.Size()))
	}
	return z
}
