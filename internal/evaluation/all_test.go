package evaluation

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// failing answers a number of questions, then fails.
type failing struct {
	table
	left *atomic.Int64
}

func (f failing) Complete(ctx context.Context, prompt string, max int) (string, error) {
	if f.left.Add(-1) < 0 {
		return "", lifecycle.Errorf(lifecycle.Unavailable, "gone: %w", io.ErrUnexpectedEOF)
	}
	return f.table.Complete(ctx, prompt, max)
}

func TestASuiteIsAnsweredWhereItWasLeftOff(t *testing.T) {
	t.Parallel()
	s, err := Build(1, Window{}, plans(60, func(i int) int { return i })[1])
	require.NoError(t, err)
	model := failing{table: table{said: " the"}, left: &atomic.Int64{}}
	model.left.Store(20)
	var have []Answer
	answers, err := AskAll(t.Context(), s, model, nil, Asking{Answered: func(a Answer) { have = append(have, a) }})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	require.Len(t, answers, 20)
	require.Len(t, have, 20)

	model.left.Store(30)
	answers, err = AskAll(t.Context(), s, model, nil, Asking{Have: have, Parallel: 7})
	require.NoError(t, err, "20 of 50 are there already")
	require.Len(t, answers, 50)
	for i, a := range answers {
		require.Equal(t, s.Cases[i].ID, a.Case)
	}
	require.Zero(t, model.left.Load())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = AskAll(ctx, s, model, nil, Asking{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestSamplesOfACaseAreAskedAndHeldApart(t *testing.T) {
	t.Parallel()
	s := Suite{Capabilities: []Capability{{Name: "x", Kind: NextToken, Sampling: &Sampling{Samples: 2}}}, Cases: []Case{{ID: "a", Capability: "x", Group: "a"}}}
	whole := Answers{List: []Answer{{Case: "a", Capability: "x", Score: 1}, {Case: "a", Capability: "x", Sample: 1}}}
	sheet, faults := check("candidate", s, "", "", whole)
	require.Empty(t, faults)
	sums := tallies(s, sheet, sheet, nil, nil)[0]
	require.Equal(t, 2, sums.samples)
	require.Len(t, sums.differences, 1, "samples of one case are one cluster")
	_, faults = check("candidate", s, "", "", Answers{List: whole.List[:1]})
	require.Equal(t, []string{"candidate: case a, sample 1, has no answer"}, faults)
	_, faults = check("candidate", s, "", "", Answers{List: append(whole.List, Answer{Case: "a", Capability: "x", Sample: 2})})
	require.Equal(t, []string{"candidate: case a, sample 2, belongs to no case of the suite, which asks it 2 times"}, faults)
}
