package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// maxTries bounds how often a job may ask to be tried again. A run that is lost with its machine
// counts as a try as well: its checkpoints are there. maxFailures bounds how often it may fail.
const (
	maxTries    = 20
	maxFailures = 3
)

// runJob runs a job to its end, try after try. The key is made here, so that a step repeated after a
// crash of the worker finds the run that is already going on.
func (l *loop) runJob(ctx workflow.Context, ordinal string, spec lifecycle.JobSpec, labels map[string]string) (map[string]lifecycle.ArtifactRef, error) {
	info := workflow.GetInfo(ctx)
	in := steps.RunJobInput{
		Service: l.service.Name,
		Key: lifecycle.DigestOf([]byte(fmt.Sprintf("%s/%s/%s",
			l.service.Name, info.FirstRunID, ordinal))).Short() + "-" + spec.Name,
		Spec: spec, Labels: labels, By: l.by,
	}
	run := steps.RunJob.OnQueue(steps.JobsQueue(spec.Engine))
	failures := 0
	for in.Try = 1; in.Try <= maxTries; in.Try++ {
		l.note(ctx, spec.Name, fmt.Sprintf("job %s, try %d, on engine %s", in.Key, in.Try, spec.Engine))
		result, err := run.Run(ctx, in)
		if err == nil {
			err = ctx.Err() // a job that ends because the run was cancelled says so in its own way
		}
		if err != nil {
			return nil, err
		}
		status := result.Status
		if status.Phase == lifecycle.JobSucceeded {
			return result.Outputs, nil
		}
		l.note(ctx, spec.Name, fmt.Sprintf("try %d ended as %s: %s", in.Try, status.Phase, status.Reason))
		if status.Phase == lifecycle.JobFailed {
			failures++
		}
		if err := tryAgain(in.Key, status, failures); err != nil {
			return nil, err
		}
		if err := workflow.Sleep(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	return nil, steps.ToTemporal(lifecycle.Errorf(lifecycle.Refused, "job %s did not come to an end in %d tries", in.Key, maxTries))
}

// tryAgain refuses another try where it cannot help.
func tryAgain(key string, status lifecycle.JobStatus, failures int) error {
	kind := lifecycle.Refused
	switch status.Phase {
	case lifecycle.JobRetry, lifecycle.JobLost:
		return nil
	case lifecycle.JobFailed:
		if failures < maxFailures {
			return nil
		}
		return steps.ToTemporal(lifecycle.Errorf(kind, "job %s failed %d times, the last time with exit code %d: %s",
			key, failures, status.ExitCode, status.Reason))
	case lifecycle.JobRejected:
		kind = lifecycle.Invalid
	}
	return steps.ToTemporal(lifecycle.Errorf(kind, "job %s ended as %q with exit code %d: %s", key, status.Phase, status.ExitCode, status.Reason))
}
