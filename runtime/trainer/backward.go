package trainer

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code is written in the graph's own words
)

// The gradients are written out instead of derived by GoMLX: what it derives is right, but transposes the large sides
// of products, reduces along rows and needs one-hot rows over the vocabulary, and so a step takes the Go backend one and
// a half times as long. A test holds them against the slope of the loss in every weight.

// crossEntropy is the mean negative log-likelihood of targets [batch, length] in nats a token.
type crossEntropy struct {
	loss *Node
	p    *Node // [rows, vocabulary]: the probabilities
	at   *Node // [rows, 1]: the targets
}

func (d *decoder) crossEntropy(targets *Node) crossEntropy {
	rows, vocabulary := d.batch*d.length, d.c.VocabSize
	e := crossEntropy{p: Softmax(d.logits(), -1), at: Reshape(targets, rows, 1)}
	row := Iota(targets.Graph(), e.at.Shape(), 0)
	flat := Add(MulScalar(row, vocabulary), e.at)
	chosen := Gather(Reshape(e.p, rows*vocabulary, 1), flat)
	e.loss = Neg(ReduceAllMean(Log(MaxScalar(chosen, 1e-30))))
	return e
}

// gradients of the loss in all weights, in the order of Config.Shapes.
func (d *decoder) gradients(tokens *Node, e crossEntropy) []*Node {
	rows := d.batch * d.length
	// The derivative in the logits is p minus the one-hot targets, over rows; the one-hot part only picks rows of the
	// embedding on the way down, and adds to them in the embedding's gradient.
	share := 1 / float64(rows)
	dHidden := MulScalar(Sub(product(e.p, d.embedding), Gather(d.embedding, e.at)), share)
	hidden := MulScalar(d.hidden, share)
	dEmbedding := Transpose(product(Transpose(hidden, 0, 1), e.p), 0, 1)

	dx, dLast := d.normBack(d.last, dHidden)
	var ofLayers []*Node
	for i := len(d.layers) - 1; i >= 0; i-- {
		l := d.layers[i]
		dAdded, ofMLP := d.mlpBack(l, dx)
		dx = Add(dx, dAdded)
		dAdded, ofAttention := d.attentionBack(l, dx)
		dx = Add(dx, dAdded)
		ofLayers = append(append(ofAttention, ofMLP...), ofLayers...)
	}
	picked := Concatenate([]*Node{e.at, Reshape(tokens, rows, 1)}, 0)
	dEmbedding = ScatterSum(dEmbedding, picked, Concatenate([]*Node{Neg(hidden), dx}, 0), false, false)
	return append(append([]*Node{dEmbedding}, ofLayers...), dLast)
}

func (d *decoder) normBack(n norm, dValue *Node) (dx, dGain *Node) {
	dGain = Reshape(product(Reshape(d.ones, 1, d.batch*d.length), Mul(dValue, n.scaled)), d.c.HiddenSize)
	dScaled := Mul(dValue, n.gain)
	along := product(Mul(dScaled, n.scaled), d.mean)
	return Div(Sub(dScaled, Mul(n.scaled, along)), n.root), dGain
}

// linearBack is the way back of linear. The smaller side is transposed.
func linearBack(x, weight, dy *Node) (dx, dWeight *Node) {
	if in, out := weight.Shape().Dimensions[1], weight.Shape().Dimensions[0]; in <= out {
		dWeight = Transpose(product(Transpose(x, 0, 1), dy), 0, 1)
	} else {
		dWeight = product(Transpose(dy, 0, 1), x)
	}
	return product(dy, weight), dWeight
}

func (d *decoder) mlpBack(l *layer, dy *Node) (dx *Node, dWeights []*Node) {
	dMade, dDown := linearBack(l.made, l.wdown, dy)
	dUp, dSilu := Mul(dMade, l.silu), Mul(dMade, l.up)
	dGate := Mul(dSilu, Add(l.sigmoid, Sub(l.silu, Mul(l.silu, l.sigmoid)))) // s(1 + x(1 - s))
	fromGate, dWGate := linearBack(l.mlpNorm.value, l.wgate, dGate)
	fromUp, dWUp := linearBack(l.mlpNorm.value, l.wup, dUp)
	dx, dGain := d.normBack(l.mlpNorm, Add(fromGate, fromUp))
	return dx, []*Node{dGain, dWGate, dWUp, dDown}
}

func (d *decoder) attentionBack(l *layer, dy *Node) (dx *Node, dWeights []*Node) {
	c, head := d.c, d.c.HeadSize()
	dMerged, dWo := linearBack(l.merged, l.wo, dy)
	dMixed := Reshape(d.heads(dMerged, c.Heads), l.mixed.Shape().Dimensions...)
	dP := Dot(dMixed, l.v).General([]int{2}, []int{0}, []int{2}, []int{0})
	dV := acrossRows(dMixed, l.p)
	// Softmax: what a row of p and dP have in common is what the row mixed, times its derivative.
	queries := d.batch * c.Heads * d.length
	common := product(Reshape(Mul(dMixed, l.mixed), queries, head), filled(dy.Graph(), 1, head, d.length))
	dScores := Mul(l.p, Sub(dP, Reshape(common, dP.Shape().Dimensions...)))
	dQ := Dot(dScores, l.k).General([]int{2}, []int{0}, []int{1}, []int{0})
	dK := acrossRows(l.q, dScores)

	h := l.attentionNorm.value
	fromQ, dWq := linearBack(h, l.wq, MulScalar(d.queryTurn.back(d.merge(dQ, c.Heads)), d.attentionScale()))
	fromK, dWk := linearBack(h, l.wk, d.keyTurn.back(d.merge(dK, c.KVHeads)))
	fromV, dWv := linearBack(h, l.wv, d.merge(dV, c.KVHeads))
	dx, dGain := d.normBack(l.attentionNorm, Add(fromQ, Add(fromK, fromV)))
	return dx, []*Node{dGain, dWq, dWk, dWv, dWo}
}

// acrossRows contracts the rows of y [n, rows, wide] with those of x [n, rows, narrow] to [n, wide, narrow].
func acrossRows(x, y *Node) *Node {
	across := Dot(TransposeAllAxes(x, 0, 2, 1), y).General([]int{2}, []int{0}, []int{1}, []int{0})
	return TransposeAllAxes(across, 0, 2, 1)
}
