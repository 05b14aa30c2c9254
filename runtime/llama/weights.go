package llama

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/refitml/refit/runtime/safetensors"
)

// WeightsFile is the name of the weights in a model folder.
const WeightsFile = "model.safetensors"

// ReadWeights reads the weights of a model folder in the order of Config.Shapes. A missing, superfluous or
// misshapen tensor is an error.
func ReadWeights(dir string, c Config) ([][]float32, error) {
	file, err := safetensors.ReadFile(filepath.Join(dir, WeightsFile))
	if err != nil {
		return nil, err
	}
	shapes := c.Shapes()
	if len(file.Tensors) != len(shapes) {
		return nil, fmt.Errorf("weights in %s: %d tensors, the config asks for %d", dir, len(file.Tensors), len(shapes))
	}
	weights := make([][]float32, len(shapes))
	for i, s := range shapes {
		t, ok := file.Tensors[s.Name]
		if !ok || !slices.Equal(t.Shape, s.Dims) {
			return nil, fmt.Errorf("weights in %s: %s has shape %v, the config asks for %v", dir, s.Name, t.Shape, s.Dims)
		}
		weights[i] = t.Data
	}
	return weights, nil
}

// Write writes config.json and model.safetensors into dir, which must exist.
func Write(dir string, c Config, weights [][]float32) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("check the model's config: %w", err)
	}
	file := safetensors.File{Tensors: map[string]safetensors.Tensor{}, Metadata: map[string]string{"format": "pt"}}
	for i, s := range c.Shapes() {
		file.Tensors[s.Name] = safetensors.Tensor{Shape: s.Dims, Data: weights[i]}
	}
	out, err := os.Create(filepath.Join(dir, WeightsFile))
	if err != nil {
		return fmt.Errorf("write the model's weights: %w", err)
	}
	defer out.Close()
	if err := safetensors.Write(out, file); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write the model's weights: %w", err)
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the model's config: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the model's config: %w", err)
	}
	return nil
}
