//go:build goexperiment.simd && amd64

package vec

import (
	"simd/archsimd"
)

var useVectors = archsimd.X86.AVX2() && archsimd.X86.FMA()

// multiplyVectors keeps eight partial sums a product; what does not fill a vector is added one by one after them.
func multiplyVectors(out, x []float32, rows int, w []float32, columns, n, stride int) {
	whole := n &^ 7
	c := 0
	for ; c+4 <= columns; c += 4 {
		w0, w1 := w[c*stride:][:n], w[(c+1)*stride:][:n]
		w2, w3 := w[(c+2)*stride:][:n], w[(c+3)*stride:][:n]
		for r := range rows {
			v := x[r*n:][:n]
			var a0, a1, a2, a3 archsimd.Float32x8
			for i := 0; i < whole; i += 8 {
				xi := archsimd.LoadFloat32x8Slice(v[i:])
				a0 = xi.MulAdd(archsimd.LoadFloat32x8Slice(w0[i:]), a0)
				a1 = xi.MulAdd(archsimd.LoadFloat32x8Slice(w1[i:]), a1)
				a2 = xi.MulAdd(archsimd.LoadFloat32x8Slice(w2[i:]), a2)
				a3 = xi.MulAdd(archsimd.LoadFloat32x8Slice(w3[i:]), a3)
			}
			sums := a0.AddPairsGrouped(a1).AddPairsGrouped(a2.AddPairsGrouped(a3))
			o := (*[4]float32)(out[r*columns+c:])
			sums.GetLo().Add(sums.GetHi()).Store(o)
			for i := whole; i < n; i++ {
				o[0] += v[i] * w0[i]
				o[1] += v[i] * w1[i]
				o[2] += v[i] * w2[i]
				o[3] += v[i] * w3[i]
			}
		}
	}
	for ; c < columns; c++ {
		wc := w[c*stride:][:n]
		for r := range rows {
			v := x[r*n:][:n]
			var a archsimd.Float32x8
			for i := 0; i < whole; i += 8 {
				a = archsimd.LoadFloat32x8Slice(v[i:]).MulAdd(archsimd.LoadFloat32x8Slice(wc[i:]), a)
			}
			pairs := a.AddPairsGrouped(a)
			pairs = pairs.AddPairsGrouped(pairs) // the order of the block above
			var s [4]float32
			pairs.GetLo().Add(pairs.GetHi()).Store(&s)
			for i := whole; i < n; i++ {
				s[0] += v[i] * wc[i]
			}
			out[r*columns+c] = s[0]
		}
	}
	archsimd.ClearAVXUpperBits()
}

func addScaledVectors(y, x []float32, scale float32) {
	x = x[:len(y)]
	by := archsimd.BroadcastFloat32x8(scale)
	i := 0
	for ; i+8 <= len(y); i += 8 {
		yi := archsimd.LoadFloat32x8Slice(y[i:])
		archsimd.LoadFloat32x8Slice(x[i:]).MulAdd(by, yi).StoreSlice(y[i:])
	}
	archsimd.ClearAVXUpperBits()
	addScaledPlain(y[i:], x[i:], scale)
}
