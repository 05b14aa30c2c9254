package embedder

import (
	"fmt"

	"github.com/refitml/refit/runtime/job"
)

// Spec is the parameters of a training job. Zero or missing means the default.
type Spec struct {
	Dimension    int     `json:"dimension"`     // default 192
	Epochs       int     `json:"epochs"`        // passes over all pairs, default 8; -1 is none: a random projection
	Batch        int     `json:"batch"`         // pairs that are told apart at once, default 256; fewer where there are fewer
	LearningRate float64 `json:"learning_rate"` // at the beginning, falling to a twentieth; default 0.1
	Temperature  float64 `json:"temperature"`   // of the softmax over cosines, default 0.08
	MinCount     int     `json:"min_count"`     // documents that a word stands in at least, default 2
	MaxWords     int     `json:"max_words"`     // of the vocabulary, those in most documents; default 50000
	Buckets      int     `json:"buckets"`       // for pieces of other words, default 2048
	Seed         uint64  `json:"seed"`          // default 0 is a seed like any other
}

// resolve fills in defaults and checks; an error wraps job.ErrSpec.
func (s Spec) resolve() (Spec, error) {
	for _, f := range []struct {
		name               string
		got                *int
		standard, low, top int
	}{
		{"dimension", &s.Dimension, 192, 2, 4096}, {"epochs", &s.Epochs, 8, -1, 1000}, {"batch", &s.Batch, 256, 2, 4096},
		{"min_count", &s.MinCount, 2, 1, 1 << 20}, {"max_words", &s.MaxWords, 50_000, 1, 1 << 20}, {"buckets", &s.Buckets, 2048, 1, 1 << 20},
	} {
		if *f.got == 0 {
			*f.got = f.standard
		}
		if *f.got < f.low || *f.got > f.top {
			return s, fmt.Errorf("%w: %s is %d; give %d to %d", job.ErrSpec, f.name, *f.got, f.low, f.top)
		}
	}
	s.Epochs = max(0, s.Epochs)
	for _, f := range []struct {
		name     string
		got      *float64
		standard float64
	}{{"learning_rate", &s.LearningRate, 0.1}, {"temperature", &s.Temperature, 0.08}} {
		if *f.got == 0 {
			*f.got = f.standard
		}
		if !(*f.got > 0 && *f.got <= 10) {
			return s, fmt.Errorf("%w: %s is %g; give more than 0 and at most 10", job.ErrSpec, f.name, *f.got)
		}
	}
	return s, nil
}
