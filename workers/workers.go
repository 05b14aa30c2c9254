package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
	"github.com/refitml/refit/workflows"
)

// Config sets up the workers of one process.
type Config struct {
	Client     client.Client
	Activities activities.Set
	Queues     []string      // which of AllQueues to poll; default: all
	Engines    []string      // job engines that are reachable from here
	JobSlots   int           // jobs watched at once per engine; default 4
	BuildID    string        // version of the workflows' code; default "devel"
	Drain      time.Duration // how long a stop waits for steps; default 10 s
	Log        *slog.Logger
}

// deployment is the name under which versions of the workflow worker stand.
const deployment = "refit"

// Workers poll until they are stopped.
type Workers struct {
	cfg     Config
	running []worker.Worker
}

// New registers everything and starts nothing.
func New(cfg Config) (*Workers, error) {
	if cfg.Drain == 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.JobSlots == 0 {
		cfg.JobSlots = 4
	}
	if cfg.BuildID == "" {
		cfg.BuildID = "devel"
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := cfg.checkQueues(); err != nil {
		return nil, err
	}
	w := &Workers{cfg: cfg}
	w.addWorkflows()
	w.add(steps.QueueIO, 64, cfg.Activities.BindIO)
	w.add(steps.QueueData, 2, cfg.Activities.BindData)
	for _, engine := range cfg.Engines {
		w.add(steps.JobsQueue(engine), cfg.JobSlots, cfg.Activities.BindJobs)
	}
	return w, nil
}

func (c Config) checkQueues() error {
	known := []string{steps.Queue, steps.QueueIO, steps.QueueData}
	for _, engine := range c.Engines {
		known = append(known, steps.JobsQueue(engine))
	}
	for _, q := range c.Queues {
		if !slices.Contains(known, q) {
			return lifecycle.Errorf(lifecycle.Invalid, "worker.queues: %q; give some of %v", q, known)
		}
	}
	return nil
}

func (w *Workers) wants(queue string) bool {
	return len(w.cfg.Queues) == 0 || slices.Contains(w.cfg.Queues, queue)
}

func (w *Workers) options() worker.Options {
	return worker.Options{
		WorkerStopTimeout: w.cfg.Drain,
		Interceptors:      []interceptor.WorkerInterceptor{&payloadLimit{}},
		// The SDK holds heartbeats back for most of their time-out: a person's abort would wait for the next one,
		// and the next try would begin with what was true then. Not shorter: it is also how long a heartbeat is
		// tried before the step counts as cut off.
		MaxHeartbeatThrottleInterval: 4 * time.Second,
	}
}

func (w *Workers) addWorkflows() {
	if !w.wants(steps.Queue) {
		return
	}
	options := w.options()
	options.DisableRegistrationAliasing = true
	options.DeploymentOptions = worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: deployment, BuildID: w.cfg.BuildID},
		DefaultVersioningBehavior: workflow.VersioningBehaviorPinned,
	}
	added := worker.New(w.cfg.Client, steps.Queue, options)
	Register(added)
	w.running = append(w.running, added)
}

// Register puts every workflow under the name that people choose in the Temporal UI.
func Register(registry worker.WorkflowRegistry) {
	for name, do := range map[string]any{
		steps.ContinuePretraining: workflows.ContinuePretraining,
		steps.RebuildIndex:        workflows.RebuildIndex,
		steps.EvaluateRelease:     workflows.EvaluateRelease,
		steps.PromoteRelease:      workflows.PromoteRelease,
		steps.TuneFromFeedback:    workflows.TuneFromFeedback,
		steps.ArchiveInteractions: workflows.ArchiveInteractions,
		steps.BuildDataset:        workflows.BuildDataset,
	} {
		registry.RegisterWorkflowWithOptions(do, workflow.RegisterOptions{Name: name})
	}
}

func (w *Workers) add(queue string, slots int, bind func(worker.ActivityRegistry)) {
	if !w.wants(queue) {
		return
	}
	options := w.options()
	options.DisableWorkflowWorker = true
	options.MaxConcurrentActivityExecutionSize = slots
	added := worker.New(w.cfg.Client, queue, options)
	bind(added)
	w.running = append(w.running, added)
}

// Run polls until the context ends, then drains. ready is called when all queues are polled and the
// workflows' version is the current one. A Temporal that cannot be reached before is Unavailable: then nothing polls, and
// other Workers may try again.
func (w *Workers) Run(ctx context.Context, ready func()) error {
	for i, one := range w.running {
		if err := one.Start(); err != nil {
			w.stop(i)
			return lifecycle.Errorf(lifecycle.Unavailable, "start a worker: %w", err)
		}
	}
	defer w.stop(len(w.running))
	if w.wants(steps.Queue) {
		if err := w.makeCurrent(ctx); err != nil {
			return err
		}
	}
	ready()
	<-ctx.Done()
	w.cfg.Log.Info("worker drains", "at_most", w.cfg.Drain)
	return nil
}

func (w *Workers) stop(started int) {
	for _, one := range w.running[:started] {
		one.Stop()
	}
}

// makeCurrent lets new runs begin on this version. The server knows a version only once a worker has
// polled, so it is tried until it does.
func (w *Workers) makeCurrent(ctx context.Context) error {
	handle := w.cfg.Client.WorkerDeploymentClient().GetHandle(deployment)
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	deadline, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := handle.SetCurrentVersion(deadline, client.WorkerDeploymentSetCurrentVersionOptions{
			BuildID: w.cfg.BuildID, IgnoreMissingTaskQueues: true,
		})
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-deadline.Done():
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("make version %s current: %w", w.cfg.BuildID, unreachable(err))
		}
	}
}

// unreachable gives what says that Temporal cannot be reached the kind Unavailable.
func unreachable(err error) error {
	var gone *serviceerror.Unavailable
	if errors.As(err, &gone) || errors.Is(err, context.DeadlineExceeded) {
		return lifecycle.Errorf(lifecycle.Unavailable, "%w", err)
	}
	return err
}
