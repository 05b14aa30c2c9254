package lifecycle_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// The table is the contract that docs, --help and scripts rest on.
func TestKindsBecomeExitCodesAndStatuses(t *testing.T) {
	t.Parallel()
	for kind, want := range map[lifecycle.Kind]struct {
		exit, status int
		retryable    bool
	}{
		"":                     {0, 200, false},
		lifecycle.Invalid:      {2, 400, false},
		lifecycle.NotFound:     {2, 404, false},
		lifecycle.Busy:         {5, 409, false},
		lifecycle.Fenced:       {5, 409, false},
		lifecycle.Conflict:     {5, 409, false},
		lifecycle.Refused:      {5, 403, false},
		lifecycle.Regress:      {3, 422, false},
		lifecycle.Underpowered: {4, 422, false},
		lifecycle.Corrupt:      {1, 500, false},
		lifecycle.Unavailable:  {1, 503, true},
		lifecycle.Internal:     {1, 500, true},
	} {
		require.Equal(t, want.exit, kind.ExitCode(), kind)
		require.Equal(t, want.status, kind.HTTPStatus(), kind)
		require.Equal(t, want.retryable, kind.Retryable(), kind)
	}
}

func TestErrorsKeepTheirKindAndFields(t *testing.T) {
	t.Parallel()
	holder := map[string]string{"workflow_id": "promote/docs"}
	busy := &lifecycle.Error{Kind: lifecycle.Busy, Message: "held", Fields: holder}
	wrapped := lifecycle.Wrap(fmt.Errorf("claim: %w", busy), "promote %s", "docs")
	require.Equal(t, lifecycle.Busy, lifecycle.KindOf(wrapped))
	require.EqualError(t, wrapped, "promote docs: claim: held")
	var typed *lifecycle.Error
	require.ErrorAs(t, wrapped, &typed)
	require.Equal(t, holder, typed.Fields)

	require.NoError(t, lifecycle.Wrap(nil, "nothing"))
	require.Empty(t, lifecycle.KindOf(nil))
	require.False(t, lifecycle.Is(nil, ""))
	require.Equal(t, lifecycle.Internal, lifecycle.KindOf(io.EOF))
	require.ErrorIs(t, lifecycle.Errorf(lifecycle.Unavailable, "read: %w", io.EOF), io.EOF)
	require.Equal(t, lifecycle.Refused, lifecycle.KindOf(lifecycle.Errorf(lifecycle.Refused, "no: %w", busy)), "the outermost kind decides")
}

func TestOnlyPassPasses(t *testing.T) {
	t.Parallel()
	require.NoError(t, lifecycle.PassOutcome.Err(""))
	for outcome, kind := range map[lifecycle.Outcome]lifecycle.Kind{
		lifecycle.RegressOutcome:      lifecycle.Regress,
		lifecycle.UnderpoweredOutcome: lifecycle.Underpowered,
		lifecycle.ErrorOutcome:        lifecycle.Unavailable,
		"":                            lifecycle.Unavailable,
		"Pass":                        lifecycle.Unavailable,
	} {
		err := outcome.Err("because")
		require.Equal(t, kind, lifecycle.KindOf(err), "outcome %q", outcome)
		require.ErrorContains(t, err, "because")
	}
}

func TestProblemsComeAllAtOnce(t *testing.T) {
	t.Parallel()
	var faults lifecycle.Problems
	require.NoError(t, faults.Err("nothing"))
	faults.Add("a.b", "5", "give %d", 3)
	faults.Add("c", "none", "give one (500 is 5%%)")
	err := faults.Err("service")
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	require.EqualError(t, err, "service has 2 fault(s):\n  a.b: 5; give 3\n  c: none; give one (500 is 5%)")
	require.False(t, errors.Is(err, io.EOF))
}
