package activities

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Jobs holds the step that runs GPU jobs.
type Jobs struct {
	Shelf
	Engines map[string]compute.Engine // by name, as services give it in training.engine
	Look    time.Duration             // how often a running job is looked at; default 1 s
	Log     *slog.Logger              // default slog.Default()
}

// Run runs one try of a job to its end and stores its outputs. The try is named by key and number, so a
// step that runs again finds the process that is there already. Only a cancellation by the workflow ends the
// process; a worker that stops leaves it alone.
func (j Jobs) Run(ctx context.Context, in steps.RunJobInput) (steps.RunJobResult, error) {
	var progress report
	ctx, done := long(ctx, progress.details)
	defer done()
	engine, ok := j.Engines[in.Spec.Engine]
	if !ok {
		return steps.RunJobResult{}, lifecycle.Errorf(lifecycle.Invalid, "training.engine: %q is not reachable from this worker", in.Spec.Engine)
	}
	handle, err := j.submit(ctx, engine, in)
	if err != nil {
		return steps.RunJobResult{}, err
	}
	status, err := j.follow(ctx, engine, handle, &progress)
	if err == nil && canceled(ctx) {
		err = stopped(ctx)
	}
	if err != nil {
		return steps.RunJobResult{}, err
	}
	result := steps.RunJobResult{Status: status}
	if status.Phase == lifecycle.JobSucceeded {
		result.Outputs, err = j.outputs(ctx, engine, handle, in)
	}
	return result, err
}

// submit brings the inputs to this machine and starts the try, or finds it.
func (j Jobs) submit(ctx context.Context, engine compute.Engine, in steps.RunJobInput) (compute.Handle, error) {
	inputs := map[string]string{}
	for name, ref := range in.Spec.Inputs {
		dir, err := j.Cache.Dir(ctx, ref)
		if err != nil {
			return compute.Handle{}, lifecycle.Wrap(err, "bring input %s of job %s", name, in.Key)
		}
		inputs[name] = dir
	}
	handle, err := engine.Submit(ctx, compute.Run{Key: in.Key, Try: in.Try, Spec: in.Spec, Inputs: inputs})
	if lifecycle.Is(err, lifecycle.Busy) { // the try before is on its way out
		err = lifecycle.Errorf(lifecycle.Unavailable, "%w", err)
	}
	return handle, lifecycle.Wrap(err, "submit try %d of job %s", in.Try, in.Key)
}

// follow watches a try until it ends. That the engine cannot be asked says nothing about the job.
func (j Jobs) follow(ctx context.Context, engine compute.Engine, handle compute.Handle, progress *report) (lifecycle.JobStatus, error) {
	look := j.Look
	if look <= 0 {
		look = time.Second
	}
	asked := ctx // until a cancellation, after which the end is awaited all the same
	away := false
	for {
		status, err := engine.Observe(asked, handle)
		if err != nil && asked.Err() == nil && !away {
			orDefault(j.Log).WarnContext(ctx, "a job cannot be observed; trying again", "job", handle.Key, "error", err)
		}
		away = err != nil
		if err == nil {
			progress.set(shown(status))
			if status.Phase.Ended() {
				return status, nil
			}
		}
		err = pause(asked, look)
		switch {
		case err == nil:
		case !canceled(ctx):
			return lifecycle.JobStatus{}, err
		default:
			asked = context.WithoutCancel(ctx)
			if err := engine.Cancel(asked, handle); err != nil {
				return lifecycle.JobStatus{}, errors.Join(stopped(ctx), err)
			}
		}
	}
}

// shown is a job's progress for followers; before the first report it says in which phase the job is.
func shown(status lifecycle.JobStatus) lifecycle.Progress {
	if status.Progress == nil {
		return lifecycle.Progress{Message: string(status.Phase)}
	}
	return *status.Progress
}

// outputs stores what a try made, with what it was made from.
func (j Jobs) outputs(ctx context.Context, engine compute.Engine, handle compute.Handle, in steps.RunJobInput) (map[string]lifecycle.ArtifactRef, error) {
	dirs, err := engine.Outputs(ctx, handle)
	if err != nil {
		return nil, lifecycle.Wrap(err, "find the outputs of job %s", in.Key)
	}
	labels := map[string]string{"job": in.Key}
	maps.Copy(labels, in.Labels)
	var parents []lifecycle.Digest
	for _, name := range slices.Sorted(maps.Keys(in.Spec.Inputs)) {
		ref := in.Spec.Inputs[name]
		parents = append(parents, ref.Digest)
		if ref.Kind == lifecycle.ModelArtifact {
			labels["base"] = string(ref.Digest)
		}
	}
	stored := map[string]lifecycle.ArtifactRef{}
	for name, kind := range in.Spec.Outputs {
		stored[name], err = j.keepDir(ctx, lifecycle.Artifact{
			ArtifactRef: lifecycle.ArtifactRef{Kind: kind}, Service: in.Service, MadeBy: in.By, Parents: parents, Labels: labels,
		}, dirs[name])
		if err != nil {
			return nil, lifecycle.Wrap(err, "keep output %s of job %s", name, in.Key)
		}
	}
	return stored, nil
}
