package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// maxTries bounds how often a job may ask to be tried again. A run that is lost with its machine
// counts as a try as well: its checkpoints are there.
const maxTries = 20

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
	for in.Try = 1; in.Try <= maxTries; in.Try++ {
		l.note(ctx, spec.Name, fmt.Sprintf("job %s, try %d, on engine %s", in.Key, in.Try, spec.Engine))
		result, err := run.Run(ctx, in)
		if err != nil {
			return nil, err
		}
		switch status := result.Status; status.Phase {
		case lifecycle.JobSucceeded:
			return result.Outputs, nil
		case lifecycle.JobRetry, lifecycle.JobLost, lifecycle.JobFailed:
			l.note(ctx, spec.Name, fmt.Sprintf("try %d ended as %s: %s", in.Try, status.Phase, status.Reason))
			if status.Phase == lifecycle.JobFailed && in.Try >= 3 {
				return nil, steps.ToTemporal(lifecycle.Errorf(lifecycle.Refused, "job %s failed %d times, the last time with exit code %d: %s", in.Key, in.Try, status.ExitCode, status.Reason))
			}
			if err := workflow.Sleep(ctx, time.Second); err != nil {
				return nil, err
			}
		default:
			return nil, steps.ToTemporal(lifecycle.Errorf(lifecycle.Invalid, "job %s ended as %s with exit code %d: %s", in.Key, status.Phase, status.ExitCode, status.Reason))
		}
	}
	return nil, steps.ToTemporal(lifecycle.Errorf(lifecycle.Refused, "job %s asked to be tried again more than %d times", in.Key, maxTries))
}
