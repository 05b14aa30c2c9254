package trainer

import (
	"fmt"
	"math"

	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/llama"
)

// Spec is the parameters of a training job. Zero or missing means the default, which differs between pre-training
// and continuing where two are given. With a base model, the model's shape comes from the base and the fields for
// it must be missing or equal to the base's.
type Spec struct {
	VocabSize    int `json:"vocab_size"`   // tokens, default 2048
	Layers       int `json:"layers"`       // default 3
	Width        int `json:"width"`        // default 96
	Heads        int `json:"heads"`        // default 4
	KVHeads      int `json:"kv_heads"`     // default 2
	Intermediate int `json:"intermediate"` // width of the gated MLP, default 8/3 of width rounded up to 32
	Context      int `json:"context"`      // tokens, default 192

	Batch           int     `json:"batch"`            // sequences a step, default 12
	Slices          int     `json:"slices"`           // parts of a batch that are computed side by side; divides batch, default the largest up to 4 that does
	Steps           int     `json:"steps"`            // default 300; continuing 180
	LearningRate    float64 `json:"learning_rate"`    // peak, default 0.006; continuing 0.003
	Warmup          int     `json:"warmup"`           // steps, default steps/20, at least 1; -1 is none
	WeightDecay     float64 `json:"weight_decay"`     // default 0.1; -1 is none
	Seed            uint64  `json:"seed"`             // default 0 is a seed like any other
	CheckpointEvery int     `json:"checkpoint_every"` // steps, default 25
	ReplayFraction  float64 `json:"replay_fraction"`  // of sequences, default 0.25 if replay was given, else must be missing; -1 is none
}

func orDefault[T int | float64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func defaultSlices(batch int) int {
	for n := 4; n > 1; n-- {
		if batch%n == 0 {
			return n
		}
	}
	return 1
}

// resolve fills in defaults and checks; an error wraps job.ErrSpec. base is nil when pre-training.
func (s Spec) resolve(base *llama.Config, replay bool) (Spec, error) {
	if base != nil {
		for _, f := range []struct {
			name string
			got  *int
			want int
		}{
			{"vocab_size", &s.VocabSize, base.VocabSize}, {"layers", &s.Layers, base.Layers}, {"width", &s.Width, base.HiddenSize},
			{"heads", &s.Heads, base.Heads}, {"kv_heads", &s.KVHeads, base.KVHeads},
			{"intermediate", &s.Intermediate, base.IntermediateSize}, {"context", &s.Context, base.Context},
		} {
			orDefault(f.got, f.want)
			if *f.got != f.want {
				return s, fmt.Errorf("%w: %s is %d, but the base model has %d", job.ErrSpec, f.name, *f.got, f.want)
			}
		}
		orDefault(&s.Steps, 180)
		orDefault(&s.LearningRate, 0.003)
	}
	orDefault(&s.VocabSize, 2048)
	orDefault(&s.Layers, 3)
	orDefault(&s.Width, 96)
	orDefault(&s.Heads, 4)
	orDefault(&s.KVHeads, min(2, s.Heads))
	orDefault(&s.Intermediate, (s.Width*8/3+31)/32*32)
	orDefault(&s.Context, 192)
	orDefault(&s.Batch, 12)
	orDefault(&s.Slices, defaultSlices(s.Batch))
	orDefault(&s.Steps, 300)
	orDefault(&s.LearningRate, 0.006)
	orDefault(&s.Warmup, max(1, s.Steps/20))
	orDefault(&s.WeightDecay, 0.1)
	orDefault(&s.CheckpointEvery, 25)
	if replay {
		orDefault(&s.ReplayFraction, 0.25)
	}
	s.Warmup, s.WeightDecay = max(s.Warmup, 0), max(s.WeightDecay, 0)
	if s.ReplayFraction == -1 {
		s.ReplayFraction = 0
	}
	for _, f := range []struct {
		name      string
		got       int
		low, high int
	}{
		{"vocab_size", s.VocabSize, 257, 1 << 16}, {"context", s.Context, 8, 4096}, {"batch", s.Batch, 1, 4096},
		{"slices", s.Slices, 1, s.Batch}, {"steps", s.Steps, 1, 10_000_000}, {"warmup", s.Warmup, 0, s.Steps},
		{"checkpoint_every", s.CheckpointEvery, 1, 1 << 30},
	} {
		if f.got < f.low || f.got > f.high {
			return s, fmt.Errorf("%w: %s is %d; give %d to %d", job.ErrSpec, f.name, f.got, f.low, f.high)
		}
	}
	switch {
	case s.Batch%s.Slices != 0:
		return s, fmt.Errorf("%w: slices %d does not divide batch %d", job.ErrSpec, s.Slices, s.Batch)
	case !(s.LearningRate > 0 && s.LearningRate <= 1):
		return s, fmt.Errorf("%w: learning_rate is %g; give more than 0 and at most 1", job.ErrSpec, s.LearningRate)
	case !(s.WeightDecay >= 0 && s.WeightDecay <= 10):
		return s, fmt.Errorf("%w: weight_decay is %g; give 0 to 10, or -1 for none", job.ErrSpec, s.WeightDecay)
	case !replay && s.ReplayFraction != 0:
		return s, fmt.Errorf("%w: replay_fraction is %g, but there is no input replay", job.ErrSpec, s.ReplayFraction)
	case !(s.ReplayFraction >= 0 && s.ReplayFraction < 1):
		return s, fmt.Errorf("%w: replay_fraction is %g; give 0 to less than 1", job.ErrSpec, s.ReplayFraction)
	}
	if base == nil {
		if err := s.config().Check(); err != nil {
			return s, fmt.Errorf("%w: %w", job.ErrSpec, err)
		}
	}
	return s, nil
}

// config is the model that a resolved spec describes. The vocabulary may become smaller with little text.
func (s Spec) config() llama.Config {
	return llama.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama",
		VocabSize: s.VocabSize, HiddenSize: s.Width, IntermediateSize: s.Intermediate,
		Layers: s.Layers, Heads: s.Heads, KVHeads: s.KVHeads, Context: s.Context,
		NormEpsilon: 1e-5, RopeTheta: 10000, Activation: "silu", TieEmbeddings: true, DType: "float32",
	}
}

// rate is the learning rate of step (from 1): linear warm-up, then a cosine down to a tenth of the peak.
func (s Spec) rate(step int) float64 {
	if step <= s.Warmup {
		return s.LearningRate * float64(step) / float64(s.Warmup)
	}
	done := float64(step-s.Warmup) / float64(max(1, s.Steps-s.Warmup))
	return s.LearningRate * (0.1 + 0.9*0.5*(1+math.Cos(math.Pi*done)))
}
