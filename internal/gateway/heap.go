package gateway

import (
	"os"
	"runtime"
	"runtime/debug"
)

// heapRoom is how many bytes may be allocated between two collections of garbage, beside heapShare of what lives.
const (
	heapRoom  = 64 << 20
	heapShare = 40 // percent
)

// HeapRoom lets a process with little that lives collect garbage seldom, until the function that it gives is called.
// What lives in a gateway is a few megabytes, and Go would collect after each few megabytes more, many times a second.
// It is done by memory that counts as living and is never touched, so it takes none of the machine's: unlike a high
// GOGC it costs little where much lives, as with many streams. Whoever sets GOGC or GOMEMLIMIT has decided otherwise, and
// gets that.
func HeapRoom() (done func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(heapShare)
	room := make([]byte, heapRoom*100/heapShare)
	return func() {
		runtime.KeepAlive(room)
		debug.SetGCPercent(before)
	}
}
