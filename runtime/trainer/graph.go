package trainer

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code is written in the graph's own words

	"github.com/refitml/refit/runtime/llama"
)

// decoder is the forward pass as a graph, with what the way back (backward.go) needs of it. How it is written follows
// from what the Go backend does fast: products of matrices whose contracted axis is the last of the left side, and
// element by element work on equal shapes. Broadcasting, reducing and transposing go value by value through an
// iterator and cost more than the products, so sums and copies along an axis are products with constants here.
type decoder struct {
	c             llama.Config
	batch, length int
	embedding     *Node
	layers        []*layer
	last          norm
	hidden        *Node // [rows, width], after the last norm; rows is batch*length

	mask         *Node // [batch*heads, length, length]
	mean         *Node // [width, width]: a product with it puts a row's mean into each of its columns
	ones         *Node // [rows, 1]: a product with it repeats a row
	queryTurn    turn
	keyTurn      turn
	groupedQuery int // query heads that share a key head
}

// layer is one block's weights and what its forward pass kept.
type layer struct {
	attentionGain, wq, wk, wv, wo *Node
	mlpGain, wgate, wup, wdown    *Node

	attentionNorm, mlpNorm        norm
	q, k, v, p, mixed, merged     *Node
	gate, up, sigmoid, silu, made *Node
}

// newDecoder builds the pass over tokens [batch, length]. params are in the order of Config.Shapes.
func newDecoder(c llama.Config, params []*Node, tokens *Node) *decoder {
	g := tokens.Graph()
	d := &decoder{c: c, batch: tokens.Shape().Dimensions[0], length: tokens.Shape().Dimensions[1], groupedQuery: c.Heads / c.KVHeads}
	rows := d.batch * d.length
	d.mask = d.causalMask(g)
	d.mean = filled(g, 1/float64(c.HiddenSize), c.HiddenSize, c.HiddenSize)
	d.ones = filled(g, 1, rows, 1)
	d.queryTurn, d.keyTurn = d.newTurn(g, c.Heads), d.newTurn(g, c.KVHeads)

	next := func() *Node { p := params[0]; params = params[1:]; return p }
	d.embedding = next()
	x := Gather(d.embedding, Reshape(tokens, rows, 1))
	for range c.Layers {
		l := &layer{
			attentionGain: next(), wq: next(), wk: next(), wv: next(), wo: next(),
			mlpGain: next(), wgate: next(), wup: next(), wdown: next(),
		}
		d.layers = append(d.layers, l)
		x = Add(x, d.attention(l, x))
		x = Add(x, d.mlp(l, x))
	}
	d.last = d.norm(x, next())
	d.hidden = d.last.value
	return d
}

// logits returns [batch*length, vocabulary].
func (d *decoder) logits() *Node { return linear(d.hidden, d.embedding) }

// linear applies a weight [out, in] to rows [n, in].
func linear(x, weight *Node) *Node {
	return Dot(x, weight).General([]int{1}, nil, []int{1}, nil)
}

// product multiplies [n, k] by [k, m].
func product(x, y *Node) *Node {
	return Dot(x, y).General([]int{1}, nil, []int{0}, nil)
}

// norm scales each row of x [rows, width] to a root mean square of 1, then by gain.
type norm struct {
	value, scaled, root, gain *Node // all [rows, width]
}

func (d *decoder) norm(x, gain *Node) norm {
	n := norm{root: Sqrt(AddScalar(product(Mul(x, x), d.mean), d.c.NormEpsilon))}
	n.gain = product(d.ones, Reshape(gain, 1, d.c.HiddenSize))
	n.scaled = Div(x, n.root)
	n.value = Mul(n.scaled, n.gain)
	return n
}

func (d *decoder) attention(l *layer, x *Node) *Node {
	c, group := d.c, d.groupedQuery
	l.attentionNorm = d.norm(x, l.attentionGain)
	h := l.attentionNorm.value
	// Query heads of a group share keys and values: they lie side by side along the rows of one product.
	q := d.heads(d.queryTurn.forth(MulScalar(linear(h, l.wq), d.attentionScale())), c.Heads)
	l.q = Reshape(q, d.batch*c.KVHeads, group*d.length, c.HeadSize())
	l.k = d.heads(d.keyTurn.forth(linear(h, l.wk)), c.KVHeads)
	l.v = d.heads(linear(h, l.wv), c.KVHeads)
	scores := Dot(l.q, l.k).General([]int{2}, []int{0}, []int{2}, []int{0})
	l.p = Reshape(Softmax(Add(Reshape(scores, d.mask.Shape().Dimensions...), d.mask), -1), scores.Shape().Dimensions...)
	l.mixed = Dot(l.p, l.v).General([]int{2}, []int{0}, []int{1}, []int{0})
	l.merged = d.merge(l.mixed, c.Heads)
	return linear(l.merged, l.wo)
}

func (d *decoder) attentionScale() float64 { return 1 / math.Sqrt(float64(d.c.HeadSize())) }

// heads turns [rows, n*head] into [batch*n, length, head].
func (d *decoder) heads(x *Node, n int) *Node {
	x = TransposeAllAxes(Reshape(x, d.batch, d.length, n, d.c.HeadSize()), 0, 2, 1, 3)
	return Reshape(x, d.batch*n, d.length, d.c.HeadSize())
}

// merge is the way back of heads; x may have any shape with the same values in the same order.
func (d *decoder) merge(x *Node, n int) *Node {
	x = TransposeAllAxes(Reshape(x, d.batch, n, d.length, d.c.HeadSize()), 0, 2, 1, 3)
	return Reshape(x, d.batch*d.length, n*d.c.HeadSize())
}

func (d *decoder) mlp(l *layer, x *Node) *Node {
	l.mlpNorm = d.norm(x, l.mlpGain)
	l.gate, l.up = linear(l.mlpNorm.value, l.wgate), linear(l.mlpNorm.value, l.wup)
	l.sigmoid = sigmoid(l.gate)
	l.silu = Mul(l.gate, l.sigmoid)
	l.made = Mul(l.silu, l.up)
	return linear(l.made, l.wdown)
}

// sigmoid of x [rows, width] is a softmax against 0: the Go backend's own exponential is many times slower than the one
// in its softmax.
func sigmoid(x *Node) *Node {
	rows, width := x.Shape().Dimensions[0], x.Shape().Dimensions[1]
	pair := Concatenate([]*Node{Reshape(x, 1, rows, width), Reshape(ZerosLike(x), 1, rows, width)}, 0)
	return Reshape(Slice(Softmax(pair, 0), AxisElem(0)), rows, width)
}

// turn rotates rows [batch*length, n*head] by their positions; the halves of a head pair up, as Hugging Face's
// weights expect.
type turn struct {
	cos, sin *Node // [rows, n*head]
	swap     *Node // [n*head, n*head]: of each head, (low, high) becomes (-high, low)
}

func (d *decoder) newTurn(g *Graph, n int) turn {
	head := d.c.HeadSize()
	rows, width := d.batch*d.length, n*head
	cos, sin, swap := make([]float32, rows*width), make([]float32, rows*width), make([]float32, width*width)
	for i := range cos {
		position, k := i/width%d.length, i%head%(head/2)
		angle := float64(position) * math.Pow(d.c.RopeTheta, -2*float64(k)/float64(head))
		cos[i], sin[i] = float32(math.Cos(angle)), float32(math.Sin(angle))
	}
	for i := range width {
		if i%head < head/2 {
			swap[i*width+i+head/2] = 1 // a low value goes to its high place
		} else {
			swap[i*width+i-head/2] = -1
		}
	}
	return turn{constant(g, cos, rows, width), constant(g, sin, rows, width), constant(g, swap, width, width)}
}

func (t turn) forth(x *Node) *Node { return Add(Mul(x, t.cos), Mul(product(x, t.swap), t.sin)) }

// back turns by the opposite angle, which is also the derivative's way back.
func (t turn) back(x *Node) *Node { return Sub(Mul(x, t.cos), Mul(product(x, t.swap), t.sin)) }

func (d *decoder) causalMask(g *Graph) *Node {
	n, l := d.batch*d.c.Heads, d.length
	mask := make([]float32, n*l*l)
	for i := range mask {
		if query, key := i/l%l, i%l; key > query {
			mask[i] = -1e9
		}
	}
	return constant(g, mask, n, l, l)
}

func constant(g *Graph, values []float32, dimensions ...int) *Node {
	return Reshape(Const(g, values), dimensions...)
}

func filled(g *Graph, value float64, dimensions ...int) *Node {
	size := 1
	for _, n := range dimensions {
		size *= n
	}
	values := make([]float32, size)
	for i := range values {
		values[i] = float32(value)
	}
	return constant(g, values, dimensions...)
}
