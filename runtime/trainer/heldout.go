package trainer

import (
	"fmt"
	"math"
	"path/filepath"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code is written in the graph's own words
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/llama"
	"github.com/refitml/refit/runtime/text"
)

// maxHeldOut is how many windows of held-out text are scored at most, so that a large held-out part costs seconds.
const maxHeldOut = 128

// heldOut reads the held-out part of a dataset; one without is nil.
func heldOut(dir string, t *bpe.Tokenizer) (*stream, error) {
	files, err := filepath.Glob(filepath.Join(dir, "heldout", "*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("list held-out text: %w", err)
	}
	if len(files) == 0 {
		return nil, nil
	}
	documents, err := text.Read(dir, "heldout")
	if err != nil {
		return nil, err
	}
	s := newStream(t, documents)
	return &s, nil
}

// bitsPerByte scores windows of s, spread evenly over it: the mean negative log-likelihood of the tokens after each
// window's first, over the bytes that these tokens stand for. A window knows nothing of the text before it, and an
// end of text stands for no byte, so the number is a little above what the model can do.
func bitsPerByte(backend compute.Backend, c llama.Config, params [][]float32, t *bpe.Tokenizer, s stream) (float64, error) {
	exec, err := NewExec(backend, func(in []*Node) *Node {
		n := len(in) - 2
		return newDecoder(c, in[:n], in[n]).crossEntropy(in[n+1]).loss
	})
	if err != nil {
		return 0, fmt.Errorf("build the scoring step: %w", err)
	}
	length := min(c.Context, len(s.tokens)-1)
	windows := (len(s.tokens) - 1) / length
	scored := min(windows, maxHeldOut)
	args := make([]any, len(params)+2)
	for i, shape := range c.Shapes() {
		args[i] = tensors.FromFlatDataAndDimensions(params[i], shape.Dims...)
	}
	defer func() { release(args[:len(params)]) }()
	nats, bytes := 0.0, 0
	for i := range scored {
		from := i * windows / scored * length
		inputs, targets := s.tokens[from:from+length], s.tokens[from+1:from+length+1]
		args[len(params)] = tensors.FromFlatDataAndDimensions(inputs, 1, length)
		args[len(params)+1] = tensors.FromFlatDataAndDimensions(targets, 1, length)
		out, err := exec.Exec(args...)
		if err != nil {
			return 0, fmt.Errorf("score held-out text: %w", err)
		}
		nats += float64(length) * float64(tensors.ToScalar[float32](out[0]))
		out[0].MustFinalizeAll()
		release(args[len(params):])
		for _, token := range targets {
			bytes += len(t.Bytes(int(token)))
		}
	}
	return nats / math.Ln2 / float64(bytes), nil
}
