package gateway

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Not parallel: it reads the process' memory and sets its environment.
func TestHeapRoomBringsTheHeapToItsSizeAndYieldsToGoSettings(t *testing.T) {
	next := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.NextGC)
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "")
	}
	runtime.GC()
	before := next()
	done := HeapRoom()
	for range 2 { // after every collection
		runtime.GC()
		require.Eventually(t, func() bool { return next() > heapSize*9/10 && next() < heapSize*11/10 }, 10*time.Second, time.Millisecond)
	}
	much := make([]byte, 2*heapSize)
	runtime.GC()
	require.Eventually(t, func() bool { return next() > 2*heapSize && next() < 3*heapSize }, 10*time.Second, time.Millisecond,
		"what lives and a share of it")
	runtime.KeepAlive(much)
	done()
	runtime.GC()
	require.Less(t, next(), 2*before+10<<20)

	t.Setenv("GOGC", "100")
	done = HeapRoom()
	runtime.GC()
	require.Less(t, next(), 2*before+10<<20)
	done()
}

func TestRoomForWhatLives(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ lives, scanned, percent uint64 }{
		"nothing":         {0, 0, 1400},
		"a few MiB":       {8 << 20, 0, 600},
		"and stacks":      {8 << 20, 4 << 20, 400},
		"nearly the size": {50 << 20, 0, heapShare},
		"the size":        {heapSize, 0, heapShare},
		"more":            {heapSize * 3, 0, heapShare},
	} {
		require.EqualValues(t, c.percent, roomFor(c.lives, c.scanned), name)
	}
}
