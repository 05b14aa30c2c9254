package trainer

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code is written in the graph's own words
)

// The Go backend's exponential is many times slower than its matrix products (and, built with SIMD, slower still:
// scalar code pays for the vector unit's state). Its fused softmax is the exception, so the functions here are
// expressed by it, with their derivatives written out so that none is computed a second time going back.

// softmax is over the last axis.
func softmax(x *Node) *Node {
	p := StopGradient(Softmax(StopGradient(x), -1))
	return replaced(x, p, func(v *Node) *Node {
		vp := Mul(v, p)
		return Sub(vp, Mul(p, ReduceAndKeep(vp, ReduceSum, -1)))
	})
}

// silu is x·sigmoid(x) of x [rows, width]; a sigmoid is a softmax against 0.
func silu(x *Node) *Node {
	rows, width := x.Shape().Dimensions[0], x.Shape().Dimensions[1]
	still := StopGradient(x)
	pair := Concatenate([]*Node{Reshape(still, 1, rows, width), Reshape(ZerosLike(still), 1, rows, width)}, 0)
	s := StopGradient(Reshape(Slice(Softmax(pair, 0), AxisElem(0)), rows, width))
	value := Mul(still, s)
	return replaced(x, value, func(v *Node) *Node {
		return Mul(v, Add(s, Sub(value, Mul(value, s)))) // s(1 + x(1 - s))
	})
}

// replaced has value's value, and backward's gradient in x. Both have one shape.
func replaced(x, value *Node, backward func(v *Node) *Node) *Node {
	zero := Sub(IdentityWithCustomGradient(x, func(_, v *Node) *Node { return backward(v) }), StopGradient(x))
	return Add(zero, value)
}
