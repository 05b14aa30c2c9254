package gateway

import (
	"os"
	"runtime"
)

// heapRoom is how many bytes may be allocated between two collections of garbage, beside as many as live.
const heapRoom = 64 << 20

// HeapRoom lets a process with little that lives collect garbage seldom, until the function that it gives is called.
// What lives in a gateway is a few megabytes, and Go would collect after each few megabytes more, many times a second.
// It is done by memory that counts as living and is never touched, so it takes none of the machine's: unlike a high
// GOGC it costs nothing where much lives. Whoever sets GOGC or GOMEMLIMIT has decided otherwise, and gets that.
func HeapRoom() (done func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	room := make([]byte, heapRoom)
	return func() { runtime.KeepAlive(room) }
}
