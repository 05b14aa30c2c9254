package llama

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func sampler(t *testing.T, s Sampling) *Sampler {
	t.Helper()
	made, err := NewSampler(s)
	require.NoError(t, err)
	return made
}

func counts(t *testing.T, s Sampling, logits []float32, n int) map[int]int {
	t.Helper()
	drawn, from := map[int]int{}, sampler(t, s)
	for range n {
		drawn[from.Next(logits)]++
	}
	return drawn
}

func TestTokensAreDrawnAsTheModelSays(t *testing.T) {
	t.Parallel()
	// Probabilities 0.5, 0.3, 0.15, 0.05 and a token that cannot be.
	logits := []float32{float32(math.Log(0.15)), float32(math.Inf(-1)), float32(math.Log(0.5)), float32(math.Log(0.05)), float32(math.Log(0.3))}
	const n = 40_000
	for name, tc := range map[string]struct {
		sampling Sampling
		want     map[int]float64
	}{
		"as it says":                {Sampling{Temperature: 1, TopP: 1}, map[int]float64{2: 0.5, 4: 0.3, 0: 0.15, 3: 0.05}},
		"a nucleus of two":          {Sampling{Temperature: 1, TopP: 0.75}, map[int]float64{2: 0.5 / 0.8, 4: 0.3 / 0.8}},
		"a nucleus of one":          {Sampling{Temperature: 1, TopP: 0.01}, map[int]float64{2: 1}},
		"the likeliest":             {Sampling{Temperature: 0, TopP: 1}, map[int]float64{2: 1}},
		"colder":                    {Sampling{Temperature: 0.5, TopP: 1}, map[int]float64{2: 0.25 / 0.365, 4: 0.09 / 0.365, 0: 0.0225 / 0.365, 3: 0.0025 / 0.365}},
		"hotter, in a nucleus of 3": {Sampling{Temperature: 2, TopP: 0.85}, map[int]float64{2: 0.7071 / 1.6421, 4: 0.5477 / 1.6421, 0: 0.3873 / 1.6421}},
		"next to zero":              {Sampling{Temperature: 1e-9, TopP: 0.9}, map[int]float64{2: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drawn := counts(t, tc.sampling, logits, n)
			require.Len(t, drawn, len(tc.want))
			for token, p := range tc.want {
				// Five standard deviations: the seed is fixed, so this holds or it does not.
				require.InDelta(t, p, float64(drawn[token])/n, 5*math.Sqrt(p*(1-p)/n)+1e-4, "token %d", token)
			}
		})
	}
}

func TestASeedGivesTheSameTokens(t *testing.T) {
	t.Parallel()
	logits := make([]float32, 500)
	for i := range logits {
		logits[i] = float32(i % 17)
	}
	draw := func(seed uint64) (tokens []int) {
		s := sampler(t, Sampling{Temperature: 1, TopP: 0.9, Seed: seed})
		for range 50 {
			tokens = append(tokens, s.Next(logits))
		}
		return tokens
	}
	require.Equal(t, draw(3), draw(3))
	require.NotEqual(t, draw(3), draw(4))
}

func TestWhatCannotBeSampledIsRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []Sampling{{Temperature: -1, TopP: 1}, {Temperature: math.NaN(), TopP: 1}, {TopP: 0}, {TopP: 1.1}, {TopP: math.NaN()}} {
		_, err := NewSampler(s)
		require.Error(t, err, "%+v", s)
	}
}

func TestLogProbabilities(t *testing.T) {
	t.Parallel()
	logits := []float32{1, 1001, 1000, 1001}
	total := LogSum(logits)
	require.InDelta(t, 1001+math.Log(2+math.Exp(-1)), total, 1e-9)
	best := Likeliest(logits, 3)
	require.Equal(t, []int{1, 3, 2}, []int{best[0].Token, best[1].Token, best[2].Token}, "equal ones by number")
	require.InDelta(t, 1000-total, best[2].Logprob, 1e-9)
	require.Len(t, Likeliest(logits, 9), 4)
	require.Empty(t, Likeliest(logits, 0))
}
