package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"

	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/llama"
	"github.com/refitml/refit/runtime/safetensors"
)

const (
	keptCheckpoints = 2
	unfinished      = ".writing-*" // name of a checkpoint that is being written
)

// checkpoints is the folder of one run's checkpoints.
type checkpoints struct {
	dir         string
	config      llama.Config
	fingerprint string // of spec and inputs
}

func (c checkpoints) path(step int) string {
	return filepath.Join(c.dir, fmt.Sprintf("step-%09d.safetensors", step))
}

// save writes the state after step and removes all but the newest two checkpoints.
func (c checkpoints) save(step int, s state) error {
	file := safetensors.File{
		Tensors: map[string]safetensors.Tensor{},
		Metadata: map[string]string{
			"step": strconv.Itoa(step), "fingerprint": c.fingerprint, "loss": strconv.FormatFloat(s.loss, 'g', -1, 64),
		},
	}
	for i, shape := range c.config.Shapes() {
		file.Tensors["params."+shape.Name] = safetensors.Tensor{Shape: shape.Dims, Data: s.params[i]}
		file.Tensors["first."+shape.Name] = safetensors.Tensor{Shape: shape.Dims, Data: s.first[i]}
		file.Tensors["second."+shape.Name] = safetensors.Tensor{Shape: shape.Dims, Data: s.second[i]}
	}
	file.Metadata["digest"] = digest(file)
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("write checkpoint %d: %w", step, err)
	}
	if err := writeSynced(c.path(step), file); err != nil {
		return fmt.Errorf("write checkpoint %d: %w", step, err)
	}
	files, err := c.list()
	if err != nil {
		return err
	}
	for _, old := range files[:max(0, len(files)-keptCheckpoints)] {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("remove an old checkpoint: %w", err)
		}
	}
	return nil
}

// writeSynced makes the file appear whole or not at all, also after a loss of power.
func writeSynced(path string, file safetensors.File) error {
	out, err := os.CreateTemp(filepath.Dir(path), unfinished)
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // does nothing after the rename
	defer out.Close()
	if err := safetensors.Write(out, file); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := os.Rename(out.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// list returns the checkpoint files, oldest first.
func (c checkpoints) list() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(c.dir, "step-*.safetensors"))
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	sort.Strings(files)
	return files, nil
}

// newest reads the newest checkpoint that is whole. Without any it returns step 0; if there are some and none is
// whole, it fails. A whole checkpoint of another spec or input wraps job.ErrSpec.
func (c checkpoints) newest() (int, state, error) {
	if err := c.sweep(); err != nil {
		return 0, state{}, err
	}
	files, err := c.list()
	if err != nil {
		return 0, state{}, err
	}
	var faults []error
	for i := len(files) - 1; i >= 0; i-- {
		file, err := safetensors.ReadFile(files[i])
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if file.Metadata["digest"] != digest(file) {
			faults = append(faults, fmt.Errorf("checkpoint %s: its content does not have its digest", files[i]))
			continue
		}
		if got := file.Metadata["fingerprint"]; got != c.fingerprint {
			return 0, state{}, fmt.Errorf("%w: checkpoint %s belongs to another spec or other inputs (%.12s, this run is %.12s)",
				job.ErrSpec, files[i], got, c.fingerprint)
		}
		step, s, err := c.decode(file)
		if err != nil {
			faults = append(faults, fmt.Errorf("checkpoint %s: %w", files[i], err))
			continue
		}
		return step, s, nil
	}
	if len(faults) > 0 {
		return 0, state{}, fmt.Errorf("no checkpoint can be read: %w", errors.Join(faults...))
	}
	return 0, state{}, nil
}

// sweep removes what a killed run was writing. Two tries of one run never run at once.
func (c checkpoints) sweep() error {
	files, err := filepath.Glob(filepath.Join(c.dir, unfinished))
	if err != nil {
		return fmt.Errorf("list unfinished checkpoints: %w", err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove an unfinished checkpoint: %w", err)
		}
	}
	return nil
}

// digest is the SHA-256 of all that a checkpoint says but the digest itself.
func digest(file safetensors.File) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(file.Metadata)) {
		if key != "digest" {
			fmt.Fprintf(h, "%q %q\n", key, file.Metadata[key])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Tensors)) {
		fmt.Fprintf(h, "%q\n", name)
		hashFloats(h, [][]float32{file.Tensors[name].Data})
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (c checkpoints) decode(file safetensors.File) (int, state, error) {
	step, err := strconv.Atoi(file.Metadata["step"])
	if err != nil || step < 1 {
		return 0, state{}, fmt.Errorf("step %q is not a positive number", file.Metadata["step"])
	}
	s := state{}
	if s.loss, err = strconv.ParseFloat(file.Metadata["loss"], 64); err != nil {
		return 0, state{}, fmt.Errorf("loss %q is not a number", file.Metadata["loss"])
	}
	for _, part := range []struct {
		prefix string
		to     *[][]float32
	}{{"params.", &s.params}, {"first.", &s.first}, {"second.", &s.second}} {
		for _, shape := range c.config.Shapes() {
			t, ok := file.Tensors[part.prefix+shape.Name]
			if !ok || !slices.Equal(t.Shape, shape.Dims) {
				return 0, state{}, fmt.Errorf("tensor %s%s is missing or misshapen", part.prefix, shape.Name)
			}
			*part.to = append(*part.to, t.Data)
		}
	}
	return step, s, nil
}
