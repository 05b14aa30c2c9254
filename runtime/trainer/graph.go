package trainer

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code is written in the graph's own words

	"github.com/refitml/refit/runtime/llama"
)

// logits builds the decoder over tokens [batch, length] and returns [batch*length, vocabulary]. params are in
// the order of Config.Shapes.
func logits(c llama.Config, params []*Node, tokens *Node) *Node {
	g := tokens.Graph()
	batch, length := tokens.Shape().Dimensions[0], tokens.Shape().Dimensions[1]
	rows := batch * length
	next := func() *Node { p := params[0]; params = params[1:]; return p }

	embedding := next()
	x := Gather(embedding, Reshape(tokens, rows, 1))
	rope := newRotary(g, c, length)
	mask := causalMask(g, length)
	for range c.Layers {
		h := rmsNorm(x, next(), c.NormEpsilon)
		x = Add(x, attention(c, h, next(), next(), next(), next(), rope, mask, batch, length))
		h = rmsNorm(x, next(), c.NormEpsilon)
		gate, up := linear(h, next()), linear(h, next())
		x = Add(x, linear(Mul(silu(gate), up), next()))
	}
	return linear(rmsNorm(x, next(), c.NormEpsilon), embedding)
}

// linear applies a weight [out, in] to rows [n, in].
func linear(x, weight *Node) *Node {
	return Dot(x, weight).General([]int{1}, nil, []int{1}, nil)
}

// rmsNorm scales each row of x [n, width] to a root mean square of 1, then by gain. The mean is a product with a
// constant column because the Go backend multiplies matrices far faster than it reduces.
func rmsNorm(x, gain *Node, epsilon float64) *Node {
	width := x.Shape().Dimensions[1]
	column := make([]float32, width)
	for i := range column {
		column[i] = 1 / float32(width)
	}
	mean := linear(Mul(x, x), Reshape(Const(x.Graph(), column), 1, width))
	return Mul(Div(x, Sqrt(AddScalar(mean, epsilon))), Reshape(gain, 1, width))
}

type rotary struct{ cos, sin *Node } // each [1, 1, length, head]

func newRotary(g *Graph, c llama.Config, length int) rotary {
	head := c.HeadSize()
	cos, sin := make([][]float32, length), make([][]float32, length)
	for t := range length {
		cos[t], sin[t] = make([]float32, head), make([]float32, head)
		for i := range head / 2 {
			angle := float64(t) * math.Pow(c.RopeTheta, -2*float64(i)/float64(head))
			cos[t][i], sin[t][i] = float32(math.Cos(angle)), float32(math.Sin(angle))
			cos[t][i+head/2], sin[t][i+head/2] = cos[t][i], sin[t][i]
		}
	}
	return rotary{Reshape(Const(g, cos), 1, 1, length, head), Reshape(Const(g, sin), 1, 1, length, head)}
}

// turn rotates x [batch, heads, length, head] by its positions; the halves of a head pair up, as Hugging
// Face's weights expect.
func (r rotary) turn(x *Node) *Node {
	half := x.Shape().Dimensions[3] / 2
	low := Slice(x, AxisRange(), AxisRange(), AxisRange(), AxisRange(0, half))
	high := Slice(x, AxisRange(), AxisRange(), AxisRange(), AxisRange(half))
	return Add(Mul(x, r.cos), Mul(Concatenate([]*Node{Neg(high), low}, 3), r.sin))
}

func causalMask(g *Graph, length int) *Node {
	mask := make([][]float32, length)
	for i := range mask {
		mask[i] = make([]float32, length)
		for j := i + 1; j < length; j++ {
			mask[i][j] = -1e9
		}
	}
	return Reshape(Const(g, mask), 1, length, length)
}

func attention(c llama.Config, x, wq, wk, wv, wo *Node, rope rotary, mask *Node, batch, length int) *Node {
	head, group := c.HeadSize(), c.Heads/c.KVHeads
	heads := func(x *Node, n int) *Node {
		return TransposeAllAxes(Reshape(x, batch, length, n, head), 0, 2, 1, 3)
	}
	q := rope.turn(heads(MulScalar(linear(x, wq), 1/math.Sqrt(float64(head))), c.Heads))
	k := rope.turn(heads(linear(x, wk), c.KVHeads))
	v := heads(linear(x, wv), c.KVHeads)
	// Query heads of a group share keys and values: they lie side by side along the rows of one product.
	q = Reshape(q, batch*c.KVHeads, group*length, head)
	k = Reshape(k, batch*c.KVHeads, length, head)
	v = Reshape(v, batch*c.KVHeads, length, head)
	scores := Dot(q, k).General([]int{2}, []int{0}, []int{2}, []int{0})
	scores = Reshape(Add(Reshape(scores, batch*c.Heads, length, length), mask), batch*c.KVHeads, group*length, length)
	mixed := Dot(softmax(scores), v).General([]int{2}, []int{0}, []int{1}, []int{0})
	mixed = TransposeAllAxes(Reshape(mixed, batch, c.Heads, length, head), 0, 2, 1, 3)
	return linear(Reshape(mixed, batch*length, c.HiddenSize), wo)
}

// crossEntropy returns the mean negative log-likelihood in nats of targets [rows] under logits [rows, vocabulary],
// and a scalar that has the same gradient but none of the backward pass of a softmax: the gradient of
// the loss in the logits is known (probabilities minus one-hot), so it enters as a constant.
func crossEntropy(logits, targets *Node) (loss, surrogate *Node) {
	rows, vocabulary := logits.Shape().Dimensions[0], logits.Shape().Dimensions[1]
	g := logits.Graph()
	p := StopGradient(Softmax(StopGradient(logits), -1))
	hot := OneHot(Reshape(targets, rows), vocabulary, dtypes.Float32)
	ones := make([][]float32, 1)
	ones[0] = make([]float32, vocabulary)
	for i := range ones[0] {
		ones[0][i] = 1
	}
	chosen := linear(Mul(p, hot), Const(g, ones))
	loss = Neg(ReduceAllMean(Log(MaxScalar(chosen, 1e-30))))
	surrogate = DivScalar(ReduceAllSum(Mul(StopGradient(Sub(p, hot)), logits)), float64(rows))
	return loss, surrogate
}
