package llama

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// defaults is the shape that training takes where a spec says nothing else.
func defaults() Config {
	return Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", VocabSize: 1024, HiddenSize: 96, IntermediateSize: 256,
		Layers: 3, Heads: 4, KVHeads: 2, Context: 128, NormEpsilon: 1e-5, RopeTheta: 10000, Activation: "silu",
		TieEmbeddings: true, DType: "float32",
	}
}

func weightsOf(c Config) [][]float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	var weights [][]float32
	for _, s := range c.Shapes() {
		size := 1
		for _, d := range s.Dims {
			size *= d
		}
		w := make([]float32, size)
		for i := range w {
			w[i] = float32(rng.NormFloat64() * 0.15)
			if len(s.Dims) == 1 {
				w[i] += 1
			}
		}
		weights = append(weights, w)
	}
	return weights
}

func model(t testing.TB, c Config) *Model {
	t.Helper()
	m, err := New(c, weightsOf(c))
	require.NoError(t, err)
	return m
}

func someTokens(c Config, n int) []int {
	rng := rand.New(rand.NewPCG(7, 8))
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = rng.IntN(c.VocabSize)
	}
	return tokens
}

func TestHowASequenceIsCutChangesNoBit(t *testing.T) {
	t.Parallel()
	c := defaults()
	m, tokens := model(t, c), someTokens(c, c.Context)
	whole := m.NewSession()
	var want [][]float32
	require.NoError(t, whole.Walk(tokens, func(_ int, logits []float32) { want = append(want, append([]float32(nil), logits...)) }))
	require.Zero(t, whole.Room())

	for name, cuts := range map[string][]int{"ones": {1}, "sevens": {7}, "more than a block": {33}, "all": {c.Context}} {
		s := m.NewSession()
		for from := 0; from < len(tokens); {
			to := min(from+cuts[0], len(tokens))
			logits, err := s.Append(tokens[from:to])
			require.NoError(t, err)
			require.Equal(t, want[to-1], logits, "%s: after %d", name, to)
			from = to
		}
	}

	// A session that was used before remembers nothing of it.
	whole.Reset()
	logits, err := whole.Append(tokens[:5])
	require.NoError(t, err)
	require.Equal(t, want[4], logits)
	require.Equal(t, 5, whole.Length())
}

func TestATokenSeesOnlyWhatCameBefore(t *testing.T) {
	t.Parallel()
	c := defaults()
	m, tokens := model(t, c), someTokens(c, 20)
	look := func() (before, after []float32) {
		require.NoError(t, m.NewSession().Walk(tokens, func(i int, logits []float32) {
			switch i {
			case 9:
				before = append(before, logits...)
			case 10:
				after = append(after, logits...)
			}
		}))
		return before, after
	}
	before, after := look()
	tokens[10] = (tokens[10] + 1) % c.VocabSize
	same, other := look()
	require.Equal(t, before, same)
	require.NotEqual(t, after, other)
}

func TestWhatDoesNotFitIsAnError(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Context = 8
	s := model(t, c).NewSession()
	for _, tokens := range [][]int{nil, {-1}, {c.VocabSize}, make([]int, 9)} {
		_, err := s.Append(tokens)
		require.Error(t, err)
		require.Error(t, s.Walk(tokens, func(int, []float32) { t.Fatal("shown") }))
	}
	require.Zero(t, s.Length(), "nothing was read")
	_, err := s.Append(make([]int, 8))
	require.NoError(t, err)
	_, err = s.Append([]int{1})
	require.Error(t, err)
}

func TestAModelComesBackFromItsFolder(t *testing.T) {
	t.Parallel()
	c, dir := defaults(), t.TempDir()
	require.NoError(t, Write(dir, c, weightsOf(c)))
	loaded, err := Load(dir)
	require.NoError(t, err)
	tokens := someTokens(c, 12)
	want, err := model(t, c).NewSession().Append(tokens)
	require.NoError(t, err)
	got, err := loaded.NewSession().Append(tokens)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestBrokenModelsAreRefused(t *testing.T) {
	t.Parallel()
	c := defaults()
	weights := weightsOf(c)
	weights[3][0] = float32(math.NaN())
	_, err := New(c, weights)
	require.ErrorContains(t, err, "model.layers.0.self_attn.k_proj.weight")
	_, err = New(c, weightsOf(c)[:5])
	require.ErrorContains(t, err, "5 weights")

	dir := t.TempDir()
	require.NoError(t, Write(dir, c, weightsOf(c)))
	_, err = ReadConfig(dir)
	require.NoError(t, err)
	other := c
	other.HiddenSize = 100
	_, err = ReadWeights(dir, other)
	require.ErrorContains(t, err, "the config asks for")
}

// BenchmarkDecode is one sequence on one core.
func BenchmarkDecode(b *testing.B) {
	c := defaults()
	s := model(b, c).NewSession()
	sampler, err := NewSampler(Sampling{Temperature: 0.8, TopP: 0.95})
	require.NoError(b, err)
	token := 1
	for b.Loop() {
		if s.Room() == 0 {
			s.Reset()
		}
		logits, err := s.Append([]int{token})
		if err != nil {
			b.Fatal(err)
		}
		token = sampler.Next(logits)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkScore is a full context, as scoring a text reads it.
func BenchmarkScore(b *testing.B) {
	c := defaults()
	s, tokens := model(b, c).NewSession(), someTokens(c, c.Context)
	for b.Loop() {
		s.Reset()
		if err := s.Walk(tokens, func(_ int, logits []float32) { LogSum(logits) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(c.Context)/b.Elapsed().Seconds(), "tokens/s")
}
