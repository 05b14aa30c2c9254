package vec

// Multiply sets out[r*columns+c] to the inner product of row r of x and row c of w, for all r < rows and
// c < columns. A row of x has n values and follows the one before; a row of w begins stride values after the
// one before. out must not overlap with x or w.
func Multiply(out, x []float32, rows int, w []float32, columns, n, stride int) {
	if rows == 0 || columns == 0 {
		return
	}
	// Said once here, so that a wrong length fails at once and not in the middle.
	_ = out[rows*columns-1]
	if n > 0 {
		_, _ = x[rows*n-1], w[(columns-1)*stride+n-1]
	}
	if useVectors {
		multiplyVectors(out, x, rows, w, columns, n, stride)
		return
	}
	multiplyPlain(out, x, rows, w, columns, n, stride)
}

// Dot is the inner product of a and b, of one length.
func Dot(a, b []float32) float32 {
	var out [1]float32
	Multiply(out[:], a, 1, b, 1, len(a), len(a))
	return out[0]
}

// AddScaled adds scale times x to y, of one length.
func AddScaled(y, x []float32, scale float32) {
	if useVectors {
		addScaledVectors(y, x, scale)
		return
	}
	addScaledPlain(y, x, scale)
}

func multiplyPlain(out, x []float32, rows int, w []float32, columns, n, stride int) {
	c := 0
	for ; c+4 <= columns; c += 4 { // four at once, so that the processor need not wait for each addition
		w0, w1 := w[c*stride:][:n], w[(c+1)*stride:][:n]
		w2, w3 := w[(c+2)*stride:][:n], w[(c+3)*stride:][:n]
		for r := range rows {
			var s0, s1, s2, s3 float32
			for i, v := range x[r*n:][:n] {
				s0 += v * w0[i]
				s1 += v * w1[i]
				s2 += v * w2[i]
				s3 += v * w3[i]
			}
			o := out[r*columns+c:][:4]
			o[0], o[1], o[2], o[3] = s0, s1, s2, s3
		}
	}
	for ; c < columns; c++ {
		wc := w[c*stride:][:n]
		for r := range rows {
			var s float32
			for i, v := range x[r*n:][:n] {
				s += v * wc[i]
			}
			out[r*columns+c] = s
		}
	}
}

func addScaledPlain(y, x []float32, scale float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += scale * x[i]
	}
}
