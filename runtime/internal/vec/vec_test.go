package vec

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func random(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func TestMultiplyEqualsTheSumsWrittenOut(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 7, 8, 24, 31, 96, 130} {
		for _, columns := range []int{1, 3, 4, 5, 9} {
			for _, rows := range []int{1, 2, 5} {
				stride := n + 3
				x, w := random(rng, rows*n), random(rng, columns*stride)
				out := random(rng, rows*columns)
				Multiply(out, x, rows, w, columns, n, stride)
				for r := range rows {
					for c := range columns {
						var want float64
						for i := range n {
							want += float64(x[r*n+i]) * float64(w[c*stride+i])
						}
						require.InDelta(t, want, out[r*columns+c], 1e-4, "n %d columns %d rows %d", n, columns, rows)
					}
				}
			}
		}
	}
}

func TestHowMuchIsAskedAtOnceChangesNoBit(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{5, 24, 96, 101} {
		const rows, columns = 6, 11
		x, w := random(rng, rows*n), random(rng, columns*n)
		all := make([]float32, rows*columns)
		Multiply(all, x, rows, w, columns, n, n)
		for r := range rows {
			for c := range columns {
				require.Equal(t, all[r*columns+c], Dot(x[r*n:][:n], w[c*n:][:n]))
			}
		}
	}
}

func TestAddScaled(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 3, 8, 21} {
		x, y := random(rng, n), random(rng, n)
		want := append([]float32(nil), y...)
		for i := range want {
			want[i] += 0.5 * x[i]
		}
		AddScaled(y, x, 0.5)
		require.InDeltaSlice(t, want, y, 1e-6)
	}
}

func TestWrongLengthsFailAtOnce(t *testing.T) {
	t.Parallel()
	out := make([]float32, 3)
	require.Panics(t, func() { Multiply(out, make([]float32, 4), 2, make([]float32, 4), 2, 2, 2) })
	require.Equal(t, make([]float32, 3), out)
}

func BenchmarkMultiply(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 8))
	const columns, n = 256, 96
	w := random(rng, columns*n)
	for _, rows := range []int{1, 64} {
		x, out := random(rng, rows*n), make([]float32, rows*columns)
		b.Run(fmt.Sprint("rows=", rows), func(b *testing.B) {
			for b.Loop() {
				Multiply(out, x, rows, w, columns, n, n)
			}
			b.ReportMetric(float64(b.N)*2*columns*n*float64(rows)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
		})
	}
}
