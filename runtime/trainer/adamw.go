package trainer

import (
	"math"
	"strings"

	"github.com/refitml/refit/runtime/llama"
)

// Constants of AdamW; learning rate and weight decay are settings. The second moment forgets faster than in
// long runs because these runs have hundreds of steps.
const (
	beta1       = 0.9
	beta2       = 0.98
	adamEpsilon = 1e-8
	clipNorm    = 1.0
)

// state is everything, besides the step's number and the data, that decides what the next step does. Each list
// is in the order of Config.Shapes.
type state struct {
	loss                  float64 // of the last step, nats a token
	params, first, second [][]float32
}

// adamW advances the state by step number step (from 1). Gradients are clipped to a global norm of 1 in place; gains
// are not decayed. Source: Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2.
func (s *state) adamW(c llama.Config, gradients [][]float32, step int, rate, weightDecay float64) {
	squares := 0.0
	for _, g := range gradients {
		for _, v := range g {
			squares += float64(v) * float64(v)
		}
	}
	clip := float32(1 / max(1, math.Sqrt(squares)/clipNorm))
	fix1 := float32(1 / (1 - math.Pow(beta1, float64(step))))
	fix2 := float32(1 / (1 - math.Pow(beta2, float64(step))))
	for i, shape := range c.Shapes() {
		decay := float32(weightDecay)
		if strings.HasSuffix(shape.Name, "norm.weight") {
			decay = 0
		}
		p, m, v := s.params[i], s.first[i], s.second[i]
		for k, g := range gradients[i] {
			g *= clip
			m[k] = beta1*m[k] + (1-beta1)*g
			v[k] = beta2*v[k] + (1-beta2)*g*g
			move := m[k] * fix1 / (float32(math.Sqrt(float64(v[k]*fix2))) + adamEpsilon)
			p[k] -= float32(rate) * (move + decay*p[k])
		}
	}
}
