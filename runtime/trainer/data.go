package trainer

import (
	"math"
	"math/rand/v2"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/text"
)

// stream is all documents of a dataset as tokens, each after an end-of-text token.
type stream struct {
	tokens []int32
	bytes  int // of the documents' texts
}

func newStream(t *bpe.Tokenizer, documents []text.Document) stream {
	var s stream
	encoder := t.Encoder()
	var buffer []int
	for _, d := range documents {
		buffer = encoder.AppendTo(append(buffer[:0], bpe.EndOfText), d.Rendered())
		for _, token := range buffer {
			s.tokens = append(s.tokens, int32(token))
		}
		s.bytes += len(d.Rendered())
	}
	s.tokens = append(s.tokens, bpe.EndOfText)
	return s
}

// order serves windows of a stream, each length+1 tokens, in an order that depends on seed and index only. In one
// epoch each window comes once; every epoch has a permutation and an offset of its own.
type order struct {
	stream       stream
	length       int
	seed, salt   uint64
	epoch        int
	permutation  []int
	offset       int
	windowsTotal int
}

func newOrder(s stream, length int, seed, salt uint64) *order {
	// A stream shorter than one window is repeated.
	for len(s.tokens) < 2*length+1 {
		s.tokens = append(s.tokens[:len(s.tokens):len(s.tokens)], s.tokens...)
	}
	return &order{stream: s, length: length, seed: seed, salt: salt, epoch: -1, windowsTotal: (len(s.tokens) - length) / length}
}

// window returns the index-th sequence of the run.
func (o *order) window(index int) []int32 {
	epoch := index / o.windowsTotal
	if epoch != o.epoch {
		rng := rand.New(rand.NewPCG(o.seed, o.salt<<32|uint64(epoch)))
		o.epoch, o.permutation, o.offset = epoch, rng.Perm(o.windowsTotal), rng.IntN(o.length)
	}
	from := o.permutation[index%o.windowsTotal]*o.length + o.offset // at most length before the last window's end
	return o.stream.tokens[from : from+o.length+1]
}

// mixture takes a fixed share of a run's sequences from replay, spread evenly.
type mixture struct {
	fresh, replay *order // replay is nil without one
	fraction      float64
}

// batch is the data of step (from 1).
func (m mixture) batch(step, rows int) batch {
	length := m.fresh.length
	b := batch{rows: rows, length: length}
	for i := (step - 1) * rows; i < step*rows; i++ {
		var w []int32
		before := int(math.Floor(float64(i) * m.fraction))
		if after := int(math.Floor(float64(i+1) * m.fraction)); after > before {
			w = m.replay.window(before)
		} else {
			w = m.fresh.window(i - before)
		}
		b.inputs = append(b.inputs, w[:length]...)
		b.targets = append(b.targets, w[1:]...)
	}
	return b
}
