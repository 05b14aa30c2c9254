package steps

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Queues. People type the first one in the Temporal UI.
const (
	Queue     = "refit"      // workflows
	QueueIO   = "refit-io"   // quick steps: registry, routes, model servers
	QueueData = "refit-data" // long steps: corpora, indexes, evaluations
)

// JobsQueue is polled where an engine is reachable.
func JobsQueue(engine string) string { return "refit-jobs-" + engine }

// Class is a set of activity options. Retries are unlimited, at intervals of at most 30 s, and
// bounded by the schedule-to-close time; what retrying cannot mend is a non-retryable error. After a
// cancellation the attempt that is running is waited for: who gives something back must know whether
// it was taken.
type Class struct {
	queue     string
	attempt   time.Duration // start to close
	bound     time.Duration // schedule to close
	heartbeat time.Duration // 0: the step does not heartbeat
}

// The classes.
var (
	quick    = Class{queue: QueueIO, attempt: 30 * time.Second, bound: 24 * time.Hour}
	transfer = Class{queue: QueueData, attempt: 4 * time.Hour, bound: 24 * time.Hour, heartbeat: time.Minute}
	batch    = Class{queue: QueueData, attempt: 4 * time.Hour, bound: 24 * time.Hour, heartbeat: 20 * time.Second}
	hold     = Class{queue: QueueIO, attempt: 30 * 24 * time.Hour, bound: 60 * 24 * time.Hour, heartbeat: 15 * time.Second}
	job      = Class{queue: "refit-jobs-local", attempt: 30 * 24 * time.Hour, bound: 60 * 24 * time.Hour, heartbeat: 15 * time.Second}
)

func (c Class) on(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              c.queue,
		StartToCloseTimeout:    c.attempt,
		ScheduleToCloseTimeout: c.bound,
		HeartbeatTimeout:       c.heartbeat,
		WaitForCancellation:    true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    30 * time.Second,
		},
	})
}
