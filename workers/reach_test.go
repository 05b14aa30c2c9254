package workers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestATemporalThatCannotBeReachedIsUnavailable(t *testing.T) {
	t.Parallel()
	nobody, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1"})
	require.NoError(t, err)
	t.Cleanup(nobody.Close)
	for _, queue := range []string{steps.Queue, steps.QueueIO} {
		w, err := New(Config{Client: nobody, Queues: []string{queue}})
		require.NoError(t, err)
		err = w.Run(t.Context(), func() { t.Error("it is ready") })
		require.Equal(t, lifecycle.Unavailable, lifecycle.KindOf(err), "%v", err)
	}
}
