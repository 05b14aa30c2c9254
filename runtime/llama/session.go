package llama

import (
	"fmt"
	"math"

	"github.com/refitml/refit/runtime/internal/vec"
)

// block is how many tokens go through the layers at once: enough to use a weight often while it is in the cache,
// and few enough that the space for them stays small.
const block = 32

// Session is one sequence and what the layers remember of it. It belongs to one goroutine. The same tokens give the
// same logits to the last bit, however they are cut into calls.
type Session struct {
	model  *Model
	length int
	// A layer's keys are [KV heads, context, head]; its values are turned, [KV heads, head, context], so that both
	// are read along a row.
	keys, values [][]float32
	space
}

// space is for results that are needed for a moment.
type space struct {
	x, h, q, k, v, mixed, gate, up []float32 // block rows each
	scores                         []float32 // of one group of heads
	logits                         []float32
}

// NewSession makes an empty session. It takes 8 bytes of memory for each layer, position and value of a KV head.
func (m *Model) NewSession() *Session {
	c := m.config
	kv := c.KVHeads * c.HeadSize()
	s := &Session{model: m}
	for range c.Layers {
		s.keys = append(s.keys, make([]float32, c.Context*kv))
		s.values = append(s.values, make([]float32, c.Context*kv))
	}
	rows := min(block, c.Context)
	s.space = space{
		x: make([]float32, rows*c.HiddenSize), h: make([]float32, rows*c.HiddenSize),
		q: make([]float32, rows*c.HiddenSize), mixed: make([]float32, rows*c.HiddenSize),
		k: make([]float32, rows*kv), v: make([]float32, rows*kv),
		gate: make([]float32, rows*c.IntermediateSize), up: make([]float32, rows*c.IntermediateSize),
		scores: make([]float32, c.Heads/c.KVHeads*c.Context),
		logits: make([]float32, rows*c.VocabSize),
	}
	return s
}

// Length is the number of tokens read.
func (s *Session) Length() int { return s.length }

// Room is the number of tokens that still fit.
func (s *Session) Room() int { return s.model.config.Context - s.length }

// Reset forgets all tokens.
func (s *Session) Reset() { s.length = 0 }

// Append reads tokens, at least one, and returns the logits of the token after the last. They are valid
// until the next call.
func (s *Session) Append(tokens []int) ([]float32, error) {
	if err := s.fits(tokens); err != nil {
		return nil, err
	}
	last := 0
	for len(tokens) > 0 {
		n := min(block, len(tokens))
		s.read(tokens[:n])
		tokens, last = tokens[n:], n-1
	}
	return s.predict(last, 1), nil
}

// Walk reads tokens, at least one, and shows the logits of the token after each of them, in order. see may not
// keep or change them.
func (s *Session) Walk(tokens []int, see func(i int, logits []float32)) error {
	if err := s.fits(tokens); err != nil {
		return err
	}
	vocabulary := s.model.config.VocabSize
	for done := 0; done < len(tokens); {
		n := min(block, len(tokens)-done)
		s.read(tokens[done : done+n])
		logits := s.predict(0, n)
		for i := range n {
			see(done+i, logits[i*vocabulary:][:vocabulary])
		}
		done += n
	}
	return nil
}

func (s *Session) fits(tokens []int) error {
	if len(tokens) == 0 || len(tokens) > s.Room() {
		return fmt.Errorf("read %d tokens: there is room for 1 to %d", len(tokens), s.Room())
	}
	for _, t := range tokens {
		if t < 0 || t >= s.model.config.VocabSize {
			return fmt.Errorf("read token %d: the vocabulary has %d", t, s.model.config.VocabSize)
		}
	}
	return nil
}

// read takes at most block tokens through all layers; x holds a row for each afterwards.
func (s *Session) read(tokens []int) {
	c, n := s.model.config, len(tokens)
	for i, t := range tokens {
		copy(s.x[i*c.HiddenSize:][:c.HiddenSize], s.model.embedding[t*c.HiddenSize:])
	}
	for i := range s.model.layers {
		s.attend(i, n)
		s.transform(&s.model.layers[i], n)
	}
	s.length += n
}

// predict gives the logits after n of the rows that were read last.
func (s *Session) predict(from, n int) []float32 {
	c := s.model.config
	s.normalise(s.x[from*c.HiddenSize:], s.model.norm, n)
	logits := s.logits[:n*c.VocabSize]
	vec.Multiply(logits, s.h, n, s.model.embedding, c.VocabSize, c.HiddenSize, c.HiddenSize)
	return logits
}

// normalise puts n rows of x, scaled to a root mean square of 1 and then by gain, into h.
func (s *Session) normalise(x, gain []float32, n int) {
	width := len(gain)
	for r := range n {
		row, out := x[r*width:][:width], s.h[r*width:][:width]
		mean := vec.Dot(row, row) / float32(width)
		scale := 1 / float32(math.Sqrt(float64(mean)+s.model.config.NormEpsilon))
		for i, v := range row {
			out[i] = v * scale * gain[i]
		}
	}
}

// attend adds the attention of layer i to the n rows of x.
func (s *Session) attend(i, n int) {
	c, l := s.model.config, &s.model.layers[i]
	hidden, head, kv := c.HiddenSize, c.HeadSize(), c.KVHeads*c.HeadSize()
	s.normalise(s.x, l.attentionNorm, n)
	vec.Multiply(s.q, s.h, n, l.q, hidden, hidden, hidden)
	vec.Multiply(s.k, s.h, n, l.k, kv, hidden, hidden)
	vec.Multiply(s.v, s.h, n, l.v, kv, hidden, hidden)
	scale := float32(1 / math.Sqrt(float64(head)))
	for r := range n {
		s.turn(s.q[r*hidden:][:hidden], s.length+r, scale)
		s.turn(s.k[r*kv:][:kv], s.length+r, 1)
		s.remember(i, r)
	}
	group := c.Heads / c.KVHeads
	for r := range n {
		seen := s.length + r + 1
		scores := s.scores[:group*seen]
		for g := range c.KVHeads {
			// The query heads of a group lie side by side, so they are the rows of one product.
			q, mixed := s.q[r*hidden+g*group*head:], s.mixed[r*hidden+g*group*head:]
			vec.Multiply(scores, q, group, s.keys[i][g*c.Context*head:], seen, head, head)
			for j := range group {
				softmax(scores[j*seen:][:seen])
			}
			vec.Multiply(mixed, scores, group, s.values[i][g*head*c.Context:], head, seen, c.Context)
		}
	}
	vec.Multiply(s.h, s.mixed, n, l.o, hidden, hidden, hidden)
	vec.AddScaled(s.x[:n*hidden], s.h[:n*hidden], 1)
}

// turn rotates the heads in x by position and scales them; the halves of a head pair up, as Hugging Face's
// weights expect.
func (s *Session) turn(x []float32, position int, scale float32) {
	head := s.model.config.HeadSize()
	half := head / 2
	cos, sin := s.model.cos[position*half:][:half], s.model.sin[position*half:][:half]
	for ; len(x) > 0; x = x[head:] {
		low, high := x[:half], x[half:head]
		for i := range half {
			a, b := low[i]*scale, high[i]*scale
			low[i], high[i] = a*cos[i]-b*sin[i], b*cos[i]+a*sin[i]
		}
	}
}

// remember keeps key and value of row r in layer i.
func (s *Session) remember(i, r int) {
	c, position := s.model.config, s.length+r
	head := c.HeadSize()
	for g := range c.KVHeads {
		from := (r*c.KVHeads + g) * head
		copy(s.keys[i][(g*c.Context+position)*head:][:head], s.k[from:])
		for d, v := range s.v[from:][:head] {
			s.values[i][(g*head+d)*c.Context+position] = v
		}
	}
}

// transform adds the gated MLP of a layer to the n rows of x.
func (s *Session) transform(l *layer, n int) {
	c := s.model.config
	hidden, width := c.HiddenSize, c.IntermediateSize
	s.normalise(s.x, l.mlpNorm, n)
	vec.Multiply(s.gate, s.h, n, l.gate, width, hidden, hidden)
	vec.Multiply(s.up, s.h, n, l.up, width, hidden, hidden)
	up := s.up[:n*width]
	for i, g := range s.gate[:n*width] {
		up[i] *= g / (1 + exp(-g))
	}
	vec.Multiply(s.h, up, n, l.down, hidden, width, width)
	vec.AddScaled(s.x[:n*hidden], s.h[:n*hidden], 1)
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

// softmax makes x, at least one value, probabilities.
func softmax(x []float32) {
	most := x[0]
	for _, v := range x {
		most = max(most, v)
	}
	var sum float32
	for i, v := range x {
		x[i] = exp(v - most)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}
