package gateway_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/gateway"
)

// Not parallel: it reads the process' memory and sets its environment.
func TestHeapRoomIsCountedAndYieldsToGoSettings(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.NextGC)
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "")
	}
	before := heap()
	done := gateway.HeapRoom()
	require.Greater(t, heap()-before, int64(150<<20), "counted, with what may be allocated beside it")
	done()
	before = heap()
	t.Setenv("GOGC", "100")
	done = gateway.HeapRoom()
	require.Less(t, heap()-before, int64(50<<20))
	done()
}
