package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestAgreementIsThatOfOtherPackages: values of scipy 1.17.1 (spearmanr, kendalltau) and scikit-learn 1.9.1
// (cohen_kappa_score), and of Cohen's own tables.
func TestAgreementIsThatOfOtherPackages(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b            []float64
		rho, tau, kappa float64
	}{
		{
			[]float64{1, 2, 3, 4, 5, 5, 2, 1, 3, 4, 2, 5}, []float64{2, 1, 3, 5, 4, 5, 2, 2, 3, 3, 1, 4},
			0.849090909090909, 0.7017543859649122, 0.16521739130434776,
		},
		{[]float64{12, 2, 1, 12, 2}, []float64{1, 4, 7, 1, 0}, -0.5407380704358752, -0.4714045207910316, -0.0869565217391306},
		{
			[]float64{0, 1, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1}, []float64{0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1},
			0.6000991981489789, 0.6000991981489789, 0.5945945945945946,
		},
		{
			[]float64{0.5, 1, 0, 0.5, 1, 0, 0.5, 0.5, 1, 0}, []float64{0.5, 1, 0, 1, 1, 0.5, 0, 0.5, 1, 0},
			0.7857142857142857, 0.7272727272727273, 0.5522388059701492,
		},
	} {
		n := len(tc.a)
		rho, err := Spearman(tc.a, tc.b, n, 0.05)
		require.NoError(t, err)
		require.InDelta(t, tc.rho, rho.Value, 1e-12)
		tau, err := KendallTau(tc.a, tc.b, n, 0.05)
		require.NoError(t, err)
		require.InDelta(t, tc.tau, tau.Value, 1e-12)
		kappa, err := CohenKappa(tc.a, tc.b, n, 0.05)
		require.NoError(t, err)
		require.InDelta(t, tc.kappa, kappa.Value, 1e-12)
	}
	for _, tc := range []struct {
		table [2][2]int // by the first rater, then by the second
		kappa float64
	}{{[2][2]int{{20, 5}, {10, 15}}, 0.4}, {[2][2]int{{45, 15}, {25, 15}}, 0.130434782608696}, {[2][2]int{{25, 35}, {5, 35}}, 0.259259259259259}} {
		var a, b []float64
		for first := range 2 {
			for second := range 2 {
				for range tc.table[first][second] {
					a, b = append(a, float64(first)), append(b, float64(second))
				}
			}
		}
		got, err := CohenKappa(a, b, len(a), 0.05)
		require.NoError(t, err)
		require.InDelta(t, tc.kappa, got.Value, 1e-12)
	}
}

func TestAgreementOfWhatCannotBe(t *testing.T) {
	t.Parallel()
	one, two := []float64{1, 2, 3, 4, 5}, []float64{2, 1, 3, 4, 5}
	type measure func(a, b []float64, independent int, alpha float64) (Agreed, error)
	for name, of := range map[string]measure{"raw": RawAgreement, "kappa": CohenKappa, "rho": Spearman, "tau": KendallTau} {
		for what, broken := range map[string]func() (Agreed, error){
			"of different lengths": func() (Agreed, error) { return of(one, two[:4], 4, 0.05) },
			"of nothing":           func() (Agreed, error) { return of(nil, nil, 0, 0.05) },
			"of more than all":     func() (Agreed, error) { return of(one, two, 6, 0.05) },
			"of no number":         func() (Agreed, error) { return of([]float64{1, 2, 3, 4, math.NaN()}, two, 5, 0.05) },
			"at no level":          func() (Agreed, error) { return of(one, two, 5, 1) },
		} {
			_, err := broken()
			require.ErrorIs(t, err, ErrInput, "%s %s", name, what)
		}
	}
	alike := []float64{3, 3, 3, 3, 3}
	for name, of := range map[string]measure{"kappa": CohenKappa, "rho": Spearman, "tau": KendallTau} {
		_, err := of(alike, alike, 5, 0.05)
		require.ErrorIs(t, err, ErrInput, "%s of raters who know one word", name)
	}
	_, err := Spearman(one, two, 3, 0.05)
	require.ErrorIs(t, err, ErrInput)
}

func TestAgreementHasItsLimitsAroundIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(6, 40).Draw(t, "n")
		grades := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 4), func(i int) float64 { return float64(i) / 4 }), n, n)
		a, b := grades.Draw(t, "a"), grades.Draw(t, "b")
		all := rapid.IntRange(5, n).Draw(t, "independent")
		for _, of := range []func(a, b []float64, independent int, alpha float64) (Agreed, error){RawAgreement, CohenKappa, Spearman, KendallTau} {
			got, err := of(a, b, all, 0.05)
			if err != nil {
				continue // one of them knows one grade
			}
			back, err := of(b, a, all, 0.05)
			if err != nil || math.Abs(back.Value-got.Value) > 1e-9 {
				t.Fatalf("%v, and %v the other way round", got, back)
			}
			if !(got.Low <= got.Value && got.Value <= got.High && got.High <= 1+1e-9) {
				t.Fatalf("limits %v", got)
			}
		}
	})
}

// TestAgreementIsSeldomThoughtBetterThanItIs: the lower limit passes the true agreement about as often as its level says.
func TestAgreementIsSeldomThoughtBetterThanItIs(t *testing.T) {
	t.Parallel()
	const rounds, items = 2000, 60
	r := rand.New(rand.NewPCG(3, 9))
	truth, said := make([]float64, items), make([]float64, items)
	for _, right := range []float64{0.7, 0.85, 0.95} {
		for _, positive := range []float64{0.5, 0.8} {
			over := 0
			chance := positive*(positive*right+(1-positive)*(1-right)) + (1-positive)*((1-positive)*right+positive*(1-right))
			kappa := (right - chance) / (1 - chance)
			for range rounds {
				for i := range items {
					truth[i] = float64(min(1, int(positive+r.Float64())))
					said[i] = truth[i]
					if r.Float64() > right {
						said[i] = 1 - said[i]
					}
				}
				got, err := CohenKappa(truth, said, items, 0.05)
				if err == nil && got.Low > kappa {
					over++
				}
			}
			require.Less(t, float64(over)/rounds, 0.065, "kappa %v where %v are positive", kappa, positive)
		}
	}
	// Ranks of two normal variables: Spearman's correlation is 6/pi asin(r/2), Kendall's tau 2/pi asin(r).
	for _, correlation := range []float64{0.3, 0.6, 0.85} {
		rho, tau := 6/math.Pi*math.Asin(correlation/2), 2/math.Pi*math.Asin(correlation)
		overRho, overTau := 0, 0
		for range rounds {
			for i := range items {
				truth[i] = r.NormFloat64()
				said[i] = correlation*truth[i] + math.Sqrt(1-correlation*correlation)*r.NormFloat64()
			}
			a, err := Spearman(truth, said, items, 0.05)
			require.NoError(t, err)
			b, err := KendallTau(truth, said, items, 0.05)
			require.NoError(t, err)
			if a.Low > rho {
				overRho++
			}
			if b.Low > tau {
				overTau++
			}
		}
		require.Less(t, float64(overRho)/rounds, 0.065, "rho %v", rho)
		require.Less(t, float64(overTau)/rounds, 0.065, "tau %v", tau)
	}
}
