package gateway

import (
	"os"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
	"sync"
)

// A heap may grow to heapSize before garbage is collected, and to what lives and heapShare of it where that is more.
const (
	heapSize  = 56 << 20
	heapShare = 25 // percent

	// Go collects no heap that is smaller than this many bytes times the percentage.
	heapLeast = 4 << 20 / 100
)

// HeapRoom lets a process with little that lives collect garbage seldom, until the function that it gives is called.
// What lives in a gateway is a few megabytes, and Go would collect after each few megabytes more, many times a second.
// After each collection it chooses the percentage anew that brings the heap to its size: a high GOGC of its own would take
// a multiple of what lives also where that is much, as with many streams. Whoever sets GOGC or GOMEMLIMIT has decided
// otherwise, and gets that.
func HeapRoom() (done func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(heapShare)
	var mu sync.Mutex
	over := false
	var collection func()
	collection = func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			afterCollection(collection)
			debug.SetGCPercent(roomFor(collected()))
		}
	}
	afterCollection(collection)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		debug.SetGCPercent(before)
	}
}

// roomFor gives the percentage at which the next collection begins when the heap has its size. Go takes it of what lives
// and of what else it looks through, the stacks above all.
func roomFor(lives, scanned uint64) int {
	if lives >= heapSize {
		return heapShare
	}
	return int(min(heapSize/heapLeast, max(heapShare, (heapSize-lives)*100/max(1, lives+scanned))))
}

// collected gives how many bytes of the heap lived at the last collection, and how many beside the heap it looked through.
func collected() (lives, scanned uint64) {
	samples := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	gometrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64() + samples[2].Value.Uint64()
}

// afterCollection calls a function after the next collection of garbage.
func afterCollection(do func()) {
	type mark [1]*byte // a pointer keeps it from sharing a place with what lives longer
	runtime.AddCleanup(new(mark), func(do func()) { do() }, do)
}
