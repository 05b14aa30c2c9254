package activities_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// jobs runs jobs as processes of this machine, with this test's program as their shim.
func (w *world) jobs(t *testing.T) activities.Jobs {
	t.Helper()
	engine, err := compute.OpenLocal(compute.LocalConfig{Root: t.TempDir(), Slots: 2, Grace: time.Second})
	require.NoError(t, err)
	return activities.Jobs{Shelf: w.Shelf, Engines: map[string]compute.Engine{"local": engine}, Look: 20 * time.Millisecond}
}

func shell(key, script string, inputs map[string]lifecycle.ArtifactRef) steps.RunJobInput {
	return steps.RunJobInput{
		Service: "docs", Key: key, Try: 1, By: by, Labels: map[string]string{"stage": "continued"},
		Spec: lifecycle.JobSpec{
			Name: "train", Engine: "local", Command: []string{"sh", "-c", script}, Inputs: inputs,
			Outputs: map[string]lifecycle.ArtifactKind{"model": lifecycle.ModelArtifact},
		},
	}
}

const writeModel = `mkdir "$REFIT_OUTPUTS/model" && cat "$REFIT_INPUTS/dataset/a.txt" > "$REFIT_OUTPUTS/model/weights"`

func TestAJobsOutputsAreArtifactsWithTheirLineage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	dataset := w.put(t, "docs", lifecycle.DatasetArtifact, nil, map[string]string{"a.txt": "what was learned"})
	base := w.put(t, "docs", lifecycle.ModelArtifact, nil, map[string]string{"weights": "base"})
	in := shell("lineage", writeModel, map[string]lifecycle.ArtifactRef{
		"dataset": {Kind: lifecycle.DatasetArtifact, Digest: dataset},
		"model":   {Kind: lifecycle.ModelArtifact, Digest: base},
	})
	jobs := w.jobs(t)

	first, err := do(t, steps.RunJob, jobs.Run, in)
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobSucceeded, first.Status.Phase, first.Status.Reason)
	model, err := w.Registry.Artifact(t.Context(), first.Outputs["model"].Digest)
	require.NoError(t, err)
	require.Equal(t, lifecycle.ModelArtifact, model.Kind)
	require.Equal(t, []lifecycle.Digest{dataset, base}, model.Parents)
	require.Equal(t, map[string]string{"stage": "continued", "base": string(base), "job": "lineage"}, model.Labels)
	content, err := w.Store.ReadFile(t.Context(), first.Outputs["model"], "weights", 100)
	require.NoError(t, err)
	require.Equal(t, "what was learned", string(content))

	again, err := do(t, steps.RunJob, jobs.Run, in)
	require.NoError(t, err)
	require.Equal(t, first.Outputs, again.Outputs, "a step that runs again finds the try that has ended")
	require.Equal(t, first.Status.Ended, again.Status.Ended, "and runs nothing")
}

func TestHowATryEndedIsAResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	jobs := w.jobs(t)
	for code, phase := range map[int]lifecycle.JobPhase{
		0: lifecycle.JobFailed, // without its output
		3: lifecycle.JobFailed, 64: lifecycle.JobRejected, 75: lifecycle.JobRetry,
	} {
		out, err := do(t, steps.RunJob, jobs.Run, shell(fmt.Sprint("exit-", code), fmt.Sprint("exit ", code), nil))
		require.NoError(t, err)
		require.Equal(t, phase, out.Status.Phase, "exit code %d", code)
		require.Empty(t, out.Outputs)
	}
	unknown := shell("elsewhere", "true", nil)
	unknown.Spec.Engine = "slurm"
	_, err := do(t, steps.RunJob, jobs.Run, unknown)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}

// beats collects the heartbeats of a try.
type beats struct {
	mu  sync.Mutex
	all []lifecycle.Progress
}

func (b *beats) listen(t *try) {
	t.env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var p lifecycle.Progress
		if details.HasValues() && details.Get(&p) == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.all = append(b.all, p)
		}
	})
}

func (b *beats) last() lifecycle.Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) == 0 {
		return lifecycle.Progress{}
	}
	return b.all[len(b.all)-1]
}

// The job waits for a file, so that the test decides when it ends; each start leaves a line.
const waitingJob = `echo start >> "$REFIT_CHECKPOINTS/starts"
echo '{"step":7,"total":9,"loss":1.5}' >> "$REFIT_PROGRESS"
while ! test -e %[1]s/go; do sleep 0.02; done
mkdir "$REFIT_OUTPUTS/model" && cp "$REFIT_CHECKPOINTS/starts" "$REFIT_OUTPUTS/model/starts"`

func TestAWorkerThatStopsLeavesItsJobAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	jobs := w.jobs(t)
	signals := t.TempDir()
	in := shell("goes-on", fmt.Sprintf(waitingJob, signals), nil)

	first := newTry()
	var seen beats
	seen.listen(first)
	engine := &unsteady{Engine: jobs.Engines["local"], progress: make(chan struct{}, 1000)}
	jobs.Engines = map[string]compute.Engine{"local": engine}
	ended := make(chan error, 1)
	go func() {
		_, err := on(first, steps.RunJob, jobs.Run, in)
		ended <- err
	}()
	for range 2 { // the first one has been taken when the second one is asked for
		<-engine.progress
	}
	close(first.stop)
	err := <-ended
	require.True(t, lifecycle.KindOf(err).Retryable(), "the next try takes over: %v", err)
	require.Equal(t, lifecycle.Progress{Step: 7, Total: 9, Loss: 1.5}, seen.last(), "followers see the job's own progress")

	require.NoError(t, os.WriteFile(filepath.Join(signals, "go"), nil, 0o644))
	engine.progress = nil
	out, err := do(t, steps.RunJob, jobs.Run, in)
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobSucceeded, out.Status.Phase, out.Status.Reason)
	starts, err := w.Store.ReadFile(t.Context(), out.Outputs["model"], "starts", 1000)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(starts), "start"), "the same process went on")
}

// unsteady is an engine that cannot be asked for a while, and says when it gave a progress.
type unsteady struct {
	compute.Engine
	progress chan struct{} // nil: nobody wants to know

	mu   sync.Mutex
	fail int
}

func (u *unsteady) Observe(ctx context.Context, h compute.Handle) (lifecycle.JobStatus, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fail > 0 {
		u.fail--
		return lifecycle.JobStatus{}, lifecycle.Errorf(lifecycle.Unavailable, "no way to the engine")
	}
	status, err := u.Engine.Observe(ctx, h)
	if u.progress != nil && status.Progress != nil {
		u.progress <- struct{}{}
	}
	return status, err
}

func TestAnEngineThatCannotBeAskedIsAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	jobs := w.jobs(t)
	jobs.Engines = map[string]compute.Engine{"local": &unsteady{Engine: jobs.Engines["local"], fail: 5}}
	out, err := do(t, steps.RunJob, jobs.Run, shell("unsteady", `mkdir "$REFIT_OUTPUTS/model" && echo x > "$REFIT_OUTPUTS/model/weights"`, nil))
	require.NoError(t, err)
	require.Equal(t, lifecycle.JobSucceeded, out.Status.Phase)
}
