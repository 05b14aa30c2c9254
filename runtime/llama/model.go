package llama

import (
	"fmt"
	"math"
)

// Model is a config with its weights, ready to compute. It is immutable.
type Model struct {
	config    Config
	embedding []float32 // [vocabulary, hidden]
	layers    []layer
	norm      []float32
	cos, sin  []float32 // [context, head/2]
}

type layer struct {
	attentionNorm, mlpNorm []float32
	q, k, v, o             []float32
	gate, up, down         []float32
}

// Load reads a model folder.
func Load(dir string) (*Model, error) {
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	weights, err := ReadWeights(dir, config)
	if err != nil {
		return nil, err
	}
	return New(config, weights)
}

// New makes a model of weights in the order of Config.Shapes. It keeps the slices; nobody may write to them after.
// A weight that is not a finite number is an error: it would make every answer nonsense without a word.
func New(c Config, weights [][]float32) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("check the model's config: %w", err)
	}
	shapes := c.Shapes()
	if len(weights) != len(shapes) {
		return nil, fmt.Errorf("make a model: %d weights, the config asks for %d", len(weights), len(shapes))
	}
	for i, s := range shapes {
		if err := s.check(weights[i]); err != nil {
			return nil, err
		}
	}
	next := func() []float32 { w := weights[0]; weights = weights[1:]; return w }
	m := &Model{config: c, embedding: next()}
	for range c.Layers {
		m.layers = append(m.layers, layer{
			attentionNorm: next(), q: next(), k: next(), v: next(), o: next(),
			mlpNorm: next(), gate: next(), up: next(), down: next(),
		})
	}
	m.norm = next()
	m.turns()
	return m, nil
}

func (s Shape) check(weight []float32) error {
	size := 1
	for _, d := range s.Dims {
		size *= d
	}
	if len(weight) != size {
		return fmt.Errorf("make a model: %s has %d values, the config asks for %d", s.Name, len(weight), size)
	}
	for _, v := range weight {
		if v-v != 0 { // neither NaN nor infinite
			return fmt.Errorf("make a model: %s holds a value that is not a finite number", s.Name)
		}
	}
	return nil
}

// turns fills the tables of the rotary positions.
func (m *Model) turns() {
	half := m.config.HeadSize() / 2
	m.cos, m.sin = make([]float32, m.config.Context*half), make([]float32, m.config.Context*half)
	for i := range half {
		frequency := math.Pow(m.config.RopeTheta, -2*float64(i)/float64(m.config.HeadSize()))
		for t := range m.config.Context {
			sin, cos := math.Sincos(float64(t) * frequency)
			m.cos[t*half+i], m.sin[t*half+i] = float32(cos), float32(sin)
		}
	}
}

// Config says what the model is.
func (m *Model) Config() Config { return m.config }
