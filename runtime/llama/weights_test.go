package llama

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/safetensors"
)

func smallConfig() Config {
	return Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", VocabSize: 11, HiddenSize: 8, IntermediateSize: 12,
		Layers: 2, Heads: 4, KVHeads: 2, Context: 16, NormEpsilon: 1e-5, RopeTheta: 10000, Activation: "silu", TieEmbeddings: true,
		DType: "float32",
	}
}

func countedWeights(c Config) [][]float32 {
	var weights [][]float32
	n := float32(0)
	for _, s := range c.Shapes() {
		w := make([]float32, s.Size())
		for i := range w {
			n++
			w[i] = n
		}
		weights = append(weights, w)
	}
	return weights
}

func TestAModelFolderRoundTrips(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), smallConfig()
	weights := countedWeights(c)
	require.NoError(t, Write(dir, c, weights))
	got, err := ReadConfig(dir)
	require.NoError(t, err)
	require.Equal(t, c, got)
	read, err := ReadWeights(dir, got)
	require.NoError(t, err)
	require.Equal(t, weights, read)
	last := weights[len(weights)-1]
	require.EqualValues(t, c.Parameters(), last[len(last)-1])
}

func TestWeightsThatDoNotFitTheConfigAreRefused(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	for name, change := range map[string]func(map[string]safetensors.Tensor){
		"missing":     func(m map[string]safetensors.Tensor) { delete(m, "model.norm.weight") },
		"superfluous": func(m map[string]safetensors.Tensor) { m["lm_head.weight"] = safetensors.Tensor{Shape: []int{0}} },
		"renamed": func(m map[string]safetensors.Tensor) {
			m["norm.weight"] = m["model.norm.weight"]
			delete(m, "model.norm.weight")
		},
		"misshapen": func(m map[string]safetensors.Tensor) {
			m["model.embed_tokens.weight"] = safetensors.Tensor{Shape: []int{c.HiddenSize, c.VocabSize}, Data: m["model.embed_tokens.weight"].Data}
		},
	} {
		dir := t.TempDir()
		require.NoError(t, Write(dir, c, countedWeights(c)))
		file, err := safetensors.ReadFile(filepath.Join(dir, WeightsFile))
		require.NoError(t, err)
		change(file.Tensors)
		out, err := os.Create(filepath.Join(dir, WeightsFile))
		require.NoError(t, err)
		require.NoError(t, safetensors.Write(out, file))
		require.NoError(t, out.Close())
		_, err = ReadWeights(dir, c)
		require.ErrorContains(t, err, "the config asks for", name)
	}
	_, err := ReadWeights(t.TempDir(), c)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAConfigThatCannotBeComputedIsRefused(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Config){
		"model_type":              func(c *Config) { c.ModelType = "gpt2" },
		"vocab_size":              func(c *Config) { c.VocabSize = 1 },
		"hidden_size":             func(c *Config) { c.HiddenSize = 0 },
		"intermediate_size":       func(c *Config) { c.IntermediateSize = -1 },
		"num_hidden_layers":       func(c *Config) { c.Layers = 0 },
		"num_attention_heads":     func(c *Config) { c.Heads = 3 },
		"num_key_value_heads":     func(c *Config) { c.KVHeads = 3 },
		"max_position_embeddings": func(c *Config) { c.Context = 1 },
		"rms_norm_eps":            func(c *Config) { c.NormEpsilon = 0 },
		"rope_theta":              func(c *Config) { c.RopeTheta = 0 },
		"hidden_act":              func(c *Config) { c.Activation = "gelu" },
		"tie_word_embeddings":     func(c *Config) { c.TieEmbeddings = false },
		"eos_token_id":            func(c *Config) { c.EOS = 11 },
	} {
		c := smallConfig()
		change(&c)
		require.ErrorContains(t, c.Check(), field)
		require.ErrorContains(t, Write(t.TempDir(), c, nil), field)
		dir := t.TempDir()
		raw, err := json.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600))
		_, err = ReadConfig(dir)
		require.ErrorContains(t, err, field)
	}
	require.NoError(t, smallConfig().Check())
}
