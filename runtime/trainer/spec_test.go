package trainer

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/job"
)

func TestDefaultsMakeAModel(t *testing.T) {
	t.Parallel()
	s, err := Spec{}.resolve(nil, false)
	require.NoError(t, err)
	require.NoError(t, s.config().Check())
	require.Zero(t, s.ReplayFraction)
	require.Equal(t, 4, s.Slices)
	for batch, slices := range map[int]int{1: 1, 2: 2, 6: 3, 7: 1, 10: 2, 12: 4} {
		s, err := Spec{Batch: batch}.resolve(nil, false)
		require.NoError(t, err)
		require.Equal(t, slices, s.Slices)
	}
	again, err := s.resolve(nil, false)
	require.NoError(t, err)
	require.Equal(t, s, again, "a resolved spec is stable")

	s, err = Spec{}.resolve(nil, true)
	require.NoError(t, err)
	require.Equal(t, 0.25, s.ReplayFraction)
	s, err = Spec{ReplayFraction: -1}.resolve(nil, true)
	require.NoError(t, err)
	require.Zero(t, s.ReplayFraction, "replay can be given and not used")
	s, err = Spec{Warmup: -1, WeightDecay: -1}.resolve(nil, false)
	require.NoError(t, err)
	require.Zero(t, s.Warmup)
	require.Zero(t, s.WeightDecay)
}

func TestContinuingTakesTheBasesShape(t *testing.T) {
	t.Parallel()
	base := tinyConfig()
	s, err := Spec{}.resolve(&base, true)
	require.NoError(t, err)
	require.Equal(t, base, s.config())
	pretraining, err := Spec{}.resolve(nil, false)
	require.NoError(t, err)
	require.Less(t, s.LearningRate, pretraining.LearningRate)
	_, err = Spec{Width: base.HiddenSize}.resolve(&base, false)
	require.NoError(t, err)
	_, err = Spec{Width: 64}.resolve(&base, false)
	require.ErrorIs(t, err, job.ErrSpec)
	require.ErrorContains(t, err, "width is 64, but the base model has 16")
}

func TestAWrongSpecIsNamed(t *testing.T) {
	t.Parallel()
	for field, s := range map[string]Spec{
		"vocab_size":          {VocabSize: 100},
		"num_hidden_layers":   {Layers: -1},
		"hidden_size":         {Width: 1 << 20},
		"num_attention_heads": {Heads: 7},
		"num_key_value_heads": {KVHeads: 3},
		"intermediate_size":   {Intermediate: -4},
		"context":             {Context: 4},
		"batch":               {Batch: -1},
		"slices":              {Batch: 4, Slices: 5},
		"does not divide":     {Batch: 4, Slices: 3},
		"steps":               {Steps: -1},
		"warmup":              {Steps: 5, Warmup: 6},
		"checkpoint_every":    {CheckpointEvery: -2},
		"learning_rate":       {LearningRate: 2},
		"weight_decay":        {WeightDecay: 11},
		"no input replay":     {ReplayFraction: 0.5},
	} {
		_, err := s.resolve(nil, false)
		require.ErrorIs(t, err, job.ErrSpec, field)
		require.ErrorContains(t, err, field)
	}
	for _, s := range []Spec{{ReplayFraction: 1}, {ReplayFraction: -0.5}, {ReplayFraction: math.NaN()}} {
		_, err := s.resolve(nil, true)
		require.ErrorContains(t, err, "replay_fraction")
	}
}

func TestTheRateWarmsUpAndFalls(t *testing.T) {
	t.Parallel()
	s := Spec{Steps: 100, Warmup: 10, LearningRate: 0.01}
	require.InDelta(t, 0.001, s.rate(1), 1e-12)
	require.InDelta(t, 0.01, s.rate(10), 1e-12)
	require.InDelta(t, 0.001, s.rate(100), 1e-12)
	for step := 11; step <= 100; step++ {
		require.Less(t, s.rate(step), s.rate(step-1))
	}
	require.Positive(t, Spec{Steps: 1, Warmup: 0, LearningRate: 0.01}.rate(1))
}
