package steps

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
)

// crossed gives err as it arrives on the other side of a workflow boundary.
func crossed(err error) error {
	failures := temporal.GetDefaultFailureConverter()
	return failures.FailureToError(failures.ErrorToFailure(err))
}

func TestErrorsKeepTheirKindAcrossTheBoundary(t *testing.T) {
	t.Parallel()
	kinds := []lifecycle.Kind{
		lifecycle.Invalid, lifecycle.NotFound, lifecycle.Busy, lifecycle.Fenced, lifecycle.Refused, lifecycle.Conflict,
		lifecycle.Regress, lifecycle.Underpowered, lifecycle.Corrupt, lifecycle.Unavailable, lifecycle.Internal,
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			sent := fmt.Errorf("take the claim: %w", &lifecycle.Error{
				Kind: kind, Message: "held", Fields: map[string]string{"workflow_id": "first"},
			})
			got := crossed(ToTemporal(sent))
			require.Equal(t, kind, KindOf(got))
			var app *temporal.ApplicationError
			require.ErrorAs(t, got, &app)
			require.Equal(t, !kind.Retryable(), app.NonRetryable())
			var typed *lifecycle.Error
			require.ErrorAs(t, FromTemporal(got), &typed)
			require.Equal(t, "first", typed.Fields["workflow_id"])
			require.Equal(t, "take the claim: held", typed.Error())
		})
	}
}

func TestErrorsThatTemporalMadePassUnchanged(t *testing.T) {
	t.Parallel()
	require.NoError(t, ToTemporal(nil))
	require.NoError(t, FromTemporal(nil))
	require.True(t, temporal.IsCanceledError(crossed(ToTemporal(temporal.NewCanceledError()))))
	plain := errors.New("a connection was closed")
	require.Equal(t, lifecycle.Internal, KindOf(crossed(ToTemporal(plain))))
	busy := ToTemporal(lifecycle.Errorf(lifecycle.Busy, "held"))
	require.Equal(t, busy, ToTemporal(busy), "an error that crosses twice keeps its kind")
}

func TestDecodeNamesTheFieldAndTheFieldsThereAre(t *testing.T) {
	t.Parallel()
	payload, err := converter.GetDefaultDataConverter().ToPayload(map[string]any{"service": "docs", "relaese": "x"})
	require.NoError(t, err)
	_, err = Decode[PromotionInput](converter.NewRawValue(payload))
	require.Equal(t, lifecycle.Invalid, KindOf(err))
	require.ErrorContains(t, err, `unknown field "relaese"; fields: service, release, approval, reason, wait, accept_late, by`)

	_, err = Decode[PromotionInput](converter.NewRawValue(nil))
	require.ErrorContains(t, err, `give {"service": "NAME"}`)

	payload, err = converter.GetDefaultDataConverter().ToPayload(map[string]any{"service": "docs"})
	require.NoError(t, err)
	in, err := Decode[PromotionInput](converter.NewRawValue(payload))
	require.NoError(t, err)
	require.Equal(t, PromotionInput{Service: "docs"}, in)
}

func TestSharedRunsAreNamedByTheirQuestion(t *testing.T) {
	t.Parallel()
	a, b, suite := lifecycle.DigestOf([]byte("a")), lifecycle.DigestOf([]byte("b")), lifecycle.DigestOf([]byte("s"))
	id := EvaluationWorkflowID("docs", a, b, suite)
	require.Equal(t, id, EvaluationWorkflowID("docs", a, b, suite))
	require.Equal(t, "evaluate/docs/ca978112ca1b/3e23e8160039/043a718774c5", id)
	require.Equal(t, "evaluate/docs/ca978112ca1b/none/043a718774c5", EvaluationWorkflowID("docs", a, "", suite))
	require.Equal(t, "dataset/docs/base/ca978112ca1b", DatasetWorkflowID("docs", "base", a))
}

func TestClassesBoundTheirRetries(t *testing.T) {
	t.Parallel()
	for name, class := range map[string]Class{"quick": quick, "transfer": transfer, "hold": hold, "job": job} {
		require.NotEmpty(t, class.queue, name)
		require.Positive(t, class.attempt, name)
		require.Greater(t, class.bound, class.attempt, "%s: a lost attempt must leave time for another", name)
	}
	require.LessOrEqual(t, hold.heartbeat, 15*time.Second, "a lost worker must be noticed within a lease")
	moved := RunJob.OnQueue(JobsQueue("slurm"))
	require.Equal(t, "refit-jobs-slurm", moved.Class.queue)
	require.Equal(t, "refit-jobs-local", RunJob.Class.queue, "the step itself stays as it is")
	require.False(t, reflect.DeepEqual(moved, RunJob))
}
