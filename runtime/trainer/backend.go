package trainer

import (
	"fmt"
	"runtime"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
)

// newBackends returns one single-threaded Go backend per core, at most n. The Go backend's own worker pool is left
// off: in v0.28.0 it can wait for ever when two operations want workers at once, and slices of a batch use the cores
// as well.
func newBackends(n int) ([]compute.Backend, error) {
	var backends []compute.Backend
	for range min(n, runtime.GOMAXPROCS(0)) {
		backend, err := gobackend.New("parallelism=0,ops_sequential")
		if err != nil {
			return nil, fmt.Errorf("start the Go backend: %w", err)
		}
		backends = append(backends, backend)
	}
	return backends, nil
}
