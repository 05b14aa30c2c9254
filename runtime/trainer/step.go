package trainer

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code is written in the graph's own words
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/refitml/refit/runtime/llama"
)

// gradients computes loss and gradients of a batch in slices of rows. A slice is one execution of one graph on one
// thread; slices run side by side and are summed in their order. So the result depends on the number of slices,
// which is a setting, and not on the number of cores or on scheduling: that is what makes a run repeatable.
type gradients struct {
	config  llama.Config
	workers []*Exec // each with a backend of its own, used by one goroutine at a time
}

// newGradients takes one backend per worker.
func newGradients(c llama.Config, backends []compute.Backend) (*gradients, error) {
	g := &gradients{config: c}
	for _, backend := range backends {
		exec, err := NewExec(backend, func(in []*Node) []*Node {
			n := len(in) - 2
			d := newDecoder(c, in[:n], in[n])
			e := d.crossEntropy(in[n+1])
			return append([]*Node{e.loss}, d.gradients(in[n], e)...)
		})
		if err != nil {
			return nil, fmt.Errorf("build the training step: %w", err)
		}
		g.workers = append(g.workers, exec)
	}
	return g, nil
}

// batch is rows·length input tokens and the tokens that follow each.
type batch struct {
	inputs, targets []int32
	rows, length    int
}

func (b batch) slice(i, n int) batch {
	from, to := b.rows*i/n*b.length, b.rows*(i+1)/n*b.length
	return batch{b.inputs[from:to], b.targets[from:to], (to - from) / b.length, b.length}
}

// of returns the mean loss in nats a token and its gradients in the order of Config.Shapes. slices must divide the
// batch's rows.
func (g *gradients) of(params [][]float32, b batch, slices int) (float64, [][]float32, error) {
	shapes := g.config.Shapes()
	losses, parts, errs := make([]float64, slices), make([][][]float32, slices), make([]error, slices)
	var wg sync.WaitGroup
	var taken atomic.Int64
	for _, exec := range g.workers {
		wg.Go(func() {
			args := make([]any, len(params)+2)
			for i, p := range params {
				args[i] = tensors.FromFlatDataAndDimensions(p, shapes[i].Dims...)
			}
			for i := int(taken.Add(1)) - 1; i < slices; i = int(taken.Add(1)) - 1 {
				s := b.slice(i, slices)
				args[len(params)] = tensors.FromFlatDataAndDimensions(s.inputs, s.rows, s.length)
				args[len(params)+1] = tensors.FromFlatDataAndDimensions(s.targets, s.rows, s.length)
				losses[i], parts[i], errs[i] = execute(exec, args)
			}
			release(args[:len(params)])
		})
	}
	wg.Wait()
	loss, sum := 0.0, parts[0]
	for i := range slices {
		if errs[i] != nil {
			return 0, nil, fmt.Errorf("compute gradients: %w", errs[i])
		}
		loss += losses[i] / float64(slices)
		if i == 0 {
			continue
		}
		for j, part := range parts[i] {
			for k, v := range part {
				sum[j][k] += v
			}
		}
	}
	for _, part := range sum {
		for k := range part {
			part[k] /= float32(slices)
		}
	}
	return loss, sum, nil
}

func execute(exec *Exec, args []any) (float64, [][]float32, error) {
	out, err := exec.Exec(args...)
	if err != nil {
		return 0, nil, err
	}
	loss := float64(tensors.ToScalar[float32](out[0]))
	parts := make([][]float32, 0, len(out)-1)
	for _, t := range out[1:] {
		part, err := tensors.CopyFlatData[float32](t)
		if err != nil {
			return 0, nil, err
		}
		parts = append(parts, part)
	}
	for _, t := range out {
		t.MustFinalizeAll()
	}
	release(args[len(args)-2:])
	return loss, parts, nil
}

// release frees tensors without waiting for the garbage collector.
func release(args []any) {
	for _, a := range args {
		if t, ok := a.(*tensors.Tensor); ok {
			t.MustFinalizeAll()
		}
	}
}
