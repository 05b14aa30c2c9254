package trainer

import (
	"math"
	"math/rand/v2"
	"strings"

	"github.com/refitml/refit/runtime/llama"
)

// initial draws fresh weights: gains 1, matrices normal with deviation 0.02 for the embedding and
// 1/sqrt(fan-in) otherwise, projections back into the residual stream scaled down by sqrt(2·layers). It is a pure
// function of its arguments.
func initial(c llama.Config, seed uint64) [][]float32 {
	rng := rand.New(rand.NewPCG(seed, 0x1417))
	var weights [][]float32
	for _, s := range c.Shapes() {
		w := make([]float32, s.Size())
		deviation := 0.02
		if len(s.Dims) == 2 && !strings.Contains(s.Name, "embed") {
			deviation = 1 / math.Sqrt(float64(s.Dims[1]))
		}
		if strings.Contains(s.Name, "o_proj") || strings.Contains(s.Name, "down_proj") {
			deviation /= math.Sqrt(2 * float64(c.Layers))
		}
		for i := range w {
			w[i] = 1
			if len(s.Dims) == 2 {
				w[i] = float32(rng.NormFloat64() * deviation)
			}
		}
		weights = append(weights, w)
	}
	return weights
}

func zeros(c llama.Config) [][]float32 {
	var z [][]float32
	for _, s := range c.Shapes() {
		z = append(z, make([]float32, s.Size()))
	}
	return z
}
