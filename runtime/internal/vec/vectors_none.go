//go:build !(goexperiment.simd && amd64)

package vec

const useVectors = false

func multiplyVectors(out, x []float32, rows int, w []float32, columns, n, stride int) {
	multiplyPlain(out, x, rows, w, columns, n, stride)
}

func addScaledVectors(y, x []float32, scale float32) { addScaledPlain(y, x, scale) }
