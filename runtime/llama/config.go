package llama

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Config is the part of a Hugging Face config.json that this model needs.
type Config struct {
	Architectures    []string `json:"architectures"`
	ModelType        string   `json:"model_type"`
	VocabSize        int      `json:"vocab_size"`
	HiddenSize       int      `json:"hidden_size"`       // width of the residual stream
	IntermediateSize int      `json:"intermediate_size"` // width of the gated MLP
	Layers           int      `json:"num_hidden_layers"`
	Heads            int      `json:"num_attention_heads"`
	KVHeads          int      `json:"num_key_value_heads"` // divides Heads
	Context          int      `json:"max_position_embeddings"`
	NormEpsilon      float64  `json:"rms_norm_eps"`
	RopeTheta        float64  `json:"rope_theta"`
	Activation       string   `json:"hidden_act"`
	TieEmbeddings    bool     `json:"tie_word_embeddings"`
	BOS              int      `json:"bos_token_id"` // also marks the end of a document
	EOS              int      `json:"eos_token_id"`
	DType            string   `json:"torch_dtype"`
}

// HeadSize is the width of one attention head.
func (c Config) HeadSize() int { return c.HiddenSize / c.Heads }

// Parameters counts the trainable numbers.
func (c Config) Parameters() int {
	n := 0
	for _, shape := range c.Shapes() {
		n += shape.Size()
	}
	return n
}

// Check names the first thing that this implementation cannot compute exactly.
func (c Config) Check() error {
	switch {
	case c.ModelType != "llama":
		return fmt.Errorf("model_type %q: only llama is supported", c.ModelType)
	case c.VocabSize < 2 || c.VocabSize > 1<<20:
		return fmt.Errorf("vocab_size %d: give 2 to %d", c.VocabSize, 1<<20)
	case c.HiddenSize < 2 || c.HiddenSize > 1<<14:
		return fmt.Errorf("hidden_size %d: give 2 to %d", c.HiddenSize, 1<<14)
	case c.IntermediateSize < 1 || c.IntermediateSize > 1<<16:
		return fmt.Errorf("intermediate_size %d: give 1 to %d", c.IntermediateSize, 1<<16)
	case c.Layers < 1 || c.Layers > 256:
		return fmt.Errorf("num_hidden_layers %d: give 1 to 256", c.Layers)
	case c.Heads < 1 || c.HiddenSize%c.Heads != 0 || c.HeadSize()%2 != 0:
		return fmt.Errorf("num_attention_heads %d: must divide hidden_size %d into even parts", c.Heads, c.HiddenSize)
	case c.KVHeads < 1 || c.Heads%c.KVHeads != 0:
		return fmt.Errorf("num_key_value_heads %d: must divide num_attention_heads %d", c.KVHeads, c.Heads)
	case c.Context < 2 || c.Context > 1<<17:
		return fmt.Errorf("max_position_embeddings %d: give 2 to %d", c.Context, 1<<17)
	case c.NormEpsilon <= 0 || c.NormEpsilon > 1:
		return fmt.Errorf("rms_norm_eps %g: give a small positive number", c.NormEpsilon)
	case c.RopeTheta < 1:
		return fmt.Errorf("rope_theta %g: give at least 1", c.RopeTheta)
	case c.Activation != "silu":
		return fmt.Errorf("hidden_act %q: only silu is supported", c.Activation)
	case !c.TieEmbeddings:
		return fmt.Errorf("tie_word_embeddings false: only tied embeddings are supported")
	case c.BOS < 0 || c.BOS >= c.VocabSize || c.EOS < 0 || c.EOS >= c.VocabSize:
		return fmt.Errorf("bos_token_id %d or eos_token_id %d lies outside the vocabulary of %d", c.BOS, c.EOS, c.VocabSize)
	}
	return nil
}

// Shape is one weight's name and dimensions.
type Shape struct {
	Name string
	Dims []int
}

// Size is the number of values.
func (s Shape) Size() int {
	size := 1
	for _, d := range s.Dims {
		size *= d
	}
	return size
}

// Shapes lists all weights in a fixed order: embedding, layers from below, last norm. Linear weights are
// [out, in], as in PyTorch.
func (c Config) Shapes() []Shape {
	kv := c.KVHeads * c.HeadSize()
	shapes := []Shape{{"model.embed_tokens.weight", []int{c.VocabSize, c.HiddenSize}}}
	for i := range c.Layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		shapes = append(shapes,
			Shape{p + "input_layernorm.weight", []int{c.HiddenSize}},
			Shape{p + "self_attn.q_proj.weight", []int{c.HiddenSize, c.HiddenSize}},
			Shape{p + "self_attn.k_proj.weight", []int{kv, c.HiddenSize}},
			Shape{p + "self_attn.v_proj.weight", []int{kv, c.HiddenSize}},
			Shape{p + "self_attn.o_proj.weight", []int{c.HiddenSize, c.HiddenSize}},
			Shape{p + "post_attention_layernorm.weight", []int{c.HiddenSize}},
			Shape{p + "mlp.gate_proj.weight", []int{c.IntermediateSize, c.HiddenSize}},
			Shape{p + "mlp.up_proj.weight", []int{c.IntermediateSize, c.HiddenSize}},
			Shape{p + "mlp.down_proj.weight", []int{c.HiddenSize, c.IntermediateSize}},
		)
	}
	return append(shapes, Shape{"model.norm.weight", []int{c.HiddenSize}})
}

// ReadConfig reads and checks config.json of a model folder.
func ReadConfig(dir string) (Config, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return Config{}, fmt.Errorf("read the model's config: %w", err)
	}
	var c Config
	if err := json.Unmarshal(raw, &c); err != nil {
		return Config{}, fmt.Errorf("read the model's config in %s: %w", dir, err)
	}
	if err := c.Check(); err != nil {
		return Config{}, fmt.Errorf("check the model's config in %s: %w", dir, err)
	}
	return c, nil
}
