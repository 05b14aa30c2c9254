// Package workers says which worker runs what: task queues, limits, registration, versions and draining.
//
// Workflows run on one queue, pinned to a worker deployment version: a run stays on the code that began
// it, and an old worker stays until its runs are drained. Activities run on queues of their own and are
// not versioned; job queues are polled only where their engine is reachable. A clean stop lets steps
// finish for a while; what does not finish in time is tried again by another worker, and a running job is
// never touched by it.
//
// Only cmd/refit imports it. It joins workflows and activities, which do not know each other.
package workers
